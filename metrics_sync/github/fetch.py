"""Fetches a pull request with all its lists at once, and proves that the lists are complete."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from metrics_sync.exceptions import GitHubError, GoneError, RetrySoonError
from metrics_sync.github.client import GitHub
from metrics_sync.snapshot import (
    CAPPED,
    VERIFIED,
    Item,
    PullRequestItem,
    RepositoryItem,
    Section,
    SectionResult,
    Snapshot,
    is_held,
    read_items,
    read_pull_request,
    read_repository,
)

#: How many items GitHub lists at most, whatever the paging.
#: https://docs.github.com/en/rest/pulls/pulls
CAPS = {Section.COMMITS: 250, Section.FILES: 3000}

#: For how long after the merge the API may still answer from before it.
REPLICATION_LAG = timedelta(minutes=5)

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError)


async def fetch_repository(github: GitHub, full_name: str) -> RepositoryItem:
    """Fetch a repository by its name, present or former. Raises GitHubError."""
    body = await github.get(github.api.repos.get, *full_name.split("/"))
    try:
        return read_repository(body)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a repository") from error


async def fetch_pull_request(github: GitHub, full_name: str, number: int) -> PullRequestItem:
    """Fetch the pull request itself, without its lists. Raises GitHubError."""
    body = await github.get(github.api.pulls.get, *full_name.split("/"), number)
    try:
        return read_pull_request(body, github_repo=full_name)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a pull request") from error


async def fetch_numbers(
    github: GitHub, full_name: str, github_pr_ids: Collection[int]
) -> dict[int, int]:
    """Find the numbers of pull requests known only by GitHub's id.

    GitHub has no look-up by id, so this lists the repository's closed pull requests, newest
    first, until all are found: up to one request for each hundred. Those that are not listed
    are absent from the answer. Raises GitHubError.
    """
    missing, numbers = set(github_pr_ids), {}
    pages = github.pages(
        github.api.pulls.list, *full_name.split("/"), state="closed", direction="desc"
    )
    async for page in pages:
        for pull in page:
            if pull["id"] in missing:
                missing.discard(pull["id"])
                numbers[pull["id"]] = pull["number"]
        if not missing:
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
            items = [read_pull_request(value, github_repo=full_name) for value in page]
        except UNREADABLE as error:
            raise RetrySoonError("GitHub's answer is not a list of pull requests") from error
        recent = [item for item in items if item.pr_updated_at and item.pr_updated_at >= since]
        yield [item for item in recent if item.merged_at]
        if len(recent) < len(items):
            return


async def fetch_snapshot(
    github: GitHub,
    full_name: str,
    number: int,
    *,
    merged_at: datetime | None,
    receipt: Mapping[str, Any],
    now: datetime,
) -> Snapshot:
    """Fetch a pull request and those of its sections that `receipt` does not hold yet.

    Each section fails alone, with its error in its result. A section is asked for again when
    the pull request's counter has moved since its receipt. `merged_at` is when we were told of
    the merge: for five minutes after it, answers from before it are taken as replication lag.

    Raises GitHubError when the pull request itself cannot be had.
    """
    pull_request = await _fetch_settled(github, full_name, number, merged_at=merged_at, now=now)
    wanted = [s for s in Section if _is_wanted(receipt.get(s), pull_request.stated.get(s))]
    results = await _fetch_sections(github, full_name, pull_request, wanted)
    disagreeing = [
        s for s, result in results.items() if isinstance(result.error, _DisagreementError)
    ]
    if disagreeing:
        # Counters and lists are read at different moments, and somebody may be commenting.
        pull_request = await fetch_pull_request(github, full_name, number)
        results |= await _fetch_sections(github, full_name, pull_request, disagreeing)
    return Snapshot(pull_request, results, github.requests_made)


class _DisagreementError(RetrySoonError):
    """A list and the counter that states its length do not agree."""


async def _fetch_settled(
    github: GitHub, full_name: str, number: int, *, merged_at: datetime | None, now: datetime
) -> PullRequestItem:
    """Fetch the pull request, and do not believe answers from before a merge of just now."""
    just_merged = merged_at is not None and now - merged_at < REPLICATION_LAG
    try:
        pull_request = await fetch_pull_request(github, full_name, number)
    except GoneError as error:
        if just_merged:
            raise RetrySoonError(f"GitHub does not show it yet ({error})") from error
        raise
    if just_merged and pull_request.merged_at is None:
        raise RetrySoonError("GitHub does not show the merge yet")
    return pull_request


def _is_wanted(entry: Mapping[str, Any] | None, stated: int | None) -> bool:
    """Whether no earlier fetch has proven the section, or something was added since."""
    if entry is None or not is_held(entry):
        return True
    return stated is not None and entry["stated"] != stated


async def _fetch_sections(
    github: GitHub, full_name: str, pull_request: PullRequestItem, sections: Collection[Section]
) -> dict[Section, SectionResult]:
    results = await asyncio.gather(
        *(_fetch_section(github, full_name, pull_request, section) for section in sections)
    )
    return dict(zip(sections, results, strict=True))


async def _fetch_section(
    github: GitHub, full_name: str, pull_request: PullRequestItem, section: Section
) -> SectionResult:
    """Fetch one list to its end and compare it with what GitHub states; errors are results."""
    stated = pull_request.stated.get(section)
    if stated == 0:
        return SectionResult(stated=0, result=VERIFIED)
    try:
        if section is Section.CHECK_RUNS:
            values, stated = await _list_check_runs(github, full_name, pull_request.head_sha)
        else:
            values = await _list(github, full_name, pull_request.github_pr_number, section)
        items = read_items(section, values)
    except GitHubError as error:
        return SectionResult(stated=stated, error=error)
    except UNREADABLE as error:
        return SectionResult(
            stated=stated, error=RetrySoonError(f"an item is not as GitHub writes it ({error!r})")
        )
    return _verify(section, items, stated)


def _verify(section: Section, items: tuple[Item, ...], stated: int | None) -> SectionResult:
    """Compare a list that was read to its end with the number that GitHub states."""
    if stated is None or len(items) == stated:
        return SectionResult(items, stated, VERIFIED)
    if len(items) == CAPS.get(section) and stated > len(items):
        return SectionResult(items, stated, CAPPED)
    return SectionResult(
        items, stated, error=_DisagreementError(f"GitHub states {stated} and lists {len(items)}")
    )


async def _list(github: GitHub, full_name: str, number: int, section: Section) -> list[Any]:
    operation = {
        Section.COMMITS: github.api.pulls.list_commits,
        Section.FILES: github.api.pulls.list_files,
        Section.ISSUE_COMMENTS: github.api.issues.list_comments,
        Section.REVIEW_COMMENTS: github.api.pulls.list_review_comments,
        Section.REVIEWS: github.api.pulls.list_reviews,
    }[section]
    values: list[Any] = []
    async for page in github.pages(operation, *full_name.split("/"), number):
        values.extend(page)
    return values


async def _list_check_runs(
    github: GitHub, full_name: str, head_sha: str
) -> tuple[list[Any], int | None]:
    """List the latest check runs of the head; unlike the other lists, these come in an object."""
    values: list[Any] = []
    stated = None
    operation = github.api.checks.list_for_ref
    async for page in github.pages(operation, *full_name.split("/"), head_sha):
        stated = page["total_count"]
        values.extend(page["check_runs"])
    return values, stated
