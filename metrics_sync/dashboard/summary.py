"""The figures of a selection: shares complete in time, times to complete, and review metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db.models import (
    Aggregate,
    Case,
    Count,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    FloatField,
    OuterRef,
    Prefetch,
    Q,
    When,
)
from django.db.models.functions import Cast, TruncWeek

from metrics_sync.dashboard.percentiles import Percentile
from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    TrackedRepository,
)
from metrics_sync.models.pull_request import PullRequestQuerySet, SyncStatus

#: The metrics that have a trend.
METRICS = (
    "review_wait_hours",
    "avg_fix_response_hours",
    "review_rounds",
    "cycle_time_hours",
)
#: What the service promises, for over 99 % of all merges.
MINUTE, FIVE_MINUTES = timedelta(minutes=1), timedelta(minutes=5)
#: Upper ends of the classes that times to complete are counted in; what takes longer has its own.
CLASSES = (timedelta(seconds=5), timedelta(seconds=15), MINUTE, FIVE_MINUTES, timedelta(hours=1))
SLOWEST = 5

BY_BOT = Q(is_by_bot=True)
UNREVIEWED = Q(merged_without_review=True)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 90th percentile of the known values; None without any."""

    median: Any
    p90: Any


@dataclass(frozen=True, slots=True)
class Week:
    """The merges of one week, which began on that Monday (UTC)."""

    begins_on: date
    merged: int
    metrics: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the merges of a selection; None is unknown.

    The shares (0 to 1) are of the merges that had the time: those that took it, and those that
    are older and still not complete. Untracked pull requests are excluded. Times run from the merge
    to the first time that all was verified. `classes` counts these times, in the order of CLASSES;
    `not_complete` counts the merges that have no such time yet. Merges from before their repository
    was connected, for which no webhook came, are excluded from shares, times and counts.
    Figures of reviews are without the pull requests by bots that `bots_left_out` counts; rounds
    and waits are of those that were reviewed, and `share_without_review` is of those that were not.
    Every week of the period has its place in `weeks`, also one without merges.
    """

    share_within_minute: float | None
    share_within_five_minutes: float | None
    time_to_complete: Spread
    classes: list[int]
    not_complete: int
    metrics: Mapping[str, Spread]
    share_without_review: float | None
    bots_left_out: int
    weeks: list[Week]
    slowest: list[PullRequest]
    credentials: list[IntegrationCredential]
    has_repositories: bool


def summarise(selection: Selection) -> Summary:
    """Read the figures of a selection with seven queries; secrets are not loaded."""
    ours = _choose_ours(selection)
    totals = selection.merges.order_by().aggregate(
        **_spread_metrics(ours),
        bots=Count("pk", filter=~ours),
        unreviewed=Count("pk", filter=ours & UNREVIEWED),
        known=Count("merged_without_review", filter=ours),
    )
    totals |= _exclude_history(selection).aggregate(
        **_count_kept(selection.now), **_count_classes(), **_spread("took", TOOK)
    )
    reviewed = selection.merges.filter(ours).exclude(review_wait_hours=None)
    integrations = GitHubIntegration.objects.defer("webhook_secret")
    credentials = IntegrationCredential.objects.filter(team__in=selection.teams).prefetch_related(
        Prefetch("integrations", integrations)
    )
    repositories = TrackedRepository.objects.active().filter(team__in=selection.teams)
    return Summary(
        share_within_minute=_divide(totals["within_60"], totals["due_60"]),
        share_within_five_minutes=_divide(totals["within_300"], totals["due_300"]),
        time_to_complete=_read_spread("took", totals),
        classes=[totals[f"class_{position}"] for position in range(len(CLASSES) + 1)],
        not_complete=totals["not_complete"],
        metrics={name: _read_spread(name, totals) for name in METRICS},
        share_without_review=_divide(totals["unreviewed"], totals["known"]),
        bots_left_out=totals["bots"],
        weeks=_read_weeks(selection),
        slowest=list(reviewed.order_by("-review_wait_hours", "-pk")[:SLOWEST]),
        credentials=list(
            credentials.defer("access_token").select_related("team").order_by("team__name", "pk")
        ),
        has_repositories=repositories.exists(),
    )


def _exclude_history(selection: Selection) -> PullRequestQuerySet:
    """Leave out merges from before their repository was connected."""
    connected_later = TrackedRepository.objects.filter(
        team=OuterRef("team"),
        full_name__iexact=OuterRef("github_repo"),
        connected_at__gt=OuterRef("merged_at"),
    )
    return selection.merges.order_by().filter(~Exists(connected_later))


TOOK = ExpressionWrapper(F("completed_at") - F("merged_at"), output_field=DurationField())


def _count_kept(now: datetime) -> dict[str, Count]:
    tracked = ~Q(sync_status=SyncStatus.UNTRACKED)
    counts = {}
    for limit in (MINUTE, FIVE_MINUTES):
        name = int(limit.total_seconds())
        within = Q(completed_at__lte=F("merged_at") + limit)
        had_the_time = Q(merged_at__lte=now - limit)
        counts[f"within_{name}"] = Count("pk", filter=within)
        counts[f"due_{name}"] = Count("pk", filter=within | (had_the_time & tracked))
    return counts


def _count_classes() -> dict[str, Count]:
    ends = [F("merged_at") + end for end in CLASSES]
    ranges = [
        Q(completed_at__lte=ends[0]),
        *(Q(completed_at__gt=start, completed_at__lte=end) for start, end in pairwise(ends)),
        Q(completed_at__gt=ends[-1]),
    ]
    counts = {f"class_{n}": Count("pk", filter=condition) for n, condition in enumerate(ranges)}
    tracked = ~Q(sync_status=SyncStatus.UNTRACKED)
    return {**counts, "not_complete": Count("pk", filter=tracked & Q(completed_at=None))}


def _choose_ours(selection: Selection) -> Q:
    """Return the condition for pull requests whose reviews are known."""
    return Q(pk__isnull=False) if selection.with_bots else ~BY_BOT


def _spread_metrics(ours: Q) -> dict[str, Aggregate]:
    """Spread the metrics; one that nobody reviewed had no rounds, which is not none of them."""
    known = {"review_rounds": ours & ~UNREVIEWED}
    # PostgreSQL sorts floats in half the time that decimals take.
    spreads = [
        _spread(name, Case(When(known.get(name, ours), then=Cast(name, FloatField()))))
        for name in METRICS
    ]
    return {key: value for spread in spreads for key, value in spread.items()}


def _spread(name: str, expression: Any) -> dict[str, Aggregate]:
    return {
        f"{name}_median": Percentile(expression, 0.5),
        f"{name}_p90": Percentile(expression, 0.9),
    }


def _read_spread(name: str, values: Mapping[str, Any]) -> Spread:
    return Spread(values[f"{name}_median"], values[f"{name}_p90"])


def _divide(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _read_weeks(selection: Selection) -> list[Week]:
    rows = (
        selection.merges.order_by().annotate(week=TruncWeek("merged_at", tzinfo=UTC)).values("week")
    )
    ours = _choose_ours(selection)
    counted = rows.annotate(merged=Count("pk", filter=ours), **_spread_metrics(ours))
    found = {row["week"].date(): row for row in counted}
    mondays = [selection.since.date() + timedelta(weeks=n) for n in range(selection.weeks)]
    nothing = Spread(None, None)
    return [
        Week(monday, found[monday]["merged"], {m: _read_spread(m, found[monday]) for m in METRICS})
        if monday in found
        else Week(monday, 0, dict.fromkeys(METRICS, nothing))
        for monday in mondays
    ]
