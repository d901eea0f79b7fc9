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
)

from metrics_sync.dashboard.measures import (
    BY_BOT,
    METRICS,
    UNREVIEWED,
    Spread,
    read_spread,
    read_spreads,
    spread,
    spread_metrics,
)
from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import TrackedRepository
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.models.states import SyncStatus

#: What the service promises, for over 99 % of all merges.
MINUTE, FIVE_MINUTES = timedelta(minutes=1), timedelta(minutes=5)
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
    Figures of reviews are of `merged` pull requests, without those by bots that `bots_left_out`
    counts; rounds and waits are of those that were reviewed, and `share_without_review` is of
    those that were not.
    """

    share_within_minute: float | None
    share_within_five_minutes: float | None
    time_to_complete: Spread
    classes: list[int]
    not_complete: int
    metrics: Mapping[str, Spread]
    merged: int
    without_review: int
    #: Of how many it is known whether they were reviewed.
    review_is_known: int
    share_without_review: float | None
    bots_left_out: int


def read_totals(selection: Selection, metrics: Iterable[str] = METRICS) -> Totals:
    """Read the figures of a period with two queries."""
    ours, rows = choose_ours(selection), selection.merges.order_by()
    values = rows.aggregate(
        **spread_metrics(metrics, ours),
        merged=Count("pk", filter=ours),
        bots=Count("pk", filter=~ours),
        unreviewed=Count("pk", filter=ours & UNREVIEWED),
        known=Count("merged_without_review", filter=ours),
    )
    values |= exclude_history(rows).aggregate(
        **_count_kept(selection.now), **_count_classes(), **spread("took", TOOK)
    )
    return Totals(
        share_within_minute=divide(values["within_60"], values["due_60"]),
        share_within_five_minutes=divide(values["within_300"], values["due_300"]),
        time_to_complete=read_spread("took", values),
        classes=[values[f"class_{position}"] for position in range(len(CLASSES) + 1)],
        not_complete=values["not_complete"],
        metrics=read_spreads(metrics, values),
        merged=values["merged"],
        without_review=values["unreviewed"],
        review_is_known=values["known"],
        share_without_review=divide(values["unreviewed"], values["known"]),
        bots_left_out=values["bots"],
    )


def choose_ours(selection: Selection) -> Q:
    """Return the condition for pull requests whose reviews are known."""
    return Q(pk__isnull=False) if selection.with_bots else ~BY_BOT


def exclude_history(rows: PullRequestQuerySet) -> PullRequestQuerySet:
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


def _count_kept(now: datetime) -> dict[str, Count]:
    counts = {}
    for limit in (MINUTE, FIVE_MINUTES):
        name = int(limit.total_seconds())
        within = Q(completed_at__lte=F("merged_at") + limit)
        had_the_time = Q(merged_at__lte=now - limit)
        counts[f"within_{name}"] = Count("pk", filter=within)
        counts[f"due_{name}"] = Count("pk", filter=within | (had_the_time & TRACKED))
    return counts


def _count_classes() -> dict[str, Count]:
    *times, not_complete = describe_classes()
    counts = {f"class_{n}": Count("pk", filter=condition) for n, condition in enumerate(times)}
    return {**counts, "not_complete": Count("pk", filter=not_complete)}
