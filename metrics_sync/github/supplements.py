"""Fetches what GitHub's lists leave out: commits past the 250th, and line counts set to zero."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from metrics_sync.exceptions import GoneError, PermissionMissingError
from metrics_sync.github.client import GitHub
from metrics_sync.github.pages import Page
from metrics_sync.snapshot import PullRequestItem

#: The sizes of page in which uncounted files are fetched again, one size after the other.
SMALL_PAGES = (10, 1)
#: How many such pages one fetch asks for at most; binary files look like uncounted ones.
MOST_SMALL_PAGES = 100


async def compare_commits(github: GitHub, pull_request: PullRequestItem) -> list[Page]:
    """Return the pages of all commits between base and head, which may be more than are listed.

    A pull request lists 250 commits at most; a comparison has no such limit, as long as GitHub
    still has both sides. Returns no page when it has not. Raises GitHubError.
    https://docs.github.com/en/rest/commits/commits#compare-two-commits
    """
    sides = f"{pull_request.base_sha}...{pull_request.head_sha}"
    names = pull_request.github_repo.split("/")
    try:
        return await github.all_pages(github.api.repos.compare_commits, *names, sides)
    except (GoneError, PermissionMissingError):
        return []


async def recount_lines(
    github: GitHub, pull_request: PullRequestItem, files: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the files of a list with the counts that GitHub left out.

    Past some 20,000 changed lines in one answer, files come with 0 additions, 0 deletions and no
    patch; only the pull request's own sums show it. Smaller pages have the right counts. No more
    than 100 are asked for, so `lines_add_up` of the result may be false. Raises GitHubError.
    """
    recounted, left = list(files), MOST_SMALL_PAGES
    for per_page in SMALL_PAGES:
        if lines_add_up(recounted, pull_request):
            break
        numbers = sorted(
            {
                position // per_page + 1
                for position, file in enumerate(recounted)
                if _may_be_uncounted(file)
            }
        )[:left]
        left -= len(numbers)
        pages = await asyncio.gather(
            *(_get_files(github, pull_request, page=n, per_page=per_page) for n in numbers)
        )
        counted = {_key(file): file for page in pages for file in page.items}
        recounted = [counted.get(_key(file), file) for file in recounted]
    return recounted


def count_files(files: Sequence[Mapping[str, Any]]) -> set[int]:
    """Return the numbers that `changed_files` may state for a whole list.

    A file whose type changes has two entries under one name, and is counted once or twice.
    """
    return {len(set(map(_key, files))), len({file["filename"] for file in files})}


def _key(file: Mapping[str, Any]) -> tuple[Any, Any]:
    return file["filename"], file.get("status")


def lines_add_up(files: Sequence[Mapping[str, Any]], pull_request: PullRequestItem) -> bool:
    """Whether the files have the lines that the pull request states, if it states them."""
    sums = [sum(file[name] for file in files) for name in ("additions", "deletions")]
    stated = [pull_request.additions, pull_request.deletions]
    is_whole = pull_request.changed_files in count_files(files)
    return None in stated or not is_whole or sums == stated


def _may_be_uncounted(file: Mapping[str, Any]) -> bool:
    return not file["changes"] and "patch" not in file


async def _get_files(
    github: GitHub, pull_request: PullRequestItem, *, page: int, per_page: int
) -> Page:
    return await github.call(
        github.api.pulls.list_files,
        *pull_request.github_repo.split("/"),
        pull_request.github_pr_number,
        page=page,
        per_page=per_page,
    )
