"""The dashboard's tables of single rows: merges and tokens."""

from collections.abc import Sequence
from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from metrics_sync.admin.labels import (
    UNKNOWN,
    describe_budget,
    find_time_to_complete,
    name_credential_state,
    show_in_one_unit,
    show_label,
    show_long,
    show_on_one_line,
    show_table,
    to_duration,
)
from metrics_sync.models import IntegrationCredential, PullRequest


def show_incomplete(rows: Sequence[PullRequest]) -> SafeString:
    return show_table(
        "Incomplete merges",
        ["pull request", "team", "status", "merged at", "reason"],
        [
            [
                _link("pullrequest", row),
                row.team,
                show_label(row.sync_status),
                show_on_one_line(row.merged_at),
                show_long(row.sync_error, most=160),
            ]
            for row in rows
        ],
        keys=[row.pk for row in rows],
        fills_card=True,
    )


def show_latest(rows: Sequence[PullRequest]) -> SafeString:
    headers = ["pull request", "title", "status", "merged at", "complete after"]
    took = show_in_one_unit([find_time_to_complete(row) for row in rows])
    waits = show_in_one_unit([to_duration(row.review_wait_hours) for row in rows])
    return show_table(
        "Latest merges",
        [*headers, "first review after", "rounds", "comments"],
        [
            [
                _link("pullrequest", row),
                show_long(row.title, most=80),
                show_label(row.sync_status),
                show_on_one_line(row.merged_at),
                complete_after,
                review_after,
                _show_known(row.review_rounds),
                _show_known(row.total_comments),
            ]
            for row, complete_after, review_after in zip(rows, took, waits, strict=True)
        ],
        keys=[row.pk for row in rows],
        fills_card=True,
    )


def show_slowest(rows: Sequence[PullRequest]) -> SafeString:
    waits = show_in_one_unit([to_duration(row.review_wait_hours) for row in rows])
    cycles = show_in_one_unit([to_duration(row.cycle_time_hours) for row in rows])
    return show_table(
        "Slowest reviews",
        ["pull request", "first review after", "cycle time", "rounds"],
        [
            [
                _link("pullrequest", row),
                wait,
                cycle,
                _show_known(row.review_rounds),
            ]
            for row, wait, cycle in zip(rows, waits, cycles, strict=True)
        ],
        keys=[row.pk for row in rows],
        fills_card=True,
    )


def _show_known(value: Any) -> Any:
    return UNKNOWN if value is None else value


def show_budgets(rows: Sequence[IntegrationCredential]) -> SafeString:
    return show_table(
        "Tokens",
        ["token", "for", "state", "requests left"],
        [
            [
                _link("integrationcredential", row),
                ", ".join(one.organization_slug for one in row.integrations.all()) or UNKNOWN,
                show_label(name_credential_state(row)),
                describe_budget(row),
            ]
            for row in rows
        ],
        keys=[row.pk for row in rows],
        fills_card=True,
    )


def _link(model: str, row: PullRequest | IntegrationCredential) -> SafeString:
    url = reverse(f"admin:metrics_sync_{model}_change", args=[row.pk])
    title = row.title if isinstance(row, PullRequest) else ""
    return format_html('<a href="{}" title="{}" class="text-link long">{}</a>', url, title, row)
