"""The figures of a whole period: shares complete in time, times to complete, and metrics."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from django.db.models import (
    Count,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
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
from metrics_sync.models import PullRequest, TrackedRepository
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


def read_totals(selection: Selection, metrics: Iterable[str] = METRICS) -> Totals:
    """Read the figures of a period with three queries."""
    values = selection.reviewable.aggregate(
        **spread_metrics(metrics),
        merged=Count("pk"),
        unreviewed=Count("pk", filter=UNREVIEWED),
        known=Count("merged_without_review"),
    )
    values |= _leave_out_history(selection).aggregate(
        **_count_late(selection.now), **_count_classes(), **spread("took", TOOK, F("completed_at"))
    )
    classes = [values[f"class_{place}"] for place in range(len(CLASSES) + 1)]
    late = {limit: values[_name_late(limit)] for limit in PROMISED}
    within = {limit: sum(classes[: CLASSES.index(limit) + 1]) for limit in PROMISED}
    shares = {limit: divide(within[limit], within[limit] + late[limit]) for limit in PROMISED}
    return Totals(
        share_within_minute=shares[MINUTE],
        share_within_five_minutes=shares[FIVE_MINUTES],
        late=late,
        time_to_complete=read_spread("took", values),
        classes=classes,
        not_complete=values["not_complete"],
        metrics=read_spreads(metrics, values),
        merged=values["merged"],
        without_review=values["unreviewed"],
        review_is_known=values["known"],
        share_without_review=divide(values["unreviewed"], values["known"]),
    )


def _leave_out_history(selection: Selection) -> QuerySet[PullRequest]:
    """Return the merges of a selection since their repositories were connected.

    To compare the names of all rows takes as long as the figures do, and mostly leaves out none.
    """
    rows = selection.merges.order_by()
    connected_since = TrackedRepository.objects.filter(
        team__in=selection.teams, connected_at__gt=selection.since
    )
    return exclude_history(rows) if connected_since.exists() else rows


def exclude_history(rows: QuerySet[PullRequest]) -> QuerySet[PullRequest]:
    """Leave out merges from before their repository was connected."""
    connected_later = TrackedRepository.objects.filter(
        team=OuterRef("team"),
        full_name__iexact=OuterRef("github_repo"),
        connected_at__gt=OuterRef("merged_at"),
    )
    return rows.filter(~Exists(connected_later))


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


def _count_classes() -> dict[str, Count]:
    *times, not_complete = describe_classes()
    counts = {f"class_{n}": Count("pk", filter=condition) for n, condition in enumerate(times)}
    return {**counts, "not_complete": Count("pk", filter=not_complete)}
