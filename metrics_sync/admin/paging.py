"""Cuts long tables into pages, with the addresses of the previous and the next page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator

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
    page = Paginator(rows, most).get_page(number or 1)
    return Page(
        rows=list(page.object_list),
        first=page.start_index(),
        last=page.end_index(),
        total=len(rows),
        previous=address(page.previous_page_number()) if page.has_previous() else "",
        next=address(page.next_page_number()) if page.has_next() else "",
    )
