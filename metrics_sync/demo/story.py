"""What happens in the demo: merges, and the accidents that other tools lose data by."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

from django.utils import timezone

from metrics_sync.demo.stage import Stage
from metrics_sync.models import PullRequest
from metrics_sync.models.pull_request import SyncStatus
from metrics_sync.sandbox import Recording, build_pull_request_event, deliver
from metrics_sync.sandbox.world import DEFAULT_TOKEN

TEAM = "demo"


@dataclass(slots=True)
class Merge:
    """One pull request of the demo."""

    recording: Recording
    accident: str = ""
    told_at: datetime | None = None

    @property
    def name(self) -> str:
        return f"{self.recording.repo}#{self.recording.number}"

    @property
    def row(self) -> PullRequest | None:
        rows = PullRequest.objects.filter(github_repo=self.recording.repo)
        return rows.filter(github_pr_number=self.recording.number).first()

    def has_status(self, *statuses: SyncStatus) -> bool:
        row = self.row
        return row is not None and row.sync_status in statuses


@dataclass(slots=True)
class Hooks:
    """Where each repository's deliveries go, as `connect` printed it."""

    stage: Stage
    endpoints: dict[str, tuple[str, str]] = field(default_factory=dict)

    def connect(self, full_name: str) -> None:
        printed = self.stage.manage(
            "connect", full_name, "--team", TEAM, "--token-stdin", "--json",
            "--base-url", self.stage.web_url, text=DEFAULT_TOKEN,
        )  # fmt: skip
        made = json.loads(printed)
        self.endpoints[full_name] = (made["webhook_url"], made["webhook_secret"])

    def tell(self, merge: Merge, *, times: int = 1) -> None:
        """Post the webhook of a merge, as often as said, with one and the same GUID."""
        url, secret = self.endpoints[merge.recording.repo]
        payload = build_pull_request_event(merge.recording, "closed")
        guid = str(uuid4())
        merge.told_at = timezone.now()
        for _ in range(times):
            deliver(url, event="pull_request", payload=payload, secret=secret, guid=guid)
