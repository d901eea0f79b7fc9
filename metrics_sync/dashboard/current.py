"""The state of the selected merges: how many have which status, and which need attention."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count

from metrics_sync.dashboard.measures import BY_BOT
from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import PullRequest
from metrics_sync.models.states import SyncStatus

#: Merged, and waiting for a fetch or being fetched.
UNDER_WAY = (SyncStatus.PENDING, SyncStatus.QUEUED, SyncStatus.RUNNING)
IN_TROUBLE = (SyncStatus.FAILED, SyncStatus.PARTIAL)
#: How many rows a list shows.
ROWS = 10


@dataclass(frozen=True, slots=True)
class CurrentState:
    """The merges by sync status, the latest of them, and the latest that failed or are partial.

    `refetched` counts those under way that were complete before: they still have all their data.
    `by_bots` counts the merges by bots.
    """

    statuses: Mapping[str, int]
    refetched: int
    by_bots: int
    latest: list[PullRequest]
    incomplete: list[PullRequest]

    @property
    def merged(self) -> int:
        return sum(self.statuses.values())

    @property
    def complete(self) -> int:
        return self.statuses.get(SyncStatus.COMPLETE, 0) + self.refetched

    @property
    def waiting(self) -> int:
        return sum(self.statuses.get(status, 0) for status in UNDER_WAY) - self.refetched

    @property
    def in_trouble(self) -> int:
        return sum(self.statuses.get(status, 0) for status in IN_TROUBLE)


def read_current_state(selection: Selection) -> CurrentState:
    """Read the current state of a selection with three queries."""
    merges = selection.merges
    grouped = merges.order_by().values_list("sync_status")
    rows = list(
        grouped.annotate(
            merged=Count("pk"),
            completed=Count("completed_at"),
            by_bots=Count("pk", filter=BY_BOT),
        )
    )
    return CurrentState(
        statuses={status: count for status, count, *_ in rows},
        refetched=sum(completed for status, _, completed, _ in rows if status in UNDER_WAY),
        by_bots=sum(by_bots for *_, by_bots in rows),
        latest=list(merges[:ROWS]),
        incomplete=list(merges.filter(sync_status__in=IN_TROUBLE)[:ROWS]),
    )
