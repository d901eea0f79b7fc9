"""The page of open pull requests: those that wait for a review, a merge or their author."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET

from metrics_sync.admin.labels import (
    UNKNOWN,
    show_long,
    show_on_one_line,
    show_table,
)
from metrics_sync.admin.paging import cut_page
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import OpenState, Waiting, read_open
from metrics_sync.metrics import Person, Turn, Wait

#: How many rows a page of a table has; several tables show the first page of each.
ROWS = 25
#: The tables of the page: whose turn, the title, and what those named are.
TABLES = (
    (Turn.REVIEW, "Wait for a review", "asked"),
    (Turn.MERGE, "Approved and not merged", "approved by"),
    (Turn.AUTHOR, "Requested changes unanswered", "requested by"),
)
#: The filters that matter where there is no period.
FILTERS = ("team", "repository", "bots")


@admin.site.admin_view
@require_GET
def show_waiting(request: HttpRequest) -> HttpResponse:
    """Answer with the open pull requests of the user's teams, the longest waits first."""
    form = SelectionForm(request)
    selection = form.select()
    state = read_open(
        selection.teams, repository=selection.repository, with_bots=selection.with_bots
    )
    asked, turn = request.GET.get("asked", ""), request.GET.get("turn", "")
    state = _keep_asked(state, asked) if asked else state
    shown = [table for table in TABLES if turn in ("", table[0])]
    if not shown:
        raise Http404(f"No table is of the turn “{turn}”.")
    context = {
        **admin.site.each_context(request),
        "title": "Waiting now",
        "form": form,
        "filters": [form[name] for name in FILTERS],
        "tables": [_build_table(state, table, form, asked) for table in shown],
        "is_of_one_turn": bool(turn),
        "others": _describe_others(state),
        "asked": _find_login(state, asked),
        "unlisted": state.unlisted,
    }
    return render(request, "metrics_sync/waiting.html", context)


def _keep_asked(state: OpenState, asked: str) -> OpenState:
    """Keep what waits for the review of one account, by GitHub's id."""
    waits = [
        one
        for one in state.turns[Turn.REVIEW]
        if asked in {str(person.github_id) for person in one.wait.people if not person.is_team}
    ]
    return replace(state, turns={turn: waits if turn is Turn.REVIEW else [] for turn in Turn})


def _find_login(state: OpenState, asked: str) -> str:
    """Return the login of the account whose reviews are waited for; empty for nobody."""
    people = (person for one in state.turns[Turn.REVIEW] for person in one.wait.people)
    return next((one.login for one in people if str(one.github_id) == asked), asked)


def _build_table(
    state: OpenState, table: tuple[Turn, str, str], form: SelectionForm, asked: str
) -> dict[str, Any]:
    turn, title, role = table
    kept = urlencode({"turn": turn.value, **({"asked": asked} if asked else {})})

    def find_page(number: int) -> str:
        return f"?{form.change(page=str(number))}&{kept}"

    page = cut_page(state.turns[turn], form, ROWS, find_page)
    rows = [
        [
            _link(one),
            show_long(one.title, most=80),
            one.author_login or UNKNOWN,
            show_on_one_line(one.wait.since),
            _show_people(one.wait),
            one.team,
        ]
        for one in page.rows
    ]
    headers = ["pull request", "title", "author", "since", role, "team"]
    keys = [one.pk for one in page.rows]
    return {
        "title": title,
        "page": page,
        "table": show_table(title, headers, rows, keys=keys, fills_card=True),
    }


def _link(one: Waiting) -> SafeString:
    url = reverse("admin:metrics_sync_pullrequest_change", args=[one.pk])
    return format_html('<a href="{}" class="text-link long">{}</a>', url, one.name)


def _show_people(wait: Wait) -> SafeString | str:
    """Name those of a wait; each with the time where it is not that of the whole wait."""
    if not wait.people:
        return "nobody"
    named = format_html_join(", ", "{}{}", [_name(person, wait) for person in wait.people])
    return format_html('<span class="names">{}</span>', named)


def _name(person: Person, wait: Wait) -> tuple[str, SafeString | str]:
    name = f"team {person.login}" if person.is_team else person.login
    if person.since in (None, wait.since):
        return name, ""
    return name, format_html(" ({})", show_on_one_line(person.since))


def _describe_others(state: OpenState) -> str:
    """Count the open pull requests that are in no table."""
    drafts, commented = len(state.turns[Turn.DRAFT]), len(state.turns[Turn.OPEN])
    parts = [
        (drafts, "drafts"),
        (commented, "reviewed with comments alone, with nobody asked"),
        (state.bots_left_out, "by bots"),
    ]
    return ", ".join(f"{count} {what}" for count, what in parts if count)
