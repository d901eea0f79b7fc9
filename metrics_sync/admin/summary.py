"""The summary that the admin opens with, as its template shows it."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from metrics_sync.admin.labels import (
    COLOURS,
    UNKNOWN,
    describe_budget,
    name_credential_state,
    show_label,
    show_moment,
    show_table,
)
from metrics_sync.admin.scoping import list_teams
from metrics_sync.dashboard import Summary, summarise
from metrics_sync.models import IntegrationCredential, PullRequest

METRICS = {
    "review_rounds": "Review rounds",
    "avg_fix_response_hours": "Hours to answer a request",
    "commits_after_first_review": "Commits after the first review",
    "total_comments": "Comments",
}


def add_dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add the summary of the user's teams to the context of the admin's index."""
    teams = list_teams(request)
    summary = summarise(teams, now=timezone.now())
    return {
        **context,
        "title": "Summary",
        "summary": summary,
        "team_slugs": list(teams.values_list("slug", flat=True)[:2]),
        "revoked": [row for row in summary.credentials if row.revoked_at],
        "statuses": _build_statuses(summary),
        "speed": _build_speed(summary),
        "averages": [(title, _round(summary.averages[name])) for name, title in METRICS.items()],
        "incomplete": _show_incomplete(summary.incomplete),
        "latest": _show_latest(summary.latest),
        "budgets": _show_budgets(summary.credentials),
    }


def _build_statuses(summary: Summary) -> list[dict[str, Any]]:
    url = reverse("admin:metrics_sync_pullrequest_changelist")
    return [
        {
            "text": f"{count} {status}",
            "colour": COLOURS.get(status),
            "url": f"{url}?state__exact=merged&sync_status__exact={status}",
        }
        for status, count in sorted(summary.statuses.items())
    ]


def _build_speed(summary: Summary) -> list[dict[str, Any]]:
    shares = {
        "Complete within 60 seconds": summary.share_within_minute,
        "Complete within 5 minutes": summary.share_within_five_minutes,
    }
    times = {
        "Median time to complete": summary.median,
        "9 of 10 are complete within": summary.p90,
    }
    return [
        *({"title": title, **_show_share(share)} for title, share in shares.items()),
        *({"title": title, "value": _show_duration(time)} for title, time in times.items()),
    ]


def _show_share(share: float | None) -> dict[str, Any]:
    # Rounded down: 100 % says that not one was late.
    percent = None if share is None else int(share * 100)
    return {"value": UNKNOWN if percent is None else f"{percent} %", "percent": percent}


def _show_duration(duration: timedelta | None) -> str:
    if duration is None:
        return UNKNOWN
    seconds = duration.total_seconds()
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _round(mean: float | None) -> str:
    return UNKNOWN if mean is None else f"{mean:.1f}"


def _show_incomplete(rows: Iterable[PullRequest]) -> SafeString:
    headers = ["pull request", "team", "status", "merged at", "reason"]
    return show_table(
        headers,
        [
            [
                _link("pullrequest", row),
                row.team,
                show_label(row.sync_status),
                show_moment(row.merged_at),
                Truncator(row.sync_error).chars(160),
            ]
            for row in rows
        ],
        fills_card=True,
    )


def _show_latest(rows: Iterable[PullRequest]) -> SafeString:
    headers = ["pull request", "team", "status", "merged at", "complete after"]
    return show_table(
        [*headers, "rounds", "hours to answer", "commits after review", "comments"],
        [
            [
                _link("pullrequest", row),
                row.team,
                show_label(row.sync_status),
                show_moment(row.merged_at),
                _show_time_to_complete(row),
                *(_show_known(getattr(row, name)) for name in METRICS),
            ]
            for row in rows
        ],
        fills_card=True,
    )


def _show_time_to_complete(row: PullRequest) -> str:
    if row.completed_at is None or row.merged_at is None:
        return UNKNOWN
    return _show_duration(row.completed_at - row.merged_at)


def _show_known(value: Any) -> Any:
    return UNKNOWN if value is None else value


def _show_budgets(rows: Iterable[IntegrationCredential]) -> SafeString:
    return show_table(
        ["token", "state", "requests left"],
        [
            [
                _link("integrationcredential", row),
                show_label(name_credential_state(row)),
                describe_budget(row),
            ]
            for row in rows
        ],
        fills_card=True,
    )


def _link(model: str, row: PullRequest | IntegrationCredential) -> SafeString:
    url = reverse(f"admin:metrics_sync_{model}_change", args=[row.pk])
    title = row.title if isinstance(row, PullRequest) else ""
    return format_html(
        '<a href="{}" title="{}" class="text-link whitespace-nowrap">{}</a>', url, title, row
    )
