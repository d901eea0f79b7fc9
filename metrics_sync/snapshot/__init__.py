"""What GitHub says of a pull request, and what is proven of it, as frozen values; pure."""

from metrics_sync.snapshot.items import (
    COUNTERS,
    KEYS,
    OPTIONAL,
    SUPPLEMENTARY,
    Account,
    FileItem,
    Item,
    Json,
    PullRequestItem,
    RateLimit,
    RepositoryItem,
    ReviewItem,
    Section,
    limit_reserve,
)
from metrics_sync.snapshot.reading import (
    describe_unknown_times,
    read_check_run,
    read_items,
    read_review,
)
from metrics_sync.snapshot.reading_pull_requests import read_pull_request, read_repository
from metrics_sync.snapshot.receipt import Known, Receipt
from metrics_sync.snapshot.requests import (
    ASKED,
    DISMISSED_REVIEW,
    PUSHED,
    READY,
    join_requests,
    keep_newest,
    name_event,
    read_review_event,
)
from metrics_sync.snapshot.results import (
    AGREED,
    ALL_RUNS,
    CAPPED,
    COUNTER,
    DISAGREEING,
    ITSELF,
    OUTDATED,
    TOKEN,
    TOTAL,
    UNAVAILABLE,
    VERIFIED,
    SectionResult,
    Snapshot,
    Validators,
)
from metrics_sync.snapshot.values import BOT_ADDRESS, UNREADABLE, clean_json, read_text, read_time
from metrics_sync.snapshot.verifying import CAPS, SectionReceipt, verify
