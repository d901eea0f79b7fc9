"""The numbers that the dashboard opens with."""

from datetime import timedelta

from django.http import HttpRequest
from django.utils import timezone
from ninja import Router, Schema
from pydantic import Field

from metrics_sync.api import schemas
from metrics_sync.api.parameters import check_names
from metrics_sync.api.schemas import Seconds, Share
from metrics_sync.api.tokens import get_team
from metrics_sync.dashboard import summarise
from metrics_sync.models import Team
from metrics_sync.models.pull_request import SyncStatus

router = Router(tags=["summary"])


class Summary(Schema):
    """What is known of the merges of the last 30 days.

    Shares and times to complete are of those that completed.
    """

    merged: int
    statuses: dict[SyncStatus, int]
    share_within_minute: Share
    share_within_five_minutes: Share
    median_seconds: Seconds
    p90_seconds: Seconds
    averages: dict[str, float | None] = Field(description="The mean of each metric.")


@router.get("", response={200: Summary, 401: schemas.Error, 422: schemas.Error})
def read_summary(request: HttpRequest) -> Summary:
    """Read how complete the merges of the last 30 days are, and how their reviews went."""
    check_names(request, ())
    team = Team.objects.filter(pk=get_team(request).pk)
    summary = summarise(team, now=timezone.now())
    return Summary(
        merged=summary.merged,
        statuses={SyncStatus(name): count for name, count in summary.statuses.items()},
        share_within_minute=summary.share_within_minute,
        share_within_five_minutes=summary.share_within_five_minutes,
        median_seconds=_count_seconds(summary.median),
        p90_seconds=_count_seconds(summary.p90),
        averages=dict(summary.averages),
    )


def _count_seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()
