"""Fetches many pull requests with each request, through GitHub's GraphQL API."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from metrics_sync.exceptions import (
    GitHubError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.github.graphql import GraphQL
from metrics_sync.github.queries import (
    FETCHED,
    LEAST_LISTED,
    LISTED,
    LISTING,
    build_fetch,
    count_points,
)
from metrics_sync.github.translation import (
    UNREADABLE,
    OnlyInRestError,
    read_listed,
    read_snapshot,
)
from metrics_sync.snapshot import Json, PullRequestItem, Snapshot

#: What GitHub could not answer is asked for again in so many at a time.
SIZES = (FETCHED, 5, 1)


@dataclass(frozen=True, slots=True)
class Listed:
    """A page of a repository's merged pull requests; `cursor` leads to the next one, if any.

    `full_name` is the new name of a renamed repository, `github_repo_id` tells which it is. Of `length` pull requests on the page
    `items` are those that were asked for; `is_end` says that GitHub has no others.
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
        page, known_as = repository["pullRequests"], repository["nameWithOwner"]
        full_name = full_name if known_as.lower() == full_name.lower() else known_as
        nodes, more = page["nodes"], page["pageInfo"]
        if more["hasNextPage"] and len(nodes) < size:
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


def _changed_before(moment: datetime, item: PullRequestItem) -> bool:
    return item.pr_updated_at is not None and item.pr_updated_at < moment


async def fetch_snapshots(
    graphql: GraphQL, full_name: str, numbers: Iterable[int]
) -> dict[int, Snapshot | GitHubError]:
    """Fetch pull requests by their numbers, up to 25 with each query.

    Each comes with its snapshot, in which some lists may be left to REST, or with the reason for
    leaving it to REST as a whole. What came with counts that do not agree, or was too much for
    GitHub, is asked for again in smaller queries first. Raises GitHubError when GitHub refuses.
    """
    found: dict[int, Snapshot | GitHubError] = {n: RetrySoonError("not asked") for n in numbers}
    for size in SIZES:
        missing = [n for n, result in found.items() if _may_mend(result)]
        for batch in _cut(missing, size):
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
    repository = await graphql.ask(
        build_fetch(len(numbers)),
        cost=count_points(len(numbers)),
        owner=owner,
        name=name,
        **variables,
    )
    moved_to = str(repository["nameWithOwner"])
    if moved_to.lower() == full_name.lower():
        moved_to = ""
    return {
        n: _read(
            repository.get(f"p{index}"),
            full_name,
            moved_to=moved_to,
            is_alone=len(numbers) == 1,
        )
        for index, n in enumerate(numbers)
    }


def _read(
    node: Json | None, full_name: str, *, moved_to: str, is_alone: bool
) -> Snapshot | GitHubError:
    if node is None:
        return OnlyInRestError("GraphQL does not give it")
    if isinstance(refusal := node.get("refused"), RetrySoonError):
        return refusal
    try:
        snapshot = read_snapshot(node, github_repo=full_name, is_alone=is_alone)
    except RetrySoonError as error:
        return error
    return replace(snapshot, moved_to=moved_to)
