"""Cuts long tables into pages, with the addresses of the previous and the next page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from metrics_sync.admin.selecting import SelectionForm


@dataclass(frozen=True, slots=True)
class Page:
    """The rows `first` to `last` of `total`; the address of a page that does not exist is empty."""

    rows: Sequence[Any]
    first: int
    last: int
    total: int
    previous: str
    next: str


def cut_page(
    rows: Sequence[Any], form: SelectionForm, most: int, address: Callable[[int], str]
) -> Page:
    """Return the page that the form names, or the last one; a page has `most` rows at most."""
    number = form.cleaned_data.get("page") if form.is_valid() else None
    pages = max(ceil(len(rows) / most), 1)
    page = min(number or 1, pages)
    start = (page - 1) * most
    shown = rows[start : start + most]
    return Page(
        rows=shown,
        first=start + 1,
        last=start + len(shown),
        total=len(rows),
        previous=address(page - 1) if page > 1 else "",
        next=address(page + 1) if page < pages else "",
    )
