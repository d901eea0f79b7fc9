"""Asks for a repository, and for the pull requests that it lists."""

from collections.abc import AsyncIterator, Collection
from datetime import datetime

from metrics_sync.exceptions import RetrySoonError
from metrics_sync.github.client import GitHub
from metrics_sync.github.pages import Page
from metrics_sync.snapshot import (
    UNREADABLE,
    PullRequestItem,
    RepositoryItem,
    read_pull_request,
    read_repository,
)


async def fetch_repository(github: GitHub, full_name: str) -> RepositoryItem:
    """Fetch a repository by its name, present or former. Raises GitHubError."""
    return _read(await github.call(github.api.repos.get, *full_name.split("/")))


async def fetch_repository_by_id(github: GitHub, github_repo_id: int) -> RepositoryItem:
    """Fetch a repository by GitHub's id, whatever it is called now. Raises GitHubError."""
    return _read(await github.get(f"/repositories/{github_repo_id}"))


def _read(page: Page) -> RepositoryItem:
    try:
        return read_repository(page.body)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a repository") from error


async def fetch_numbers(
    github: GitHub, *, full_name: str, github_pr_ids: Collection[int]
) -> dict[int, int]:
    """Find the numbers of pull requests known only by GitHub's id.

    GitHub has no look-up by id, so this lists the repository's closed pull requests, newest
    first, until all are found: up to one request for each hundred. Ids that are not listed are
    absent from the result. Raises GitHubError.
    """
    missing, numbers = set(github_pr_ids), dict[int, int]()
    pages = github.pages(
        github.api.pulls.list, *full_name.split("/"), state="closed", direction="desc"
    )
    async for page in pages:
        try:
            numbers |= {pull["id"]: pull["number"] for pull in page.items if pull["id"] in missing}
        except UNREADABLE as error:
            raise RetrySoonError("GitHub's answer is not a list of pull requests") from error
        if missing <= set(numbers):
            break
    return numbers


async def fetch_merges(
    github: GitHub, full_name: str, *, since: datetime
) -> AsyncIterator[list[PullRequestItem]]:
    """Yield, page by page, the merged pull requests that changed since then, newest change first.

    They come without their counters, as GitHub lists them. Raises GitHubError.
    """
    pages = github.pages(
        github.api.pulls.list,
        *full_name.split("/"),
        state="closed",
        sort="updated",
        direction="desc",
    )
    async for page in pages:
        try:
            items = [read_pull_request(value, github_repo=full_name) for value in page.items]
        except UNREADABLE as error:
            raise RetrySoonError("GitHub's answer is not a list of pull requests") from error
        recent = [item for item in items if item.pr_updated_at and item.pr_updated_at >= since]
        yield [item for item in recent if item.merged_at]
        if len(recent) < len(items):
            return
