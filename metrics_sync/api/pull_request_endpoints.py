"""Serves the list of pull requests, one pull request, and the lists that belong to it."""

from collections.abc import Callable
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router, Schema
from ninja.errors import HttpError

from metrics_sync.api import schemas
from metrics_sync.api.authentication import get_team
from metrics_sync.api.cursors import Cursor, Limit, Page, take_page
from metrics_sync.api.parameters import FullName, Moment, Name, Number, check_names
from metrics_sync.models import PullRequest
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.models.states import SyncStatus
from metrics_sync.snapshot import Section
from metrics_sync.store import list_rows

router = Router(tags=["pull requests"])


WRONG = {401: schemas.Error, 422: schemas.Error}
WRONG_OR_MISSING = {**WRONG, 404: schemas.Error}

#: The lists of a pull request, and what their items look like.
LISTS: dict[Section, type[Schema]] = {
    Section.COMMITS: schemas.Commit,
    Section.FILES: schemas.File,
    Section.CHECK_RUNS: schemas.CheckRun,
    Section.ISSUE_COMMENTS: schemas.Comment,
    Section.REVIEW_COMMENTS: schemas.Comment,
    Section.REVIEWS: schemas.Review,
    Section.TIMELINE: schemas.TimelineEvent,
    Section.COMMIT_STATUSES: schemas.CommitStatus,
}


class Filters(Schema):
    """Which merged pull requests to list; without filters, all of them."""

    repository: FullName | None = None
    since: Annotated[Moment, Query(description="Merged at this moment or later.")] | None = None
    until: Annotated[Moment, Query(description="Merged before this moment.")] | None = None
    sync_status: SyncStatus | None = None

    def apply(self, rows: PullRequestQuerySet) -> PullRequestQuerySet:
        if self.repository:
            rows = rows.in_repositories([self.repository])
        if self.since:
            rows = rows.filter(merged_at__gte=self.since)
        if self.until:
            rows = rows.filter(merged_at__lt=self.until)
        return rows.filter(sync_status=self.sync_status) if self.sync_status else rows


@router.get("", response={200: Page[schemas.PullRequest], **WRONG})
def list_pull_requests(
    request: HttpRequest, filters: Query[Filters], limit: Limit = 50, cursor: Cursor = ""
) -> Any:
    """List merged pull requests, the newest merge first."""
    # A row written by hand may be merged without a `merged_at`: it has no place in the order.
    rows = PullRequest.objects.merged().filter(team=get_team(request)).exclude(merged_at=None)
    rows = filters.apply(rows).defer("receipt", "etags", "provenance")
    return take_page(
        request,
        rows,
        order=("-merged_at", "-pk"),
        limit=limit,
        cursor=cursor,
        filters=Filters.model_fields,
    )


@router.get(
    "/{owner}/{name}/{number}", response={200: schemas.PullRequestDetail, **WRONG_OR_MISSING}
)
def read_pull_request(request: HttpRequest, owner: Name, name: Name, number: Number) -> PullRequest:
    """Read one pull request, merged or not, with receipt, provenance and counts."""
    check_names(request, ())
    return _find(request, owner, name, number)


def _find(request: HttpRequest, owner: str, name: str, number: int) -> PullRequest:
    """Return the row of the token's team. Raises HttpError 404, also when another team has it."""
    rows = PullRequest.objects.in_repositories([f"{owner}/{name}"]).defer("etags")
    row = rows.filter(team=get_team(request), github_pr_number=number).first()
    if row is None:
        raise HttpError(404, f"This team has no pull request {owner}/{name}#{number}.")
    return row


def _make_list(section: Section) -> Callable[..., dict[str, Any]]:
    def list_items(
        request: HttpRequest,
        *,
        owner: Name,
        name: Name,
        number: Number,
        limit: Limit = 50,
        cursor: Cursor = "",
    ) -> dict[str, Any]:
        rows = list_rows(_find(request, owner, name, number), section)
        return take_page(request, rows, order=("pk",), limit=limit, cursor=cursor)

    return list_items


for _section, _schema in LISTS.items():
    router.add_api_operation(
        f"/{{owner}}/{{name}}/{{number}}/{_section.replace('_', '-')}",
        ["GET"],
        _make_list(_section),
        operation_id=f"list_{_section}",
        summary=f"List {_section.replace('_', ' ')}",
        description="In the order in which they were first stored.",
        response={200: Page[_schema], **WRONG_OR_MISSING},  # type: ignore[valid-type]
    )
