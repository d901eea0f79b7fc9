"""When a pull request was ready for review and when it was a draft; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from metrics_sync.metrics.history import Event, History
from metrics_sync.metrics.hours import ZERO

READY, DRAFT = "ready_for_review", "convert_to_draft"
FAR = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Phases:
    """The times in which a pull request was ready, from its opening to its merge.

    Each begins with its first second and ends before its last; `was_ready` is how it was in the
    very second of the merge.
    """

    created_at: datetime
    ended_at: datetime
    ready: Sequence[tuple[datetime, datetime]]
    was_ready: bool

    def is_ready(self, moment: datetime) -> bool:
        """Whether it was ready at that moment; earlier moments count as that of the opening."""
        moment = max(moment, self.created_at)
        if moment == self.ended_at:
            return self.was_ready
        return any(start <= moment < end for start, end in self.ready)

    def measure_ready(self, until: datetime) -> timedelta:
        """Return for how long it had been ready by that moment."""
        return sum((max(min(end, until) - start, ZERO) for start, end in self.ready), ZERO)

    def measure_draft(self) -> timedelta:
        return self.ended_at - self.created_at - self.measure_ready(self.ended_at)


def list_phases(history: History) -> Phases | None:
    """Return the phases; None without the timeline, or the time of the opening.

    A pull request that first changed to ready was opened as a draft; any other was ready at first.
    Of two changes in one second, the one to ready counts as the later.
    """
    if history.events is None or history.created_at is None:
        return None
    created_at = history.created_at
    ended_at = max(history.merged_at or FAR, created_at)
    changes = _list_changes(history.events)
    ready_since = None if changes and changes[0].event == READY else created_at
    ready = []
    for change in changes:
        at = min(max(change.created_at, created_at), ended_at)
        if change.event == READY and ready_since is None:
            ready_since = at
        elif change.event == DRAFT and ready_since is not None:
            ready.append((ready_since, at))
            ready_since = None
    if ready_since is not None:
        ready.append((ready_since, ended_at))
    return Phases(created_at, ended_at, ready, was_ready=ready_since is not None)


def find_ready_at(history: History) -> datetime | None:
    """Say when the pull request was ready for the first time; None without the timeline."""
    if history.events is None:
        return None
    changes = _list_changes(history.events)
    if changes and changes[0].event == READY:
        return changes[0].created_at
    return history.created_at


def _list_changes(events: Sequence[Event]) -> list[Event]:
    changes = [event for event in events if event.event in {READY, DRAFT}]
    return sorted(changes, key=lambda change: (change.created_at, change.event))
