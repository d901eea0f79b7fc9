"""The lists of a pull request (commits, files, reviews...), of one and of all."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.text import Truncator

from metrics_sync.admin.columns import show_times
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.labels import show_label
from metrics_sync.admin.list_filters import PULL_REQUEST, PullRequestFilter
from metrics_sync.admin.scoping import ReadOnly, TeamFilter
from metrics_sync.models import (
    Commit,
    FetchRun,
    PRCheckRun,
    PRComment,
    PRCommitStatus,
    PRFile,
    PRReview,
    PRTimelineEvent,
)


@admin.display(description="message")
def message(row: Commit) -> str:
    return row.message.partition("\n")[0]


@admin.display(description="text")
def text(row: PRComment | PRReview) -> str:
    return Truncator(row.body).chars(160)


@admin.display(description="state", ordering="state")
def state(row: PRReview | PRCommitStatus) -> str:
    return show_label(row.state)


@admin.display(description="conclusion", ordering="conclusion")
def conclusion(row: PRCheckRun) -> str:
    return show_label(row.conclusion or row.status)


@admin.display(description="status", ordering="status")
def status(row: FetchRun) -> str:
    return show_label(row.status)


@admin.display(description="errors")
def errors(row: FetchRun) -> str:
    return "; ".join(row.errors)


COLUMNS: dict[type[Any], list[Any]] = {
    Commit: ["github_sha", message, "author_login", "committed_at"],
    PRFile: ["filename", "status", "additions", "deletions"],
    PRCheckRun: ["name", "app_slug", conclusion, "started_at", "completed_at"],
    PRComment: ["author_login", "comment_type", text, "path", "created_at"],
    PRReview: ["reviewer_login", state, "submitted_state", text, "submitted_at"],
    FetchRun: ["started_at", status, "finished_at", "requests_made", errors],
    PRTimelineEvent: ["event", "actor_login", "subject_login", "dismissed_state", "created_at"],
    PRCommitStatus: ["context", state, "updated_at"],
}
SEARCHED = {
    Commit: ["github_sha", "message", "author_login"],
    PRFile: ["filename"],
    PRCheckRun: ["name", "app_slug"],
    PRComment: ["author_login", "body"],
    PRCommitStatus: ["context"],
    PRReview: ["reviewer_login", "body"],
    PRTimelineEvent: ["event", "actor_login"],
}


class ChildAdmin(ReadOnly, Guarded):
    related = ("team", "pull_request")
    hidden = ("pull_request__receipt", "pull_request__etags")
    list_filter = [("team", TeamFilter), PullRequestFilter]
    # By key, newest first: the models' own order has no index over all pull requests.
    ordering = ["-pk"]
    show_full_result_count = False

    def get_ordering(self, request: HttpRequest) -> Any:
        return self.opts.ordering if request.GET.get(PULL_REQUEST) else self.ordering

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return [*show_times(self.model, COLUMNS[self.model]), "pull_request", "team"]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return show_times(self.model, super().get_fields(request, obj))

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*SEARCHED[self.model], "pull_request__github_repo"]


admin.site.register(SEARCHED, ChildAdmin)
