"""The header of a pull request's page: its status, its figures, and the way to GitHub."""

from typing import Any

from django.urls import reverse

from metrics_sync.admin.labels import (
    UNKNOWN,
    find_time_to_complete,
    show_duration,
    show_hours,
    show_label,
    show_on_one_line,
)
from metrics_sync.conf import app_settings
from metrics_sync.dashboard import UNDER_WAY
from metrics_sync.models import PullRequest, TrackedRepository


def find_web_root(api_root: str) -> str:
    """Return the web address that belongs to an API root.

    https://docs.github.com/en/enterprise-server/rest/quickstart
    """
    if api_root.endswith("/api/v3"):
        return api_root.removesuffix("/api/v3")
    return api_root.replace("://api.", "://", 1)


def find_page_at_github(row: PullRequest) -> str:
    """Return the address of a pull request's page at GitHub.

    Without a tracked repository it is that of the default GitHub.
    """
    repositories = TrackedRepository.objects.matching(row).select_related("integration")
    repository = repositories.defer("integration__webhook_secret").first()
    api_root = repository.integration.get_api_root() if repository else app_settings.GITHUB_API_URL
    return f"{find_web_root(api_root)}/{row.github_repo}/pull/{row.github_pr_number}"


def build_header(row: PullRequest) -> dict[str, Any]:
    """Return the context of the header of a pull request's page."""
    live_url = reverse("metrics_sync:pull-request-live", args=[row.pk])
    return {
        "row": row,
        "status": show_label(row.sync_status),
        "merged_at": show_on_one_line(row.merged_at),
        "page_at_github": find_page_at_github(row),
        "live_url": f"{live_url}?seen={row.sync_status}" if row.sync_status in UNDER_WAY else "",
        "figures": {
            "First review after": show_hours(row.review_wait_hours),
            "Review rounds": UNKNOWN if row.review_rounds is None else row.review_rounds,
            "Requested changes answered in": show_hours(row.avg_fix_response_hours),
            "Cycle time": show_hours(row.cycle_time_hours),
            "CI at the merge": row.ci_at_merge or UNKNOWN,
            "Data complete after": show_duration(find_time_to_complete(row)),
        }.items(),
    }
