"""What the dashboard shows as CSV, of the same teams and with the same filters."""

import csv
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from metrics_sync.admin.comparing import find_by, find_order
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.admin.sorting import sort_compared
from metrics_sync.dashboard import (
    COMPARED,
    By,
    Numbers,
    Selection,
    Spread,
    compare,
    read_trend,
)
from metrics_sync.operate.spreadsheets import to_cell

Rows = Iterable[list[Any]]


def _make_view(name: str, build: Callable[[SelectionForm, Selection], Rows]) -> Any:
    @never_cache
    @require_GET
    @admin.site.admin_view
    def send(request: HttpRequest) -> HttpResponseBase:
        form = SelectionForm(request)
        if form.refusal:
            return HttpResponse(form.refusal, status=400, content_type="text/plain; charset=utf-8")
        lines = write_lines(build(form, form.select()))
        headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)

    return send


class _Line:
    """Hands back what a writer writes."""

    def write(self, text: str) -> str:
        return text


def write_lines(rows: Rows) -> Iterator[str]:
    writer = csv.writer(_Line())
    for row in rows:
        # A writer returns what its file does.
        yield str(writer.writerow([to_cell(value) for value in row]))


def _build_comparison(form: SelectionForm, selection: Selection) -> Iterator[list[Any]]:
    """Yield all rows of the table that compares; unknown is empty."""
    by = find_by(form)
    figures = ["merged", "without_review", "review_is_known"]
    figures += [f"{metric}_{part}" for metric in COMPARED for part in ("median", "p90", "count")]
    first = ["team", "slug"] if by is By.TEAM else [by.value]
    yield [*first, *figures, *(f"{figure}_before" for figure in figures)]
    for row in sort_compared(compare(selection, by), find_order(form)):
        names = [row.name, row.key] if by is By.TEAM else [row.name]
        yield [*names, *_list_numbers(row.now), *_list_numbers(row.before)]


def _list_numbers(numbers: Numbers) -> Iterator[Any]:
    yield from (numbers.merged, numbers.without_review, numbers.review_is_known)
    for metric in COMPARED:
        yield from _list_spread(numbers.get_spread(metric))


def _build_trend(form: SelectionForm, selection: Selection) -> Iterator[list[Any]]:
    """Yield a row for each week or month with the metrics that the page shows."""
    metrics = form.metrics
    parts = [f"{metric}_{part}" for metric in metrics for part in ("median", "p90", "count")]
    yield ["month" if selection.is_in_months else "week_of", "merged", *parts]
    for point in read_trend(selection, metrics):
        spreads = (_list_spread(point.metrics[metric]) for metric in metrics)
        yield [point.begins_on, point.merged, *(value for spread in spreads for value in spread)]


def _list_spread(spread: Spread) -> tuple[Any, ...]:
    return spread.median, spread.p90, spread.count


send_comparison = _make_view("compare", _build_comparison)
send_trend = _make_view("trend", _build_trend)
