"""Builds the context of the dashboard, the admin's first page."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from metrics_sync.admin.charts import draw_classes
from metrics_sync.admin.comparing import build_comparison
from metrics_sync.admin.dashboard_tables import (
    show_budgets,
    show_incomplete,
    show_latest,
    show_slowest,
)
from metrics_sync.admin.figures import (
    CLASS_NAMES,
    build_figures,
    build_review_figures,
    describe_period,
    draw_trends,
    list_more_trends,
)
from metrics_sync.admin.labels import COLOURS
from metrics_sync.admin.leading import Leads
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import (
    CurrentState,
    Selection,
    read_current_state,
    summarise,
)
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import IntegrationCredential
from metrics_sync.operate.doctor import Finding
from metrics_sync.operate.doctor.processes import check_work


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
    selection, leads = current.selection, Leads.of(form, current.selection)
    return {
        "title": "Dashboard",
        "form": form,
        "selection": selection,
        "period": describe_period(selection),
        "team_slugs": [team.slug for team in selection.teams[:2]],
        "selected_team": leads.team,
        "bots_left_out": 0 if selection.with_bots else current.state.by_bots,
        "disagreeing": selection.merges.disagreeing().order_by().count(),
        "comparison": build_comparison(form, selection, leads),
        **_build_current(current, leads),
        **_build_figures(form, selection, leads),
        **_build_addresses(request, form, current.fingerprint),
    }


def _build_current(current: Current, leads: Leads) -> dict[str, Any]:
    """Return what is fetched now, and what stops it."""
    state = current.state
    return {
        "state": state,
        "troubles": current.troubles,
        "revoked": current.revoked,
        "statuses": _build_statuses(state, leads),
        "incomplete": show_incomplete(state.incomplete),
        "latest": show_latest(state.latest),
    }


def _build_figures(form: SelectionForm, selection: Selection, leads: Leads) -> dict[str, Any]:
    """Return the figures of the period, beside those of the period before, and its charts."""
    summary = summarise(selection, form.metrics)
    totals, before = summary.totals, summary.before
    trends = draw_trends(form, selection, summary, leads)
    return {
        "summary": summary,
        "figures": build_figures(totals, before, leads),
        "review_figures": build_review_figures(totals, before, leads),
        "trends": trends,
        "more_trends": list_more_trends(form),
        "has_goals": any(chart.goal for chart in trends),
        "classes": draw_classes(
            "Time to complete",
            CLASS_NAMES,
            [*totals.classes, totals.not_complete],
            [leads.to_merges(took=place) for place in range(len(CLASS_NAMES))],
        ),
        "slowest": show_slowest(summary.slowest),
        "budgets": show_budgets(summary.credentials),
    }


def _build_addresses(request: HttpRequest, form: SelectionForm, seen: str) -> dict[str, str]:
    """Return where the page leads with the same selection; polls say what the page has `seen`."""
    asked = request.GET.copy()
    asked.pop("seen", None)
    poll = asked.copy()
    poll["seen"] = seen
    csv_query = form.change()
    return {
        "goals_url": reverse("admin:metrics_sync_teamgoal_changelist"),
        "compare_csv_url": f"{reverse('metrics_sync:compare-csv')}?{csv_query}",
        "trend_csv_url": f"{reverse('metrics_sync:trend-csv')}?{csv_query}",
        "live_url": f"{reverse('metrics_sync:dashboard-live')}?{poll.urlencode()}",
        "reconcile_url": f"{reverse('metrics_sync:dashboard-reconcile')}?{asked.urlencode()}",
    }


def _find_troubles() -> list[Finding]:
    """Return the problems that stop all work; only superusers can solve them."""
    try:
        return [finding for finding in check_work() if not finding.is_ok]
    except QueueUnavailableError as error:
        return [Finding("redis", str(error).rstrip("."), "Start Redis, or correct REDIS_URL.")]


def _build_statuses(state: CurrentState, leads: Leads) -> list[dict[str, Any]]:
    return [
        {
            "text": f"{count} {status}",
            "colour": COLOURS.get(status),
            "url": leads.to_merges(sync_status=status),
        }
        for status, count in sorted(state.statuses.items())
    ]
