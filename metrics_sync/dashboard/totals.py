"""The figures of a whole period: shares complete in time, times to complete, and metrics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import (
    Aggregate,
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    Q,
    QuerySet,
)

from metrics_sync.dashboard.measures import (
    METRICS,
    UNREVIEWED,
    Spread,
    read_spread,
    read_spreads,
    spread,
    spread_metrics,
)
from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import PullRequest
from metrics_sync.models.states import SyncStatus

#: What the service promises, for over 99 % of all merges.
MINUTE, FIVE_MINUTES = PROMISED = timedelta(minutes=1), timedelta(minutes=5)
#: Upper ends of the classes that times to complete are counted in; what takes longer has its own.
CLASSES = (timedelta(seconds=5), timedelta(seconds=15), MINUTE, FIVE_MINUTES, timedelta(hours=1))

TOOK = ExpressionWrapper(F("completed_at") - F("merged_at"), output_field=DurationField())
TRACKED = ~Q(sync_status=SyncStatus.UNTRACKED)


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of the merges of a period; None is unknown.

    The shares (0 to 1) are of the merges that had the time: those that took it, and those that
    are older and still not complete. Untracked pull requests are excluded. Times run from the merge
    to the first time that all was verified. `classes` counts these times, in the order of CLASSES;
    `not_complete` counts the merges that have no such time yet. Merges from before their repository
    was connected, for which no webhook came, are excluded from shares, times and counts.
    Figures of reviews are of `merged` pull requests, without those by bots unless the selection
    has them; rounds and waits are of those that were reviewed, and `share_without_review` is of
    those that were not.
    """

    share_within_minute: float | None
    share_within_five_minutes: float | None
    #: How many took longer than each of PROMISED, or still do.
    late: Mapping[timedelta, int]
    time_to_complete: Spread
    classes: list[int]
    not_complete: int
    metrics: Mapping[str, Spread]
    merged: int
    without_review: int
    #: Of how many it is known whether they were reviewed.
    review_is_known: int
    share_without_review: float | None


def read_totals(selection: Selection, metrics: Iterable[str] = METRICS) -> tuple[Totals, Totals]:
    """Read the figures of a period, and of the one before it, with two queries."""
    both, metrics = selection.with_before, list(metrics)
    reviews = _read_both(
        selection,
        both.reviewable,
        {
            **spread_metrics(metrics),
            "merged": Count("pk"),
            "unreviewed": Count("pk", filter=UNREVIEWED),
            "known": Count("merged_without_review"),
        },
    )
    times = _read_both(
        selection,
        exclude_history(both.merges),
        {
            **_count_late(selection.now),
            **_count_within(),
            **spread("took", TOOK, F("completed_at")),
        },
    )
    now, before = (_build(metrics, *values) for values in zip(reviews, times, strict=True))
    return now, before


def _read_both(
    selection: Selection, rows: QuerySet[PullRequest], aggregates: Mapping[str, Aggregate]
) -> list[Mapping[str, Any]]:
    """Return the aggregates of the merges in the period, and of those before it."""
    grouped = rows.order_by().values(is_now=selection.tell_period()).annotate(**aggregates)
    found = {row["is_now"]: row for row in grouped}
    of_nothing = {name: one.empty_result_set_value for name, one in aggregates.items()}
    return [found.get(is_now, of_nothing) for is_now in (True, False)]


def _build(metrics: Iterable[str], reviews: Mapping[str, Any], times: Mapping[str, Any]) -> Totals:
    within = {limit: times[_name_within(limit)] for limit in CLASSES}
    late = {limit: times[_name_late(limit)] for limit in PROMISED}
    shares = {limit: divide(within[limit], within[limit] + late[limit]) for limit in PROMISED}
    took = read_spread("took", times)
    # What took at most five seconds took at most fifteen, too.
    ends = [0, *within.values(), took.count]
    return Totals(
        share_within_minute=shares[MINUTE],
        share_within_five_minutes=shares[FIVE_MINUTES],
        late=late,
        time_to_complete=took,
        classes=[upper - lower for lower, upper in pairwise(ends)],
        not_complete=times["not_complete"],
        metrics=read_spreads(metrics, reviews),
        merged=reviews["merged"],
        without_review=reviews["unreviewed"],
        review_is_known=reviews["known"],
        share_without_review=divide(reviews["unreviewed"], reviews["known"]),
    )


def exclude_history(rows: QuerySet[PullRequest]) -> QuerySet[PullRequest]:
    """Leave out merges from before their repository was connected."""
    return rows.exclude(repository__connected_at__gt=F("merged_at"))


def describe_classes() -> list[Q]:
    """Return the condition for each class of times to complete, and last for none of them yet."""
    ends = [F("merged_at") + end for end in CLASSES]
    return [
        Q(completed_at__lte=ends[0]),
        *(Q(completed_at__gt=start, completed_at__lte=end) for start, end in pairwise(ends)),
        Q(completed_at__gt=ends[-1]),
        TRACKED & Q(completed_at=None),
    ]


def divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _count_late(now: datetime) -> dict[str, Count]:
    """Count the merges that had the time, and were not complete when it ended."""
    return {_name_late(limit): Count("pk", filter=describe_late(limit, now)) for limit in PROMISED}


def _name_late(limit: timedelta) -> str:
    return f"late_{int(limit.total_seconds())}"


def describe_late(limit: timedelta, now: datetime) -> Q:
    """Return the condition for merges that took longer than a limit, or still do."""
    missed = Q(completed_at=None) | Q(completed_at__gt=F("merged_at") + limit)
    return TRACKED & Q(merged_at__lte=now - limit) & missed


def _count_within() -> dict[str, Count]:
    """Count the merges within the end of each class, and those that are not complete yet."""
    counts = {
        _name_within(end): Count("pk", filter=Q(completed_at__lte=F("merged_at") + end))
        for end in CLASSES
    }
    return {**counts, "not_complete": Count("pk", filter=TRACKED & Q(completed_at=None))}


def _name_within(end: timedelta) -> str:
    return f"within_{int(end.total_seconds())}"
