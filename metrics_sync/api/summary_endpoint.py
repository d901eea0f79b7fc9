"""Serves the numbers of the dashboard."""

from datetime import date, datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema
from pydantic import Field

from metrics_sync.api import schemas
from metrics_sync.api.authentication import get_team
from metrics_sync.api.parameters import FullName, check_names
from metrics_sync.api.schemas import Seconds, Share
from metrics_sync.dashboard import (
    CLASSES,
    DEFAULT_WEEKS,
    Selection,
    Weeks,
    read_current_state,
    summarise,
)
from metrics_sync.models import IntegrationCredential, Team
from metrics_sync.models.states import SyncStatus

router = Router(tags=["summary"])


class Spread(Schema):
    """Median and 90th percentile of the known values; each is a value that occurs."""

    median: float | None
    p90: float | None


class Week(Schema):
    """The merges of a week in UTC."""

    begins_on: date = Field(description="A Monday.")
    merged: int
    metrics: dict[str, Spread]


class TimeClass(Schema):
    """How many merges were complete within this time, but not within the one before."""

    up_to_seconds: float | None = Field(description="Null: longer than all the others.")
    count: int


class SlowReview(Schema):
    github_repo: str
    github_pr_number: int | None
    review_wait_hours: float


class Budget(Schema):
    """A token's requests per hour, as GitHub last stated them; null is unknown."""

    organizations: list[str]
    limit: int | None
    remaining: int | None
    resets_at: datetime | None


class Summary(Schema):
    """The merges of the last weeks; the last week is not over yet.

    Shares and times to complete cover the merges since their repository was connected. A merge
    that is older than the time of a share, and still not complete, counts as late.
    """

    since: datetime
    merged: int
    statuses: dict[SyncStatus, int]
    share_within_minute: Share
    share_within_five_minutes: Share
    median_seconds: Seconds
    p90_seconds: Seconds
    times_to_complete: list[TimeClass]
    metrics: dict[str, Spread] = Field(
        description="Of pull requests by people; rounds and waits only of those that were reviewed."
    )
    share_without_review: Share
    bots_left_out: int = Field(description="Pull requests by bots; `with_bots` includes them.")
    weeks: list[Week]
    slowest_reviews: list[SlowReview]
    budgets: list[Budget]


@router.get("", response={200: Summary, 401: schemas.Error, 422: schemas.Error})
def read_summary(
    request: HttpRequest,
    *,
    weeks: Weeks = DEFAULT_WEEKS,
    repository: FullName | None = None,
    with_bots: bool = False,
) -> dict[str, Any]:
    """Read how complete the merges of the last weeks are, and how their reviews went."""
    check_names(request, ("weeks", "repository", "with_bots"))
    teams = Team.objects.filter(pk=get_team(request).pk)
    selection = Selection(teams, timezone.now(), weeks, repository or "", with_bots=with_bots)
    state, summary = read_current_state(selection), summarise(selection)
    totals = summary.totals
    return {
        "since": selection.since,
        "merged": state.merged,
        "statuses": state.statuses,
        "share_within_minute": totals.share_within_minute,
        "share_within_five_minutes": totals.share_within_five_minutes,
        "median_seconds": _count_seconds(totals.time_to_complete.median),
        "p90_seconds": _count_seconds(totals.time_to_complete.p90),
        "times_to_complete": [
            {"up_to_seconds": _count_seconds(end), "count": count}
            for end, count in zip([*CLASSES, None], totals.classes, strict=True)
        ],
        "metrics": totals.metrics,
        "share_without_review": totals.share_without_review,
        "bots_left_out": 0 if with_bots else state.by_bots,
        "weeks": summary.points,
        "slowest_reviews": summary.slowest,
        "budgets": [_read_budget(credential) for credential in summary.credentials],
    }


def _read_budget(credential: IntegrationCredential) -> dict[str, Any]:
    return {
        "organizations": [one.organization_slug for one in credential.integrations.all()],
        "limit": credential.rate_limit,
        "remaining": credential.left,
        "resets_at": credential.rate_limit_resets_at,
    }


def _count_seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
