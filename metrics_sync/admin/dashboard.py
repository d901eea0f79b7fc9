"""Builds the context of the dashboard, the admin's first page."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from metrics_sync.admin.charts import Chart, draw_classes, draw_trend
from metrics_sync.admin.labels import (
    COLOURS,
    UNKNOWN,
    describe_budget,
    name_credential_state,
    show_duration,
    show_hours,
    show_label,
    show_long,
    show_on_one_line,
    show_table,
    show_time_to_complete,
)
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import (
    CurrentState,
    Selection,
    Summary,
    read_current_state,
    summarise,
)
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import IntegrationCredential, PullRequest
from metrics_sync.operate.doctor import Finding
from metrics_sync.operate.doctor.processes import check_work

#: The share of merges that are to be complete within five minutes.
PROMISE = 0.99

CLASSES = ("≤ 5 s", "≤ 15 s", "≤ 60 s", "≤ 5 min", "≤ 1 h", "longer", "not yet")


def add_dashboard_context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the user selected of their teams to the context of the admin's index."""
    form = SelectionForm(request)
    return {**context, **build_content(request, form, read_current(request, form)), "form": form}


@dataclass(frozen=True, slots=True)
class Current:
    """The part of the dashboard that every poll reads, which is cheap."""

    selection: Selection
    state: CurrentState
    troubles: list[Finding]
    revoked: list[IntegrationCredential]

    @property
    def fingerprint(self) -> str:
        """A short text that changes as soon as the page has something else to show.

        At the latest in the next minute: shares change with time alone.
        """
        rows = [
            (row.pk, row.sync_status, row.sync_error, row.completed_at)
            for row in (*self.state.latest, *self.state.incomplete)
        ]
        seen = (
            f"{self.selection.now:%Y-%m-%d %H:%M}",
            sorted(self.state.statuses.items()),
            self.state.refetched,
            rows,
            [finding.text for finding in self.troubles],
            [row.pk for row in self.revoked],
        )
        return sha256(repr(seen).encode()).hexdigest()[:16]


def read_current(request: HttpRequest, form: SelectionForm) -> Current:
    """Read the part that decides whether anything changed: four queries and a few Redis calls."""
    selection = form.select()
    credentials = IntegrationCredential.objects.filter(team__in=selection.teams)
    revoked = credentials.exclude(revoked_at=None).defer("access_token").select_related("team")
    return Current(
        selection=selection,
        state=read_current_state(selection),
        troubles=_find_troubles() if request.user.is_superuser else [],
        revoked=list(revoked.order_by("pk")),
    )


def build_content(request: HttpRequest, form: SelectionForm, current: Current) -> dict[str, Any]:
    """Return the context of all that follows from the data."""
    selection, state = current.selection, current.state
    summary = summarise(selection)
    query = request.GET.copy()
    query["seen"] = current.fingerprint
    asked = request.GET.copy()
    asked.pop("seen", None)
    return {
        "title": "Dashboard",
        "form": form,
        "state": state,
        "selection": selection,
        "summary": summary,
        "team_slugs": [team.slug for team in selection.teams[:2]],
        "troubles": current.troubles,
        "disagreeing": selection.merges.disagreeing().order_by().count(),
        "revoked": current.revoked,
        "statuses": _build_statuses(request, selection, state),
        "incomplete": _show_incomplete(state.incomplete),
        "latest": _show_latest(state.latest),
        "figures": _build_figures(summary),
        "trends": _draw_trends(summary),
        "review_note": _describe_reviews(summary),
        "classes": draw_classes(
            "Time to complete", CLASSES, [*summary.classes, summary.not_complete]
        ),
        "slowest": _show_slowest(summary.slowest),
        "budgets": _show_budgets(summary.credentials),
        "live_url": f"{reverse('metrics_sync:dashboard-live')}?{query.urlencode()}",
        "reconcile_url": f"{reverse('metrics_sync:dashboard-reconcile')}?{asked.urlencode()}",
    }


def _find_troubles() -> list[Finding]:
    """Return the problems that stop all work; only superusers can solve them."""
    try:
        return [finding for finding in check_work() if not finding.is_ok]
    except QueueUnavailableError as error:
        return [Finding("redis", str(error), "Start Redis, or correct REDIS_URL.")]


def _build_statuses(
    request: HttpRequest, selection: Selection, state: CurrentState
) -> list[dict[str, Any]]:
    url = reverse("admin:metrics_sync_pullrequest_changelist")
    selected = {"state__exact": "merged", "merged_at__gte": selection.since.isoformat()}
    if selection.repository:
        selected["repository"] = selection.repository
    if request.GET.get("team") and (team := selection.teams.first()):
        selected["team__id__exact"] = str(team.pk)
    return [
        {
            "text": f"{count} {status}",
            "colour": COLOURS.get(status),
            "url": f"{url}?{urlencode({**selected, 'sync_status__exact': status})}",
        }
        for status, count in sorted(state.statuses.items())
    ]


def _build_figures(summary: Summary) -> list[dict[str, Any]]:
    time, within = summary.time_to_complete, summary.share_within_five_minutes
    promise = {}
    if within is not None:
        is_kept = within > PROMISE
        promise = {
            "promise": f"over {PROMISE:.0%}" if is_kept else f"not over {PROMISE:.0%}",
            "colour": "success" if is_kept else "danger",
        }
    return [
        {"title": "Complete within 60 seconds", **_show_share(summary.share_within_minute)},
        {"title": "Complete within 5 minutes", **_show_share(within), **promise},
        {"title": "Median time to complete", "value": show_duration(time.median)},
        {"title": "9 of 10 are complete within", "value": show_duration(time.p90)},
    ]


def _show_share(share: float | None) -> dict[str, Any]:
    # Rounded down: 100 % says that not one was late.
    percent = None if share is None else int(share * 1000) / 10
    return {"value": UNKNOWN if percent is None else f"{percent:g} %", "percent": percent}


def _describe_reviews(summary: Summary) -> str:
    """Say which pull requests the figures of reviews are of."""
    sentences = []
    if summary.share_without_review is not None:
        share = f"{summary.share_without_review:.0%}".replace("%", " %")
        sentences.append(f"{share} merged without review; rounds and waits are of the others.")
    if summary.bots_left_out:
        sentences.append(f"Pull requests by bots are left out: {summary.bots_left_out}.")
    return " ".join(sentences)


def _draw_trends(summary: Summary) -> list[Chart]:
    titles = {
        "review_wait_hours": "Time to first review",
        "avg_fix_response_hours": "Time to answer requests",
        "review_rounds": "Review rounds",
        "cycle_time_hours": "Cycle time",
    }
    return [
        draw_trend(
            title,
            summary.weeks,
            metric,
            whole=summary.metrics[metric],
            is_in_hours=metric.endswith("_hours"),
        )
        for metric, title in titles.items()
    ]


def _show_incomplete(rows: Sequence[PullRequest]) -> SafeString:
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


def _show_latest(rows: Sequence[PullRequest]) -> SafeString:
    headers = ["pull request", "title", "status", "merged at", "complete after"]
    return show_table(
        "Latest merges",
        [*headers, "first review after", "rounds", "comments"],
        [
            [
                _link("pullrequest", row),
                show_long(row.title, most=80),
                show_label(row.sync_status),
                show_on_one_line(row.merged_at),
                show_time_to_complete(row),
                show_hours(row.review_wait_hours),
                _show_known(row.review_rounds),
                _show_known(row.total_comments),
            ]
            for row in rows
        ],
        keys=[row.pk for row in rows],
        fills_card=True,
    )


def _show_slowest(rows: Sequence[PullRequest]) -> SafeString:
    return show_table(
        "Slowest reviews",
        ["pull request", "first review after", "cycle time", "rounds"],
        [
            [
                _link("pullrequest", row),
                show_hours(row.review_wait_hours),
                show_hours(row.cycle_time_hours),
                _show_known(row.review_rounds),
            ]
            for row in rows
        ],
        keys=[row.pk for row in rows],
        fills_card=True,
    )


def _show_known(value: Any) -> Any:
    return UNKNOWN if value is None else value


def _show_budgets(rows: Sequence[IntegrationCredential]) -> SafeString:
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
