"""The table that compares teams, repositories, authors or reviewers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from metrics_sync.admin.changes import MORE_MERGES, SHARE_UNREVIEWED, show_change
from metrics_sync.admin.definitions import DEFINITIONS, show_share
from metrics_sync.admin.drill_down import narrow
from metrics_sync.admin.leading import Leads, link
from metrics_sync.admin.paging import Page, cut_page
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.admin.sorting import (
    ASPECTS,
    CHANGE,
    DEFAULT_ORDER,
    MERGED,
    NAME,
    UNREVIEWED,
    sort_compared,
)
from metrics_sync.dashboard import COMPARED, By, Compared, Selection, Spread, compare

#: How many rows a page of the table has.
ROWS = 10
TITLES = {
    "review_wait_hours": "First review",
    "review_rounds": "Rounds",
    "cycle_time_hours": "Cycle time",
    "ci_duration_hours": "CI",
}
ASPECT_NAMES = {"median": "median", "p90": "9 of 10", CHANGE: "change"}


@dataclass(frozen=True, slots=True)
class Order:
    """A link that sorts by one aspect of a column; `sign` says how it is sorted now."""

    text: str
    url: str
    sign: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    definition: str
    orders: list[Order]

    @property
    def sorted(self) -> str:
        """What `aria-sort` says of the column."""
        signs = [order.sign for order in self.orders if order.sign]
        return {"▲": "ascending", "▼": "descending"}[signs[0]] if signs else "none"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One page of the table, and the ways to its other pages."""

    choices: list[tuple[str, str, bool]]
    columns: list[Column]
    page: Page


def build_comparison(form: SelectionForm, selection: Selection, leads: Leads) -> Comparison:
    """Build the table for what the address says."""
    by, order = find_by(form), find_order(form)
    rows = sort_compared(compare(selection, by), order)
    page = cut_page(rows, form, ROWS, lambda number: f"?{form.change(page=str(number))}#compare")
    columns = _build_columns(form, by, order)
    titles = [column.title for column in columns]
    cells = _show_rows(page.rows, by, form, leads)
    return Comparison(
        choices=[
            (f"by {choice}", f"?{form.change(by=choice.value, sort='')}#compare", choice is by)
            for choice in By
        ],
        columns=columns,
        page=replace(page, rows=[list(zip(titles, one, strict=True)) for one in cells]),
    )


def find_by(form: SelectionForm) -> By:
    """Return what is compared: what was chosen, or repositories where there is one team only."""
    if form.is_valid() and (chosen := form.cleaned_data["by"]):
        return By(chosen)
    return By.REPOSITORY if len(form.teams) == 1 or form.find_team() else By.TEAM


def find_order(form: SelectionForm) -> str:
    return (form.is_valid() and form.cleaned_data["sort"]) or DEFAULT_ORDER


def _build_columns(form: SelectionForm, by: By, order: str) -> list[Column]:
    def make(text: str, column: str) -> Order:
        is_now = order.removeprefix("-") == column
        sign = "" if not is_now else "▼" if order.startswith("-") else "▲"
        # Names begin with A and figures with the largest; the same link turns that round.
        first, second = (column, f"-{column}") if column == NAME else (f"-{column}", column)
        return Order(
            text, f"?{form.change(sort=second if order == first else first)}#compare", sign
        )

    return [
        Column(by.capitalize(), "", [make("name", NAME)]),
        Column("Merged", "", [make("count", MERGED), make("change", f"{MERGED}.{CHANGE}")]),
        *(
            Column(
                TITLES[metric],
                DEFINITIONS[metric].text,
                [make(ASPECT_NAMES[aspect], f"{metric}.{aspect}") for aspect in ASPECTS],
            )
            for metric in COMPARED
        ),
        Column(
            "Without review",
            "",
            [make("share", UNREVIEWED), make("change", f"{UNREVIEWED}.{CHANGE}")],
        ),
    ]


def _show_rows(
    rows: Sequence[Compared], by: By, form: SelectionForm, leads: Leads
) -> Iterator[list[SafeString]]:
    """Yield the cells of each row; the median and the 90th percentile of a metric in one unit."""
    spreads = [[row.now.get_spread(metric) for row in rows] for metric in COMPARED]
    texts = [
        DEFINITIONS[metric].show_column([*(s.median for s in column), *(s.p90 for s in column)])
        for metric, column in zip(COMPARED, spreads, strict=True)
    ]
    for place, row in enumerate(rows):
        pairs = [(column[place], column[len(rows) + place]) for column in texts]
        yield list(_show_row(row, by, form, leads, pairs))


def _show_row(
    row: Compared, by: By, form: SelectionForm, leads: Leads, texts: Sequence[tuple[str, str]]
) -> Iterator[SafeString]:
    merges = leads.to_reviews(**_narrow(row, by, form))
    now, before = row.now, row.before
    yield _lead_on(row, by, form, merges)
    yield _show_cell(
        link(merges, now.merged),
        show_change(now.merged, before.merged, MORE_MERGES, str, is_brief=True),
    )
    for metric, shown in zip(COMPARED, texts, strict=True):
        url = narrow(merges, known=metric)
        yield _show_metric(metric, now.get_spread(metric), before.get_spread(metric), url, shown)
    share, earlier = now.share_without_review, before.share_without_review
    yield _show_cell(
        link(narrow(merges, review="without"), show_share(share))
        if now.without_review
        else show_share(share),
        show_change(share, earlier, SHARE_UNREVIEWED, show_share, is_brief=True),
        f"{now.without_review} of {now.review_is_known}",
    )


def _show_metric(
    metric: str, now: Spread, before: Spread, url: str, texts: tuple[str, str]
) -> SafeString:
    show, words = DEFINITIONS[metric].show, DEFINITIONS[metric].words
    median, p90 = texts
    if not now.count:
        return _show_cell(median, "")
    return _show_cell(
        link(url, median),
        show_change(now.median, before.median, words, show, is_brief=True),
        f"9 of 10: {p90}, of {now.count}",
    )


def _show_cell(value: Any, change: Any, remark: str = "") -> SafeString:
    return format_html(
        '<span class="cell"><b>{}</b><span class="quiet">{}</span>{}</span>', value, remark, change
    )


def _narrow(row: Compared, by: By, form: SelectionForm) -> dict[str, Any]:
    """Return what narrows a list down to the pull requests of a row."""
    if by is By.TEAM:
        return {"team": next(team for team in form.teams if team.slug == row.key)}
    return {by.value: row.key}


def _lead_on(row: Compared, by: By, form: SelectionForm, merges: str) -> SafeString:
    """Lead to the dashboard of a team or repository, and to the list of a person."""
    if by is By.TEAM:
        return link(f"?{form.change(team=row.key, by='', sort='')}", row.name)
    if by is By.REPOSITORY:
        name = form.find_repository(row.key)
        if name:
            return link(f"?{form.change(repository=name, by=By.AUTHOR.value, sort='')}", row.name)
    return link(merges, row.name)
