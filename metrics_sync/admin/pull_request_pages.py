"""Pull requests: their state, their receipt, and the button that fetches them again."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import F, QuerySet
from django.forms import Media
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action

from metrics_sync.admin.child_tables import build_sections
from metrics_sync.admin.columns import SECONDS, make_column, make_hours
from metrics_sync.admin.csv_export import stream_csv
from metrics_sync.admin.fetch_again import AT_ONCE, fetch_again
from metrics_sync.admin.fieldsets import FIELDSETS
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.header import build_header
from metrics_sync.admin.labels import (
    UNKNOWN,
    show_label,
    show_on_one_line,
    show_provenance,
    show_receipt,
)
from metrics_sync.admin.list_filters import (
    AnswerFilter,
    AuthorFilter,
    BotsFilter,
    KnownFilter,
    RepositoryFilter,
    ReviewerFilter,
    ReviewFilter,
    TookFilter,
    WayBack,
)
from metrics_sync.admin.scoping import ReadOnly, TeamFilter
from metrics_sync.admin.searching import FIELDS, search_pull_requests
from metrics_sync.admin.timeline import draw_timeline
from metrics_sync.dashboard import UNDER_WAY
from metrics_sync.dashboard.narrowing import METRIC_NAMES
from metrics_sync.dashboard.totals import TOOK
from metrics_sync.exceptions import BadInputError
from metrics_sync.models import PullRequest

#: What the page of a pull request loads beside the theme's own scripts.
SCRIPTS = Media(
    js=[
        "metrics_sync/vendor/idiomorph-ext.min.js",
        "metrics_sync/vendor/luxon.min.js",
        "metrics_sync/vendor/chartjs-adapter-luxon.umd.min.js",
        "metrics_sync/vendor/chartjs-plugin-zoom.min.js",
        "metrics_sync/timeline.js",
    ]
)


#: What no line of the list shows.
LARGE = ("receipt", "provenance", "reviewers")


@admin.register(PullRequest)
class PullRequestAdmin(ReadOnly, Guarded):
    hidden = ("etags",)
    list_display = [
        "heading",
        "team",
        make_column("state", "state", show_label),
        "merged",
        "status",
        make_hours("review_wait_hours", "first review after"),
        make_column("review_rounds", "rounds"),
        make_hours("cycle_time_hours", "cycle time"),
        "size",
        make_column("total_comments", "comments"),
        make_column("author_login", "author"),
        SECONDS,
    ]
    list_filter = [
        ("team", TeamFilter),
        RepositoryFilter,
        ("sync_status", ChoicesDropdownFilter),
        ("state", ChoicesDropdownFilter),
        ReviewFilter,
        BotsFilter,
        AuthorFilter,
        ReviewerFilter,
        AnswerFilter,
        KnownFilter,
        TookFilter,
        WayBack,
    ]
    list_filter_submit = True
    list_per_page = 50
    show_full_result_count = False
    date_hierarchy = "merged_at"
    search_fields = FIELDS
    search_help_text = "Title, repository, branch, author, #number or address"
    list_before_template = "metrics_sync/live_list.html"
    change_form_outer_before_template = "metrics_sync/pull_request.html"
    change_form_outer_after_template = "metrics_sync/sections.html"
    actions = ["fetch_selected_again"]
    actions_detail = ["fetch_one_again"]
    fieldsets = FIELDSETS
    # Pull requests come from GitHub; nobody edits them here.
    readonly_fields = flatten_fieldsets(FIELDSETS)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the list, and name the rows whose status the page polls."""
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context:
            rows = context["cl"].result_list
            context["live_keys"] = [row.pk for row in rows if row.sync_status in UNDER_WAY]
        return response

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Read of each row what its line shows, and the dates to choose from for whole lists only.

        To find the dates of a search takes the time of two more searches.
        """
        changelist = super().get_changelist_instance(request)
        changelist.result_list = changelist.result_list.defer(*LARGE)
        if changelist.query or changelist.has_active_filters:
            changelist.date_hierarchy = None
        return changelist

    def get_urls(self) -> list[URLPattern]:
        name = "metrics_sync_pullrequest_csv"
        view = self.admin_site.admin_view(self.show_csv)
        return [path("csv/", view, name=name), *super().get_urls()]

    def show_csv(self, request: HttpRequest) -> HttpResponseBase:
        """Send what the list shows, on all its pages, as CSV."""
        try:
            rows = self.get_changelist_instance(request).queryset
        except BadInputError as error:
            return HttpResponse(str(error), status=400, content_type="text/plain; charset=utf-8")
        return stream_csv(rows)

    def search(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> Any:
        return search_pull_requests(rows, term), False

    def get_ordering(self, request: HttpRequest) -> Any:
        """Begin with the largest values of the metric that the list is of."""
        known = request.GET.get("known")
        if known in METRIC_NAMES:
            return [f"-{known}"]
        return [TOOK.desc()] if "took" in request.GET else super().get_ordering(request)

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **options: Any
    ) -> Any:
        context |= {**build_header(obj), "timeline": draw_timeline(obj)}
        context["sections"] = build_sections(obj)
        context["media"] += SCRIPTS
        return super().render_change_form(request, context, *args, obj=obj, **options)

    @admin.display(description="pull request")
    def heading(self, row: PullRequest) -> SafeString:
        title = Truncator(row.title).chars(60)
        return format_html('{}<br><span class="quiet">{}</span>', row, title)

    @admin.display(description="sync status", ordering="sync_status")
    def status(self, row: PullRequest) -> str:
        return format_html('<span id="status-{}">{}</span>', row.pk, show_label(row.sync_status))

    @admin.display(description="merged at", ordering="merged_at")
    def merged(self, row: PullRequest) -> str:
        return show_on_one_line(row.merged_at)

    @admin.display(description="size", ordering=F("additions") + F("deletions"))
    def size(self, row: PullRequest) -> str:
        if row.additions is None or row.deletions is None:
            return UNKNOWN
        return f"+{row.additions} \N{MINUS SIGN}{row.deletions}"

    @admin.display(description="receipt")
    def receipt_table(self, row: PullRequest) -> str:
        return show_receipt(row.receipt)

    @admin.display(description="basis of the metrics")
    def provenance_table(self, row: PullRequest) -> str:
        return show_provenance(row.provenance)

    @admin.display(description="cut off by GitHub")
    def cut_off(self, row: PullRequest) -> str:
        return ", ".join(row.truncated) or "none"

    @admin.display(description="lists that GitHub counts differently")
    def disagreements(self, row: PullRequest) -> str:
        return ", ".join(row.disagreeing) or "none"

    @admin.action(description="Fetch again", permissions=["view"])
    def fetch_selected_again(self, request: HttpRequest, rows: QuerySet[PullRequest]) -> None:
        fetch_again(request, rows.iterator(chunk_size=AT_ONCE))

    @action(  # type: ignore[untyped-decorator]
        description="Fetch again",
        url_path="fetch-again",
        icon="cloud_download",
        # A dialog sends a POST: following a link must not change anything.
        dialog={
            "title": "Fetch again?",
            "description": "All its data are fetched from GitHub and verified again.",
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
