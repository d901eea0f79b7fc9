"""The orders of the table that compares: by name, by a figure, or by how much it changed."""

from collections.abc import Iterable, Iterator
from typing import Any

from metrics_sync.admin.changes import measure_change
from metrics_sync.dashboard import COMPARED, Compared, Numbers

#: Unknown values come last; so does a column of figures, largest first, unless asked otherwise.
DEFAULT_ORDER = "-merged"
NAME, MERGED, UNREVIEWED, CHANGE = "name", "merged", "without_review", "change"
#: The aspects of a metric, of which the first is the one that its column is sorted by.
ASPECTS = ("median", "p90", CHANGE)


def list_columns() -> Iterator[str]:
    """Yield what a table can be sorted by, e.g. `cycle_time_hours.p90`."""
    yield from (NAME, MERGED, f"{MERGED}.{CHANGE}", UNREVIEWED, f"{UNREVIEWED}.{CHANGE}")
    for metric in COMPARED:
        yield from (f"{metric}.{aspect}" for aspect in ASPECTS)


def list_orders() -> list[tuple[str, str]]:
    return [(order, order) for column in list_columns() for order in (column, f"-{column}")]


def sort_compared(rows: Iterable[Compared], order: str) -> list[Compared]:
    """Sort by a column, descending with a minus before it; unknown last, equals by name."""
    column = order.removeprefix("-")
    by_name = sorted(rows, key=lambda row: row.name.lower())
    if column == NAME:
        return by_name[::-1] if order.startswith("-") else by_name
    values = [(_read(row, column), row) for row in by_name]
    known = [(value, row) for value, row in values if value is not None]
    known.sort(key=lambda item: item[0], reverse=order.startswith("-"))
    return [row for _, row in known] + [row for value, row in values if value is None]


def _read(row: Compared, column: str) -> Any:
    name, _, aspect = column.partition(".")
    if aspect == CHANGE:
        return _measure_change(_get(row.now, name), _get(row.before, name), name)
    return _get(row.now, name, aspect)


def _measure_change(now: Any, before: Any, name: str) -> float | None:
    if name != UNREVIEWED:
        return measure_change(now, before)
    return None if now is None or before is None else now - before


def _get(numbers: Numbers, name: str, aspect: str = "median") -> Any:
    if name == MERGED:
        return numbers.merged
    if name == UNREVIEWED:
        return numbers.share_without_review
    return getattr(numbers.get_spread(name), aspect)
