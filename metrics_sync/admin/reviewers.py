"""The page of reviewers: how much each reviews, how soon they answer, and who waits for them."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html
from django.views.decorators.http import require_GET

from metrics_sync.admin.drill_down import narrow
from metrics_sync.admin.labels import show_in_one_unit, show_table
from metrics_sync.admin.leading import Leads, link
from metrics_sync.admin.paging import cut_page
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import Reviewer, Selection, read_open, read_reviewers

#: How many rows a page of the table has.
ROWS = 50
HEADERS = [
    "reviewer",
    "team",
    "reviews",
    "pull requests",
    "waiting now",
    "median to answer",
    "9 of 10 within",
    "answers",
]


@admin.site.admin_view
@require_GET
def show_reviewers(request: HttpRequest) -> HttpResponse:
    """Answer with the reviewers of the user's teams in a period, who reviewed most first."""
    form = SelectionForm(request)
    selection = form.select()
    state = read_open(
        selection.teams, repository=selection.repository, with_bots=selection.with_bots
    )
    reviewers = read_reviewers(selection, state)
    page = cut_page(reviewers, form, ROWS, lambda number: f"?{form.change(page=str(number))}")
    context = {
        **admin.site.each_context(request),
        "title": "Reviewers",
        "form": form,
        "filters": form.filters,
        "page": page,
        "table": show_table(
            "Reviewers",
            HEADERS,
            _list_rows(page.rows, Leads.of(form, selection), selection),
            keys=[f"{one.team.pk}-{one.github_id}" for one in page.rows],
            fills_card=True,
        ),
    }
    return render(request, "metrics_sync/reviewers.html", context)


def _list_rows(
    reviewers: Sequence[Reviewer], leads: Leads, selection: Selection
) -> list[list[Any]]:
    # Both columns have one unit, so that they compare.
    durations = show_in_one_unit([one.median for one in reviewers] + [one.p90 for one in reviewers])
    medians, p90s = durations[: len(reviewers)], durations[len(reviewers) :]
    return [
        _build_row(one, median, p90, leads, selection)
        for one, median, p90 in zip(reviewers, medians, p90s, strict=True)
    ]


def _build_row(
    one: Reviewer, median: str, p90: str, leads: Leads, selection: Selection
) -> list[Any]:
    merges = leads.to_reviews(team=one.team)
    reviewed = narrow(merges, reviewer=one.github_id)
    answered = narrow(merges, answered_by=one.github_id)
    behind = f"{one.pull_requests} pull request{pluralize(one.pull_requests)}"
    return [
        format_html('<span class="names">{}</span>', one.login),
        one.team,
        _lead(reviewed, one.reviews, title=f"The reviews are of {behind}."),
        _lead(reviewed, one.pull_requests),
        _lead(_find_waiting(one, selection), one.open_requests),
        median,
        p90,
        _lead(answered, one.answers),
    ]


def _lead(url: str, count: int, *, title: str = "") -> Any:
    return link(url, count, title=title) if count else 0


def _find_waiting(one: Reviewer, selection: Selection) -> str:
    """Return the address of the open pull requests that wait for a reviewer."""
    query = {
        "team": one.team.slug,
        "repository": selection.repository,
        "bots": "with" if selection.with_bots else "",
        "asked": one.github_id,
    }
    chosen = {name: value for name, value in query.items() if value}
    return f"{reverse('metrics_sync:waiting')}?{urlencode(chosen)}"
