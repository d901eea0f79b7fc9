"""Fetches many pull requests with each request, through GitHub's GraphQL API."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from typing import Any

from metrics_sync.exceptions import (
    GitHubError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.github.connections import check_counts, find_connection, find_next_page
from metrics_sync.github.graphql import GraphQL, Refused, UnknownToServerError
from metrics_sync.github.only_in_rest import OnlyInRestError
from metrics_sync.github.queries import (
    FETCHED,
    LEAST_LISTED,
    LISTED,
    LISTING,
    LISTS,
    NextPage,
    build_fetch,
    build_next,
    count_next_points,
    count_points,
    find_lists,
)
from metrics_sync.github.translation import read_listed, read_snapshot
from metrics_sync.snapshot import UNREADABLE, Json, PullRequestItem, Section, Snapshot

logger = logging.getLogger(__name__)

#: How many pull requests a query has; those that failed are asked for again in the next size.
SIZES = (FETCHED, 5, 1)

#: The name, among what a server's schema lacks, for something that every list needs.
WHOLE = "pull_request"


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a repository's merged pull requests; `cursor` leads to the next one, if any.

    `full_name` is the repository's name today, and `github_repo_id` its id. `items` are those of
    the `length` pull requests on the page that merged lately enough; `is_end` says that GitHub has
    no further ones.
    """

    full_name: str
    github_repo_id: int | None
    items: Sequence[PullRequestItem]
    cursor: str | None
    length: int
    total: int
    is_end: bool


async def list_merged(
    graphql: GraphQL, full_name: str, *, since: datetime, cursor: str | None
) -> Listed:
    """List merged pull requests that were merged since then, the latest change first.

    One point for each hundred that changed since then, more where GitHub gives fewer at a time.
    Raises GitHubError.
    """
    size = LISTED
    while True:
        try:
            return await _list_page(graphql, full_name, since=since, size=size, cursor=cursor)
        except RetrySoonError:
            size //= 2
            if size < LEAST_LISTED:
                raise


async def _list_page(
    graphql: GraphQL, full_name: str, *, since: datetime, size: int, cursor: str | None
) -> Listed:
    owner, name = full_name.split("/")
    variables = {"owner": owner, "name": name, "first": size, "after": cursor}
    repository = await graphql.ask(LISTING, cost=1, **variables)
    try:
        page = repository["pullRequests"]
        full_name = _read_new_name(repository, full_name) or full_name
        nodes, more = page["nodes"], page["pageInfo"]
        if more["hasNextPage"] and (len(nodes) < size or not more["endCursor"]):
            raise RetrySoonError("GitHub's list of pull requests has gaps")
        items = [read_listed(node, github_repo=full_name) for node in nodes]
        is_end = not more["hasNextPage"]
        is_last = is_end or any(_changed_before(since, item) for item in items)
        return Listed(
            full_name,
            repository.get("databaseId"),
            [item for item in items if item.merged_at and item.merged_at >= since],
            None if is_last else more["endCursor"],
            length=len(nodes),
            total=page["totalCount"],
            is_end=is_end,
        )
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of pull requests") from error


def _read_new_name(repository: Json, full_name: str) -> str:
    """Return the new name of a renamed repository, else an empty text. Raises ValueError."""
    owner, name = repository["nameWithOwner"].split("/")
    return "" if f"{owner}/{name}".lower() == full_name.lower() else f"{owner}/{name}"


def _changed_before(moment: datetime, item: PullRequestItem) -> bool:
    return item.pr_updated_at is not None and item.pr_updated_at < moment


async def fetch_snapshots(
    graphql: GraphQL, full_name: str, numbers: Sequence[int]
) -> dict[int, Snapshot | GitHubError]:
    """Fetch pull requests by their numbers, up to 25 with each query.

    The value for each number is a snapshot, in which some lists may be left to REST, or the reason
    why the whole pull request is left to REST. Pull requests whose counts do not agree, or that
    were too much for GitHub, are asked for again in smaller queries, which cost no more points than
    the first ones. Raises GitHubError when GitHub refuses.
    """
    found: dict[int, Snapshot | GitHubError] = {n: RetrySoonError("not asked") for n in numbers}
    allowance = max(count_points(len(numbers)), ceil(len(numbers) / SIZES[1]))
    for size in SIZES:
        missing = [n for n, result in found.items() if _may_mend(result)]
        for batch in _cut(missing, size):
            if size < FETCHED:
                allowance -= count_points(len(batch))
                if allowance < 0:
                    return found
            try:
                found |= await _fetch_batch(graphql, full_name, batch)
            except RateLimitedError as error:
                if size == FETCHED or isinstance(error, SecondaryLimitError):
                    raise
                return found
            except RetrySoonError as error:
                found |= dict.fromkeys(batch, error)
    return found


def _may_mend(result: Snapshot | GitHubError) -> bool:
    return isinstance(result, RetrySoonError) and not isinstance(result, OnlyInRestError)


def _cut(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


async def _fetch_batch(
    graphql: GraphQL, full_name: str, numbers: Sequence[int]
) -> dict[int, Snapshot | GitHubError]:
    owner, name = full_name.split("/")
    variables: Mapping[str, Any] = {f"n{index}": n for index, n in enumerate(numbers)}
    repository = await _ask_for_all_known(
        graphql, len(numbers), owner=owner, name=name, **variables
    )
    try:
        moved_to = _read_new_name(repository, full_name)
        nodes = {n: repository.get(f"p{index}") for index, n in enumerate(numbers)}
        doubts = {n: _find_doubt(node, is_alone=len(numbers) == 1) for n, node in nodes.items()}
        sound = {n: node for n, node in nodes.items() if node is not None and doubts[n] is None}
        await _add_pages(graphql, sound, owner=owner, name=name)
        read = {n: _read(node, full_name, moved_to) for n, node in sound.items()}
        return read | {n: doubt for n, doubt in doubts.items() if doubt is not None}
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not of pull requests") from error


async def _ask_for_all_known(graphql: GraphQL, count: int, **variables: Any) -> Json:
    """Ask for pull requests with those of their lists that the server's schema knows.

    A list that its answer says it does not know is not asked for again. Raises
    UnknownToServerError when it lacks something outside of the lists, and always from then on.
    """
    while True:
        if WHOLE in graphql.lacks:
            raise UnknownToServerError(graphql.lacks[WHOLE], lines=())
        query = build_fetch(count, without=frozenset(map(Section, graphql.lacks)))
        try:
            return await graphql.ask(query, cost=count_points(count), **variables)
        except UnknownToServerError as error:
            lists: set[str] = {section.value for section in find_lists(query, error.lines)}
            graphql.lacks |= dict.fromkeys(lists or {WHOLE}, str(error))


async def _add_pages(graphql: GraphQL, nodes: Mapping[int, Any], *, owner: str, name: str) -> None:
    """Add the further pages of lists; a list whose pages do not come is left to REST.

    One query brings the next page of every list that has one.
    """
    pages = [page for number, node in nodes.items() for page in _list_next(number, node)]
    while pages:
        cost = count_next_points(pages)
        try:
            more = await graphql.ask(build_next(pages), cost=cost, owner=owner, name=name)
        except SecondaryLimitError:
            raise
        except GitHubError as error:
            logger.info("Further pages of %s/%s are left to REST: %s", owner, name, error)
            return
        pages = [
            following
            for index, page in enumerate(pages)
            for following in _add_page(page, nodes[page.number], more.get(f"p{index}"))
        ]


def _list_next(number: int, node: Json) -> Iterator[NextPage]:
    """Name the next page of each list that goes on."""
    for section in LISTS:
        if section is not Section.COMMIT_STATUSES:
            yield from _name_next(number, section, node)


def _name_next(number: int, section: Section, node: Json) -> Iterator[NextPage]:
    with suppress(OnlyInRestError, *UNREADABLE):
        if following := find_next_page(section, node):
            cursor, left = following
            yield NextPage(number, section, cursor, LISTS[section].choose_next(left))


def _add_page(page: NextPage, node: Json, more: Any) -> Iterator[NextPage]:
    """Add the items of a page to its list, and name the page that follows."""
    with suppress(OnlyInRestError, *UNREADABLE):
        connection, following = (find_connection(page.section, one) for one in (node, more))
        if following["nodes"]:
            connection["nodes"] += following["nodes"]
            connection["pageInfo"] = following["pageInfo"]
            yield from _name_next(page.number, page.section, node)


def _find_doubt(node: Any, *, is_alone: bool) -> GitHubError | None:
    """Return why a pull request cannot be used: RetrySoonError if a smaller query may help, and
    OnlyInRestError if only REST does; None if it can.
    """
    if node is None:
        return OnlyInRestError("GraphQL does not give it")
    if isinstance(node, Refused):
        is_passing = isinstance(node.error, RetrySoonError)
        return node.error if is_passing else OnlyInRestError(str(node.error))
    try:
        check_counts(node, is_alone=is_alone)
    except RetrySoonError as error:
        return error
    except UNREADABLE as error:
        return OnlyInRestError(f"not as GraphQL writes it ({error!r})")
    return None


def _read(node: Json, full_name: str, moved_to: str) -> Snapshot | GitHubError:
    try:
        snapshot = read_snapshot(node, github_repo=full_name)
    except RetrySoonError as error:
        return error
    return replace(snapshot, moved_to=moved_to)
