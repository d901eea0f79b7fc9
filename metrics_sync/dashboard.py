"""The queries behind the summary: their number does not grow with the rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from django.db.models import Avg, Count, DurationField, ExpressionWrapper, F, Q, QuerySet

from metrics_sync.models import IntegrationCredential, PullRequest, Team, TrackedRepository
from metrics_sync.models.pull_request import SyncStatus

WINDOW = timedelta(days=30)
#: How many rows a list shows.
ROWS = 10

METRICS = (
    "review_rounds",
    "avg_fix_response_hours",
    "commits_after_first_review",
    "total_comments",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is known of the merges of the last 30 days; None is unknown.

    `statuses` counts pull requests by sync status. The shares (0 to 1) and times to complete are
    of those that completed, counted from the merge to the first time that all was verified.
    """

    statuses: Mapping[str, int]
    share_within_minute: float | None
    share_within_five_minutes: float | None
    median: timedelta | None
    p90: timedelta | None
    averages: Mapping[str, float | None]
    latest: list[PullRequest]
    incomplete: list[PullRequest]
    credentials: list[IntegrationCredential]
    has_repositories: bool

    @property
    def merged(self) -> int:
        return sum(self.statuses.values())


def summarise(teams: QuerySet[Team], *, now: datetime) -> Summary:
    """Read the summary of some teams; secrets are not loaded."""
    merges = PullRequest.objects.merged().filter(team__in=teams, merged_at__gt=now - WINDOW)
    rows = merges.select_related("team").defer("receipt", "etags").order_by("-merged_at", "-pk")
    speed = _measure_speed(merges)
    averages = merges.aggregate(**{name: Avg(name) for name in METRICS})
    statuses = merges.order_by().values_list("sync_status").annotate(Count("pk"))
    credentials = IntegrationCredential.objects.filter(team__in=teams).defer("access_token")
    return Summary(
        **speed,
        statuses=dict(statuses),
        averages={name: None if mean is None else float(mean) for name, mean in averages.items()},
        latest=list(rows[:ROWS]),
        incomplete=list(
            rows.filter(sync_status__in=[SyncStatus.FAILED, SyncStatus.PARTIAL])[:ROWS]
        ),
        credentials=list(credentials.select_related("team").order_by("team__name", "pk")),
        has_repositories=TrackedRepository.objects.active().filter(team__in=teams).exists(),
    )


def _measure_speed(merges: QuerySet[PullRequest]) -> dict[str, Any]:
    completed = merges.exclude(completed_at=None).annotate(
        took=ExpressionWrapper(F("completed_at") - F("merged_at"), output_field=DurationField())
    )
    counts = completed.aggregate(
        all=Count("pk"),
        minute=Count("pk", filter=Q(took__lte=timedelta(minutes=1))),
        five_minutes=Count("pk", filter=Q(took__lte=timedelta(minutes=5))),
    )
    count = counts["all"]
    times = completed.order_by("took").values_list("took", flat=True)
    return {
        "share_within_minute": counts["minute"] / count if count else None,
        "share_within_five_minutes": counts["five_minutes"] / count if count else None,
        "median": _pick(times, 0.5, count=count),
        "p90": _pick(times, 0.9, count=count),
    }


def _pick(times: Any, share: float, *, count: int) -> timedelta | None:
    """Return the nearest-rank percentile, which PostgreSQL and SQLite both find by position."""
    time: timedelta | None = times[ceil(share * count) - 1] if count else None
    return time
