"""What changes while somebody looks: where the merges are, and which are in trouble."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from django.db.models import Count

from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import PullRequest
from metrics_sync.models.sync_status import SyncStatus

#: Merged, and on its way to be complete.
UNDER_WAY = (SyncStatus.PENDING, SyncStatus.QUEUED, SyncStatus.RUNNING)
IN_TROUBLE = (SyncStatus.FAILED, SyncStatus.PARTIAL)
#: How many rows a list shows.
ROWS = 10


@dataclass(frozen=True, slots=True)
class News:
    """The merges by sync status, the latest of them, and the latest that failed or are partial."""

    statuses: Mapping[str, int]
    latest: list[PullRequest]
    incomplete: list[PullRequest]

    @property
    def merged(self) -> int:
        return sum(self.statuses.values())

    @property
    def complete(self) -> int:
        return self.statuses.get(SyncStatus.COMPLETE, 0)

    @property
    def waiting(self) -> int:
        return sum(self.statuses.get(status, 0) for status in UNDER_WAY)

    @property
    def in_trouble(self) -> int:
        return sum(self.statuses.get(status, 0) for status in IN_TROUBLE)

    @property
    def fingerprint(self) -> str:
        """A short text that is another one as soon as there is something new to see."""
        rows = [
            (row.pk, row.sync_status, row.sync_error, row.completed_at)
            for row in (*self.latest, *self.incomplete)
        ]
        return sha256(repr((sorted(self.statuses.items()), rows)).encode()).hexdigest()[:16]


def read_news(selection: Selection) -> News:
    """Read the news of a selection, with three queries."""
    merges = selection.merges
    statuses = merges.order_by().values_list("sync_status").annotate(Count("pk"))
    return News(
        statuses=dict(statuses),
        latest=list(merges[:ROWS]),
        incomplete=list(merges.filter(sync_status__in=IN_TROUBLE)[:ROWS]),
    )
