"""The figures of a selection: totals, the trend, the slowest reviews, and the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Prefetch

from metrics_sync.dashboard.measures import METRICS
from metrics_sync.dashboard.selection import Selection
from metrics_sync.dashboard.totals import Totals, read_totals
from metrics_sync.dashboard.trends import Point, read_trend
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    TrackedRepository,
)

SLOWEST = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the merges of a selection, with a point for each week or month."""

    totals: Totals
    before: Totals
    points: list[Point]
    slowest: list[PullRequest]
    credentials: list[IntegrationCredential]
    has_repositories: bool


def summarise(selection: Selection, metrics: Sequence[str] = METRICS) -> Summary:
    """Read the figures of a selection with seven queries; secrets are not loaded."""
    totals, before = read_totals(selection, metrics)
    reviewed = selection.reviewable.exclude(review_wait_hours=None)
    integrations = GitHubIntegration.objects.defer("webhook_secret")
    credentials = IntegrationCredential.objects.filter(team__in=selection.teams).prefetch_related(
        Prefetch("integrations", integrations)
    )
    repositories = TrackedRepository.objects.active().filter(team__in=selection.teams)
    return Summary(
        totals=totals,
        before=before,
        points=read_trend(selection, metrics),
        slowest=list(reviewed.order_by("-review_wait_hours", "-pk")[:SLOWEST]),
        credentials=list(
            credentials.defer("access_token").select_related("team").order_by("team__name", "pk")
        ),
        has_repositories=repositories.exists(),
    )
