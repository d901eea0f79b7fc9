"""Cuts lists into pages, and writes the `Link` header that connects them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import urlencode

DEFAULT_PER_PAGE = 30
MAX_PER_PAGE = 100

Item = TypeVar("Item")


def read_number(text: str | None, *, default: int) -> int:
    """Return a positive number; anything else is ignored, as GitHub does."""
    return int(text) if text and text.isdecimal() and int(text) > 0 else default


def read_per_page(query: Mapping[str, str]) -> int:
    return min(read_number(query.get("per_page"), default=DEFAULT_PER_PAGE), MAX_PER_PAGE)


def cut_page(
    items: Sequence[Item], query: Mapping[str, str], *, url: str
) -> tuple[Sequence[Item], str]:
    """Return the page that the query asks for and its `Link`, empty if there is one page only."""
    per_page = read_per_page(query)
    page = read_number(query.get("page"), default=1)
    last = max(1, -(-len(items) // per_page))
    links = {}
    if page > 1:
        links["prev"] = min(page - 1, last)
    if page < last:
        links |= {"next": page + 1, "last": last}
    if page > last:
        links["last"] = last
    if page > 1:
        links["first"] = 1
    shown = items[(page - 1) * per_page : page * per_page]
    return shown, _join_links(links, query, url=url)


def _join_links(links: Mapping[str, int], query: Mapping[str, str], *, url: str) -> str:
    def address(page: int) -> str:
        return f"{url}?{urlencode({**query, 'page': page})}"

    return ", ".join(f'<{address(page)}>; rel="{rel}"' for rel, page in links.items())
