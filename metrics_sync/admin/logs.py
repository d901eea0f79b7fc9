"""The admin's lists of fetch runs and webhook deliveries."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from metrics_sync.admin.child_lists import errors, status
from metrics_sync.admin.columns import show_times
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.labels import show_receipt
from metrics_sync.admin.list_filters import PullRequestFilter
from metrics_sync.admin.scoping import ReadOnly, TeamFilter
from metrics_sync.models import FetchRun, WebhookDelivery


class RecordAdmin(ReadOnly, Guarded):
    fields: ClassVar[list[Any]] = []
    list_filter_submit = True
    show_full_result_count = False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return show_times(self.model, self.fields)

    get_readonly_fields = get_fields


@admin.register(FetchRun)
class FetchRunAdmin(RecordAdmin):
    related = ("team", "pull_request")
    hidden = ("pull_request__receipt", "pull_request__etags")
    list_display = [
        "started_at", "pull_request", "team", status, "finished_at", "requests_made", errors,
    ]  # fmt: skip
    list_filter = [("team", TeamFilter), ("status", ChoicesDropdownFilter), PullRequestFilter]
    search_fields = ["pull_request__github_repo", "pull_request__title", "job_id"]
    fields = [
        "pull_request", "team", status, errors, "started_at", "finished_at", "requests_made",
        "job_id", "receipt_table",
    ]  # fmt: skip

    @admin.display(description="receipt")
    def receipt_table(self, run: FetchRun) -> str:
        return show_receipt(run.receipt)


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(RecordAdmin):
    """Without the payload, which is large: GitHub shows it under the delivery's GUID."""

    related = ("team", "integration__team")
    hidden = ("payload", "integration__webhook_secret")
    list_display = ["received_at", "event", "action", "github_repo", "team", status, "error"]
    list_filter = [("team", TeamFilter), ("status", ChoicesDropdownFilter), "event"]
    search_fields = ["guid", "github_repo"]
    fields = [
        "event", "action", "github_repo", "team", status, "error", "guid", "endpoint",
        "integration", "received_at", "processed_at",
    ]  # fmt: skip
