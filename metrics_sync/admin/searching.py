"""Searches pull requests as people name them: by words, a number, a branch or an address."""

from typing import Any

from django.db.models import Q, QuerySet
from django.utils.text import smart_split, unescape_string_literal

from metrics_sync.names import read_address

#: Words are looked for in these; one index of PostgreSQL has them all.
FIELDS = ("title", "github_repo", "author_login", "head_ref")
LARGEST_NUMBER = 2**31 - 1


def search_pull_requests(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """Keep the rows that each word of a search fits; what stands in quotes is one word.

    `#7` is a number, `7` a number or a part of a text, and `acme/anvil#7` or the address of a
    page is one pull request. All else is looked for in title, repository, author and branch,
    in upper and lower case.
    """
    for word in smart_split(term):
        if word.startswith(('"', "'")) and len(word) > 1 and word[0] == word[-1]:
            word = unescape_string_literal(word)  # noqa: PLW2901
        rows = rows.filter(_match(word))
    return rows


def _match(word: str) -> Q:
    number = _read_number(word.removeprefix("#"))
    if number is not None and word.startswith("#"):
        return Q(github_pr_number=number)
    if (one := _match_address(word)) is not None:
        return one
    found = Q() if number is None else Q(github_pr_number=number)
    for field in FIELDS:
        found |= Q(**{f"{field}__icontains": word})
    return found


def _match_address(word: str) -> Q | None:
    """Match what names a repository or a pull request beyond doubt: a branch has slashes, too."""
    try:
        address = read_address(word)
    except ValueError:
        return None
    named = Q(github_repo__iexact=address.full_name)
    if address.number is None:
        return named if address.host else None
    return named & Q(github_pr_number=min(address.number, LARGEST_NUMBER))


def _read_number(word: str) -> int | None:
    is_number = word.isascii() and word.isdecimal() and int(word) <= LARGEST_NUMBER
    return int(word) if is_number else None
