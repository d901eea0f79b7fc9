"""Serves tracked repositories, with their pull requests counted by sync status."""

from collections import defaultdict
from typing import Any

from django.db.models import Count
from django.db.models.functions import Lower
from django.http import HttpRequest
from ninja import Router

from metrics_sync.api import schemas
from metrics_sync.api.authentication import get_team
from metrics_sync.api.cursors import Cursor, Limit, Page, take_page
from metrics_sync.models import PullRequest, Team, TrackedRepository

router = Router(tags=["repositories"])


@router.get(
    "",
    response={200: Page[schemas.Repository], 401: schemas.Error, 422: schemas.Error},
)
def list_repositories(request: HttpRequest, limit: Limit = 50, cursor: Cursor = "") -> Any:
    """List the repositories that are tracked, and those that were."""
    team = get_team(request)
    rows = TrackedRepository.objects.filter(team=team)
    page = take_page(request, rows, order=("pk",), limit=limit, cursor=cursor)
    statuses = _count_statuses(team, {row.full_name.lower() for row in page["items"]})
    items = [
        {
            "full_name": row.full_name,
            "is_active": row.is_active,
            "statuses": statuses[row.full_name.lower()],
        }
        for row in page["items"]
    ]
    return {**page, "items": items}


def _count_statuses(team: Team, names: set[str]) -> dict[str, dict[str, int]]:
    """Count merged pull requests by the lower-case name of their repository, in one query."""
    rows = PullRequest.objects.merged().filter(team=team).annotate(name=Lower("github_repo"))
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    grouped = rows.filter(name__in=names).order_by().values_list("name", "sync_status")
    for name, status, count in grouped.annotate(count=Count("pk")):
        counts[name][status] = count
    return counts
