"""Pull requests: their state, their receipt, and the button that fetches them again."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import action, display

from metrics_sync.admin.children import INLINES
from metrics_sync.admin.fetch_again import AT_ONCE, fetch_again
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.labels import (
    UNKNOWN,
    show_hours,
    show_label,
    show_on_one_line,
    show_provenance,
    show_receipt,
    show_time_to_complete,
)
from metrics_sync.admin.scoping import ReadOnly, TeamFilter, keep_visible
from metrics_sync.admin.timeline import draw_timeline
from metrics_sync.conf import app_settings
from metrics_sync.dashboard import UNDER_WAY
from metrics_sync.models import PullRequest, TrackedRepository


def find_web_root(api_root: str) -> str:
    """Return where people see what an API root serves.

    https://docs.github.com/en/enterprise-server/rest/quickstart
    """
    if api_root.endswith("/api/v3"):
        return api_root.removesuffix("/api/v3")
    return api_root.replace("://api.", "://", 1)


def find_page_at_github(row: PullRequest) -> str:
    """Return where people read a pull request; what nobody tracks is at the default GitHub."""
    repositories = TrackedRepository.objects.matching(row).select_related("integration")
    repository = repositories.defer("integration__webhook_secret").first()
    api_root = repository.integration.get_api_root() if repository else app_settings.GITHUB_API_URL
    return f"{find_web_root(api_root)}/{row.github_repo}/pull/{row.github_pr_number}"


def build_header(row: PullRequest) -> dict[str, Any]:
    """Return the context of what a pull request's page begins with."""
    live_url = reverse("metrics_sync:pull-request-live", args=[row.pk])
    return {
        "row": row,
        "status": show_label(row.sync_status),
        "page_at_github": find_page_at_github(row),
        "live_url": f"{live_url}?seen={row.sync_status}" if row.sync_status in UNDER_WAY else "",
        "figures": {
            "First review after": show_hours(row.review_wait_hours),
            "Review rounds": UNKNOWN if row.review_rounds is None else row.review_rounds,
            "Requested changes answered in": show_hours(row.avg_fix_response_hours),
            "Cycle time": show_hours(row.cycle_time_hours),
            "CI at the merge": row.ci_at_merge or UNKNOWN,
            "Data complete after": show_time_to_complete(row),
        }.items(),
    }


def make_column(name: str, title: str, show: Callable[[Any], Any] | None = None) -> Any:
    """Return a sortable column for a field whose own name is too long for a table."""

    @admin.display(description=title, ordering=name)
    def column(row: PullRequest) -> Any:
        value = getattr(row, name)
        return show(value) if show else value

    return column


class RepositoryFilter(DropdownFilter):
    """Offers tracked repositories: to list the names of all pull requests would read them all."""

    title = "repository"
    parameter_name = "repository"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = keep_visible(TrackedRepository.objects.all(), request)
        names = rows.order_by("full_name").values_list("full_name", flat=True).distinct()
        return [(name, name) for name in names]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[PullRequest]
    ) -> QuerySet[PullRequest]:
        rows = PullRequest.objects.in_repositories([self.value() or ""])
        return queryset.filter(pk__in=rows) if self.value() else queryset


@admin.register(PullRequest)
class PullRequestAdmin(ReadOnly, Guarded):
    hidden = ("etags",)
    list_display = [
        "heading",
        "team",
        make_column("state", "state", show_label),
        "merged",
        "status",
        make_column("review_wait_hours", "first review after", show_hours),
        make_column("review_rounds", "rounds"),
        make_column("cycle_time_hours", "cycle time", show_hours),
        "size",
        make_column("total_comments", "comments"),
        make_column("author_login", "author"),
        "seconds",
    ]
    list_filter = [
        ("team", TeamFilter),
        RepositoryFilter,
        ("sync_status", ChoicesDropdownFilter),
        ("state", ChoicesDropdownFilter),
    ]
    list_filter_submit = True
    list_per_page = 50
    show_full_result_count = False
    date_hierarchy = "merged_at"
    search_fields = ["title", "github_repo", "author_login", "head_ref", "=github_pr_number"]
    inlines = INLINES
    list_before_template = "metrics_sync/live_list.html"
    change_form_outer_before_template = "metrics_sync/pull_request.html"
    actions = ["fetch_selected_again"]
    actions_detail = ["fetch_one_again"]
    readonly_fields = [
        "status",
        "seconds",
        "receipt_table",
        "cut_off",
        "disagreements",
        "provenance_table",
    ]
    fieldsets = [
        (
            "Completeness",
            {
                "fields": [
                    ("status", "sync_error"),
                    "receipt_table",
                    ("cut_off", "disagreements", "sync_attempts"),
                    ("completed_at", "seconds"),
                    ("retry_at", "refetch_at"),
                ]
            },
        ),
        (
            "Metrics",
            {
                "fields": [
                    ("review_rounds", "avg_fix_response_hours"),
                    ("commits_after_first_review", "total_comments"),
                    ("changes_requested_count", "reviewer_count"),
                    ("first_approval_hours", "approval_to_merge_hours"),
                    ("merged_without_review", "merged_without_approval"),
                    ("merged_by_login", "merged_by_author"),
                    ("ready_at", "review_wait_hours"),
                    ("first_response_at", "first_response_hours"),
                    ("early_feedback_at", "draft_hours"),
                    ("first_review_at", "review_time_hours"),
                    ("cycle_time_hours", "metrics_version"),
                    ("coding_hours", "last_commit_to_merge_hours"),
                    ("changed_lines", "size_band", "human_comments"),
                    ("ci_at_merge", "ci_duration_hours"),
                    "provenance_table",
                ]
            },
        ),
        (
            "Change",
            {
                "fields": [
                    ("base_ref", "head_ref"),
                    ("additions", "deletions", "changed_files"),
                    ("pr_created_at", "merged_at", "closed_at"),
                ]
            },
        ),
    ]  # fmt: skip

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the list, and say which rows are to be asked for again."""
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context:
            rows = context["cl"].result_list
            context["live_keys"] = [row.pk for row in rows if row.sync_status in UNDER_WAY]
        return response

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **options: Any
    ) -> Any:
        context |= {**build_header(obj), "timeline": draw_timeline(obj)}
        return super().render_change_form(request, context, *args, obj=obj, **options)

    @display(description="pull request", header=True)  # type: ignore[untyped-decorator]
    def heading(self, row: PullRequest) -> tuple[str, str]:
        return str(row), Truncator(row.title).chars(60)

    @admin.display(description="sync status", ordering="sync_status")
    def status(self, row: PullRequest) -> str:
        return format_html('<span id="status-{}">{}</span>', row.pk, show_label(row.sync_status))

    @admin.display(description="merged at", ordering="merged_at")
    def merged(self, row: PullRequest) -> SafeString:
        return show_on_one_line(row.merged_at)

    @admin.display(description="size", ordering=F("additions") + F("deletions"))
    def size(self, row: PullRequest) -> str:
        if row.additions is None or row.deletions is None:
            return UNKNOWN
        return f"+{row.additions} \N{MINUS SIGN}{row.deletions}"

    @admin.display(description="complete after", ordering=F("completed_at") - F("merged_at"))
    def seconds(self, row: PullRequest) -> str:
        return show_time_to_complete(row)

    @admin.display(description="receipt")
    def receipt_table(self, row: PullRequest) -> str:
        return show_receipt(row.receipt)

    @admin.display(description="how they got their numbers")
    def provenance_table(self, row: PullRequest) -> str:
        return show_provenance(row.provenance)

    @admin.display(description="cut off by GitHub")
    def cut_off(self, row: PullRequest) -> str:
        return ", ".join(row.truncated) or "nothing"

    @admin.display(description="where GitHub disagrees with itself")
    def disagreements(self, row: PullRequest) -> str:
        return ", ".join(row.disagreeing) or "nowhere"

    @admin.action(description="Fetch again", permissions=["view"])
    def fetch_selected_again(self, request: HttpRequest, rows: QuerySet[PullRequest]) -> None:
        fetch_again(request, rows.iterator(chunk_size=AT_ONCE))

    @action(  # type: ignore[untyped-decorator]
        description="Fetch again",
        url_path="fetch-again",
        icon="cloud_download",
        # Asked for in a dialog, because a link alone must not change anything.
        dialog={
            "title": "Fetch again?",
            "description": "Everything of this pull request is asked for and verified once more.",
            "form_submit_text": "Fetch again",
        },
    )
    def fetch_one_again(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        fetch_again(request, [row])
        url = reverse("admin:metrics_sync_pullrequest_change", args=[row.pk])
        # The dialog is a request of htmx, which follows this header as a page of its own.
        return HttpResponse(headers={"HX-Redirect": url})
