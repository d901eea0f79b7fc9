"""Fetches the lists of a pull request to their end, and compares each with what GitHub states."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from metrics_sync.exceptions import (
    GitHubError,
    GoneError,
    PermissionMissingError,
    RetrySoonError,
)
from metrics_sync.github.client import PER_PAGE, GitHub
from metrics_sync.github.pages import Page
from metrics_sync.github.supplements import (
    compare_commits,
    count_files,
    lines_add_up,
    recount_lines,
)
from metrics_sync.github.witnesses import read_names
from metrics_sync.snapshot import (
    ALL_RUNS,
    CAPS,
    COUNTER,
    OPTIONAL,
    UNAVAILABLE,
    UNREADABLE,
    VERIFIED,
    Known,
    PullRequestItem,
    Section,
    SectionResult,
    Validators,
    describe_unknown_times,
    read_check_run,
    read_items,
    verify,
)

#: The lists of the head commit, and the key under which an answer has them.
LISTED_IN = {Section.CHECK_RUNS: "check_runs", Section.COMMIT_STATUSES: "statuses"}

#: What a receipt says of files that are all there, while the lines of some are not.
UNCOUNTED_LINES = "GitHub leaves lines of some files uncounted"

#: Longest duration of one fetch: shorter than its job, which must still store what was fetched.
FETCH_SECONDS = 480


@asynccontextmanager
async def limit_time(give_up_at: float) -> AsyncIterator[None]:
    """End the block with RetrySoonError when the event loop's clock reaches that moment."""
    try:
        async with asyncio.timeout_at(give_up_at):
            yield
    except TimeoutError as error:
        raise RetrySoonError(f"the fetch took longer than {FETCH_SECONDS} s") from error


async def fetch_sections(
    github: GitHub,
    pull_request: PullRequestItem,
    sections: Collection[Section],
    known: Known,
    *,
    give_up_at: float,
    just_merged: bool,
) -> dict[Section, SectionResult]:
    """Fetch lists at once; each fails alone, with its error in its result."""
    results = await asyncio.gather(
        *(_fetch_section(github, pull_request, s, known, give_up_at=give_up_at) for s in sections)
    )
    return {
        section: _allow_missing(section, result, just_merged=just_merged)
        for section, result in zip(sections, results, strict=True)
    }


def _allow_missing(section: Section, result: SectionResult, *, just_merged: bool) -> SectionResult:
    """Excuse a missing list: right after the merge as replication lag, later if it is optional."""
    error = result.error
    if just_merged and isinstance(error, GoneError):
        return replace(result, error=RetrySoonError(f"GitHub does not show it yet ({error})"))
    if section in OPTIONAL and isinstance(error, (GoneError, PermissionMissingError)):
        return SectionResult(result=UNAVAILABLE, reason=str(error))
    return result


async def _fetch_section(
    github: GitHub,
    pull_request: PullRequestItem,
    section: Section,
    known: Known,
    *,
    give_up_at: float,
) -> SectionResult:
    """Fetch one list to its end and verify it; an error is in the result."""
    stated = pull_request.stated.get(section)
    try:
        async with limit_time(give_up_at):
            return await _read_section(github, pull_request, section, known)
    except GitHubError as error:
        return SectionResult(stated=stated, error=error)
    except UNREADABLE as error:
        return SectionResult(
            stated=stated, error=RetrySoonError(f"an item is not as GitHub writes it ({error!r})")
        )


async def _read_section(
    github: GitHub, pull_request: PullRequestItem, section: Section, known: Known
) -> SectionResult:
    stated = pull_request.stated.get(section)
    if stated == 0:
        return SectionResult(
            stated=0, result=VERIFIED, witness=COUNTER, names=read_names(section, [])
        )
    entry, validators = known.receipt.sections.get(section), known.etags.get(section, ())
    is_unchanged, first = await revalidate(github, validators)
    if is_unchanged and entry:
        return entry.verify_unchanged(section, stated, etags=validators)
    pages, scope = await _list(github, pull_request, section, first), ""
    if section is Section.CHECK_RUNS and _may_hide_runs(pages, pull_request.merged_at):
        scope = ALL_RUNS
        if "filter=all" not in pages[0].url:
            pages = await _list_all_runs(github, pull_request)
    values, total = _join(section, pages)
    if section is Section.FILES:
        values = await recount_lines(github, pull_request, values)
    elif section is Section.COMMITS and stated is not None and len(values) < stated:
        pages, values = await _add_compared(github, pull_request, pages, values, stated)
    items = read_items(section, values)
    stated = stated if total is None else total
    lengths = count_files(values) if section is Section.FILES else {len(items)}
    result = verify(section, items, lengths=lengths, stated=stated, etags=list_validators(*pages))
    reasons = [describe_unknown_times(section, values)]
    if section is Section.FILES and not lines_add_up(values, pull_request):
        reasons.append(UNCOUNTED_LINES)
    reason = "; ".join(filter(None, reasons))
    return replace(result, reason=reason, names=read_names(section, values), scope=scope)


async def _add_compared(
    github: GitHub,
    pull_request: PullRequestItem,
    pages: list[Page],
    values: list[Any],
    stated: int,
) -> tuple[list[Page], list[Any]]:
    """Add the commits of a comparison to a list that ends at GitHub's cap.

    Only if that makes as many as GitHub states: a base that was rewritten since adds foreign ones.
    """
    if len(values) != CAPS[Section.COMMITS]:
        return pages, values
    compared = await compare_commits(github, pull_request)
    commits = {value["sha"]: value for page in compared for value in page.body["commits"]}
    commits |= {value["sha"]: value for value in values}
    if len(commits) != stated:
        return pages, values
    return [*pages, *compared], list(commits.values())


async def _list(
    github: GitHub, pull_request: PullRequestItem, section: Section, first: Page | None
) -> list[Page]:
    """Return all pages of a list; `first` is its first page if it was fetched already."""
    if first is not None:
        return await github.all_pages_from(first)
    operation = {
        Section.COMMITS: github.api.pulls.list_commits,
        Section.FILES: github.api.pulls.list_files,
        Section.CHECK_RUNS: github.api.checks.list_for_ref,
        Section.ISSUE_COMMENTS: github.api.issues.list_comments,
        Section.REVIEW_COMMENTS: github.api.pulls.list_review_comments,
        Section.REVIEWS: github.api.pulls.list_reviews,
        Section.TIMELINE: github.api.issues.list_events_for_timeline,
        Section.COMMIT_STATUSES: github.api.repos.get_combined_status_for_ref,
    }[section]
    of_head = section in LISTED_IN
    subject = pull_request.head_sha if of_head else pull_request.github_pr_number
    return await github.all_pages(operation, *pull_request.github_repo.split("/"), subject)


def _may_hide_runs(pages: Sequence[Page], merged_at: datetime | None) -> bool:
    """Whether a run began after the merge, and may have replaced one from before it.

    https://docs.github.com/en/rest/checks/runs#list-check-runs-for-a-git-reference (filter)
    """
    if merged_at is None:
        return False
    runs = [read_check_run(value) for page in pages for value in page.body["check_runs"]]
    return any(run.started_at is not None and run.started_at > merged_at for run in runs)


async def _list_all_runs(github: GitHub, pull_request: PullRequestItem) -> list[Page]:
    """Return the pages of all check runs, also those that later ones have replaced."""
    names = pull_request.github_repo.split("/")
    operation = github.api.checks.list_for_ref
    return await github.all_pages(operation, *names, pull_request.head_sha, filter="all")


def _join(section: Section, pages: Sequence[Page]) -> tuple[list[Any], int | None]:
    """Return the items of all pages, and the total that they state themselves, if any.

    Only the lists of the head commit come in an object with their total.
    """
    if section not in LISTED_IN:
        return [value for page in pages for value in page.items], None
    values = [value for page in pages for value in page.body[LISTED_IN[section]]]
    return values, pages[-1].body["total_count"]


def list_validators(*pages: Page) -> Validators:
    """Return the addresses and ETags of a list; nothing if a change could leave all ETags as is."""
    named = [(page.url, page.etag) for page in pages]
    return named if all(etag for _, etag in named) and not _is_full(pages[-1]) else ()


def _is_full(page: Page) -> bool:
    """Whether an item that is added goes to a new page, which leaves this one as it is."""
    return isinstance(page.body, list) and len(page.body) >= PER_PAGE


async def revalidate(github: GitHub, validators: Validators) -> tuple[bool, Page | None]:
    """Ask whether pages have changed since an earlier fetch; unchanged ones cost no rate limit.

    Returns whether all are unchanged, and the first page if it has changed.
    """
    pages = await asyncio.gather(*(github.get_again(url, etag=etag) for url, etag in validators))
    is_unchanged = bool(pages) and all(page.is_unchanged for page in pages)
    return is_unchanged, pages[0] if pages and not pages[0].is_unchanged else None
