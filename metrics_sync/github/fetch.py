"""Fetches a pull request with all its lists at once, and proves that the lists are complete."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from metrics_sync.exceptions import (
    DisagreementError,
    GitHubError,
    GoneError,
    NameReusedError,
    NumberReusedError,
    PermissionMissingError,
    RetrySoonError,
)
from metrics_sync.github.acceptance import settle
from metrics_sync.github.client import PER_PAGE, GitHub, Page
from metrics_sync.github.supplements import (
    compare_commits,
    count_files,
    lines_add_up,
    recount_lines,
)
from metrics_sync.github.witnesses import VOUCHING, corroborate, read_names
from metrics_sync.snapshot import (
    AGREED,
    ALL_RUNS,
    CAPPED,
    COUNTER,
    ITSELF,
    OPTIONAL,
    TOKEN,
    TOTAL,
    UNAVAILABLE,
    UNREADABLE,
    VERIFIED,
    Item,
    PullRequestItem,
    RepositoryItem,
    Section,
    SectionResult,
    Snapshot,
    describe_unknown_times,
    is_held,
    read_check_run,
    read_items,
    read_pull_request,
    read_repository,
)

#: How many items GitHub lists at most, whatever the paging.
#: https://docs.github.com/en/rest/pulls/pulls
CAPS = {Section.COMMITS: 250, Section.FILES: 3000}

#: The lists of the head commit, and the key under which an answer has them.
LISTED_IN = {Section.CHECK_RUNS: "check_runs", Section.COMMIT_STATUSES: "statuses"}

#: For how long after the merge the API may still answer from before it.
REPLICATION_LAG = timedelta(minutes=5)

#: What a receipt says of files that are all there, while the lines of some are not.
UNCOUNTED_LINES = "GitHub leaves lines of some files uncounted"

#: How long one fetch may take in all: less than its job, which must still store what came.
FETCH_SECONDS = 480

#: The addresses of pages and the ETags that they came with.
Validators = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier fetches left: the receipt, and the pages that need not be sent again.

    `pull_request` is as those fetches read it; without one everything is asked for in full.
    `github_pr_id` is whose number is asked for, `github_repo_id` whose name; None takes whatever
    has the number or the name.
    """

    receipt: Mapping[str, Any] = field(default_factory=dict)
    etags: Mapping[str, Validators] = field(default_factory=dict)
    pull_request: PullRequestItem | None = None
    github_pr_id: int | None = None
    github_repo_id: int | None = None


async def fetch_repository(github: GitHub, full_name: str) -> RepositoryItem:
    """Fetch a repository by its name, present or former. Raises GitHubError."""
    page = await github.call(github.api.repos.get, *full_name.split("/"))
    try:
        return read_repository(page.body)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a repository") from error


async def fetch_repository_by_id(github: GitHub, github_repo_id: int) -> RepositoryItem:
    """Fetch a repository by GitHub's id, whatever it is called now. Raises GitHubError."""
    page = await github.get(f"/repositories/{github_repo_id}")
    try:
        return read_repository(page.body)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a repository") from error


async def fetch_pull_request(github: GitHub, full_name: str, number: int) -> PullRequestItem:
    """Fetch the pull request itself, without its lists. Raises GitHubError."""
    return _read_itself(await _get_itself(github, full_name, number), full_name)


async def _get_itself(github: GitHub, full_name: str, number: int) -> Page:
    return await github.call(github.api.pulls.get, *full_name.split("/"), number)


def _read_itself(page: Page, full_name: str) -> PullRequestItem:
    try:
        return read_pull_request(page.body, github_repo=full_name)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a pull request") from error


async def fetch_numbers(
    github: GitHub, *, full_name: str, github_pr_ids: Collection[int]
) -> dict[int, int]:
    """Find the numbers of pull requests known only by GitHub's id.

    GitHub has no look-up by id, so this lists the repository's closed pull requests, newest
    first, until all are found: up to one request for each hundred. Those that are not listed
    are absent from the answer. Raises GitHubError.
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


async def fetch_snapshot(
    github: GitHub,
    full_name: str,
    number: int,
    *,
    merged_at: datetime | None,
    known: Known,
    now: datetime,
) -> Snapshot:
    """Fetch a pull request and those of its sections that the known receipt does not hold yet.

    Each section fails alone, with its error in its result. A section is asked for again when
    the pull request's counter has moved since its receipt; pages that have not changed since
    cost no rate limit. `merged_at` is when we were told of the merge: for five minutes after
    it, answers from before it are taken as replication lag.

    Raises GitHubError when the pull request itself cannot be had, and NumberReusedError when
    its number is another one's.
    """
    just_merged = merged_at is not None and now - merged_at < REPLICATION_LAG
    give_up_at = asyncio.get_running_loop().time() + FETCH_SECONDS
    known = _forget_unusable(known, github)
    async with _until(give_up_at):
        pull_request, etags = await _fetch_itself(
            github, full_name, number, known=known, just_merged=just_merged
        )
    fetch = partial(_fetch_sections, github, give_up_at=give_up_at, just_merged=just_merged)
    results = await fetch(pull_request, _choose(known, pull_request), known)
    agreed = known.etags.get(AGREED, ())
    results, agreed = corroborate(results, pull_request, agreed=agreed)
    if disagreeing := _list_disagreeing(results):
        # Counters and lists are read at different moments, and somebody may be commenting.
        try:
            async with _until(give_up_at):
                page = await _get_itself(github, full_name, number)
            pull_request, etags = _read_itself(page, full_name), _name(page)
            results |= await fetch(pull_request, disagreeing, Known())
            results, agreed = corroborate(results, pull_request, agreed=agreed)
        except GitHubError as error:
            results |= {s: replace(results[s], error=error) for s in disagreeing if s in results}
    results = {
        section: settle(section, result, known.receipt.get(section), now=now)
        for section, result in results.items()
    }
    kept: dict[str, Validators] = {**known.etags, ITSELF: etags, AGREED: agreed}
    kept[TOKEN] = [[github.make_fingerprint()]]
    kept.update({section: result.etags for section, result in results.items()})
    moved_to = pull_request.base_repo if github.was_redirected else ""
    return Snapshot(pull_request, results, kept, moved_to=moved_to)


def _forget_unusable(known: Known, github: GitHub) -> Known:
    """Drop ETags that are another token's, and those of lists that are to be compared anew."""
    (fingerprint,) = known.etags.get(TOKEN, [[""]])[0]
    if not github.recognizes(fingerprint):
        return replace(known, etags={})
    if known.etags.get(AGREED):
        return known
    usable = {name: etags for name, etags in known.etags.items() if name not in VOUCHING}
    return replace(known, etags=usable)


def _choose(known: Known, pull_request: PullRequestItem) -> list[Section]:
    """Choose what is to be asked for; lists that vouch for each other are, together."""
    entries = known.receipt
    wanted = {s for s in Section if _is_wanted(entries.get(s), pull_request.stated.get(s))}
    timeline = entries.get(Section.TIMELINE) or {"result": ""}
    needs_timeline = Section.TIMELINE in wanted and timeline["result"] != UNAVAILABLE
    if Section.REVIEWS in wanted or needs_timeline:
        has_agreed = bool(known.etags.get(AGREED))
        wanted |= {Section.REVIEWS, Section.TIMELINE} if has_agreed else set(VOUCHING)
    return [section for section in Section if section in wanted]


def _list_disagreeing(results: Mapping[Section, SectionResult]) -> list[Section]:
    """List what is to be asked for once more, and in full what it is compared with."""
    found = {s for s, result in results.items() if isinstance(result.error, DisagreementError)}
    if found & {Section.REVIEWS, Section.TIMELINE}:
        found |= set(VOUCHING)
    return [section for section in Section if section in found]


@asynccontextmanager
async def _until(give_up_at: float) -> AsyncIterator[None]:
    """Let the block take no longer than to that moment of the event loop."""
    try:
        async with asyncio.timeout_at(give_up_at):
            yield
    except TimeoutError as error:
        raise RetrySoonError(f"the fetch took longer than {FETCH_SECONDS} s") from error


async def fetch_missing(
    github: GitHub, snapshot: Snapshot, *, receipt: Mapping[str, Any], now: datetime
) -> Snapshot:
    """Fetch the lists that a snapshot came without, unless the receipt holds them already.

    The pull request itself is not asked for again. Each section fails alone, with its error in
    its result. Of what came without a counter of REST's, the total that is stated is the witness.
    """
    pull_request = snapshot.pull_request
    wanted = [
        section
        for section in snapshot.errors
        if _is_wanted(receipt.get(section), pull_request.stated.get(section))
    ]
    give_up_at = asyncio.get_running_loop().time() + FETCH_SECONDS
    totals = {s: result.stated for s in wanted if (result := snapshot.sections[s]).stated}
    asked = replace(pull_request, stated={**pull_request.stated, **totals})
    came = await _fetch_sections(
        github, asked, wanted, Known(), give_up_at=give_up_at, just_merged=False
    )
    came |= {
        section: replace(result, stated=None, witness=TOTAL)
        for section, result in came.items()
        if section in totals and result.result == VERIFIED
    }
    sections = {**snapshot.sections, **came}
    if Section.TIMELINE in came:
        sections, _ = corroborate(sections, pull_request, agreed=())
    sections |= {s: settle(s, sections[s], receipt.get(s), now=now) for s in came}
    return replace(snapshot, sections=sections)


async def _fetch_itself(
    github: GitHub, full_name: str, number: int, *, known: Known, just_merged: bool
) -> tuple[PullRequestItem, Validators]:
    """Fetch the pull request, and do not believe answers from before a merge of just now."""
    validators = known.etags.get(ITSELF, ())
    try:
        is_unchanged, page = await _look_again(github, validators)
        if is_unchanged and known.pull_request is not None:
            return known.pull_request, validators
        page = page or await _get_itself(github, full_name, number)
    except GoneError as error:
        if just_merged:
            raise RetrySoonError(f"GitHub does not show it yet ({error})") from error
        raise
    pull_request = _read_itself(page, full_name)
    if pull_request.base_repo_id not in (None, known.github_repo_id or pull_request.base_repo_id):
        raise NameReusedError(f"{full_name} is another repository now; GitHub is asked for ours")
    if known.github_pr_id not in (None, pull_request.github_pr_id):
        raise NumberReusedError(
            f"#{number} is another pull request now, as in a repository that was made anew"
        )
    if just_merged and pull_request.merged_at is None:
        raise RetrySoonError("GitHub does not show the merge yet")
    return pull_request, _name(page)


def _allow_missing(section: Section, result: SectionResult, *, just_merged: bool) -> SectionResult:
    """Take a list that is not there as one that this replica has not got yet, or can be missing."""
    error = result.error
    if just_merged and isinstance(error, GoneError):
        return replace(result, error=RetrySoonError(f"GitHub does not show it yet ({error})"))
    if section in OPTIONAL and isinstance(error, (GoneError, PermissionMissingError)):
        return SectionResult(result=UNAVAILABLE, reason=str(error))
    return result


def _name(*pages: Page) -> Validators:
    """Return what to ask with next time; nothing unless the ETags tell of every change."""
    named = [(page.url, page.etag) for page in pages]
    return named if all(etag for _, etag in named) and not _is_full(pages[-1]) else ()


def _is_full(page: Page) -> bool:
    """Whether what is added to the list goes to a page behind this one, which does not change."""
    return isinstance(page.body, list) and len(page.body) >= PER_PAGE


async def _look_again(github: GitHub, validators: Validators) -> tuple[bool, Page | None]:
    """Ask for pages that we have had before; those that have not changed cost no rate limit.

    Returns whether all of them are as they were, and the first if it is not.
    """
    pages = await asyncio.gather(*(github.get_again(url, etag=etag) for url, etag in validators))
    is_unchanged = bool(pages) and all(page.is_unchanged for page in pages)
    return is_unchanged, pages[0] if pages and not pages[0].is_unchanged else None


def _is_wanted(entry: Mapping[str, Any] | None, stated: int | None) -> bool:
    """Whether no earlier fetch has proven the section, or something was added since."""
    if entry is None or not is_held(entry):
        return True
    return stated is not None and entry["stated"] != stated


async def _fetch_sections(
    github: GitHub,
    pull_request: PullRequestItem,
    sections: Collection[Section],
    known: Known,
    *,
    give_up_at: float,
    just_merged: bool,
) -> dict[Section, SectionResult]:
    results = await asyncio.gather(
        *(_fetch_section(github, pull_request, s, known, give_up_at=give_up_at) for s in sections)
    )
    return {
        section: _allow_missing(section, result, just_merged=just_merged)
        for section, result in zip(sections, results, strict=True)
    }


async def _fetch_section(
    github: GitHub,
    pull_request: PullRequestItem,
    section: Section,
    known: Known,
    *,
    give_up_at: float,
) -> SectionResult:
    """Fetch one list to its end and compare it with what GitHub states; errors are results."""
    stated = pull_request.stated.get(section)
    try:
        async with _until(give_up_at):
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
    entry, validators = known.receipt.get(section), known.etags.get(section, ())
    is_unchanged, first = await _look_again(github, validators)
    if is_unchanged and entry:
        stated = entry["stated"] if section in LISTED_IN else stated
        # What was stated less than is stored was explained when the list came.
        lengths = {entry["stored"], min(entry["stored"], entry["stated"] or entry["stored"])}
        result = _verify(section, None, lengths, stated, etags=validators)
        kept = {name: entry.get(name, "") for name in ("witness", "reason", "scope")}
        return replace(result, **kept)
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
    result = _verify(section, items, lengths, stated, etags=_name(*pages))
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

    Only if that makes as many as GitHub states: when the base was rewritten since, a comparison
    has others, too.
    """
    if len(values) != CAPS[Section.COMMITS]:
        return pages, values
    compared = await compare_commits(github, pull_request)
    commits = {value["sha"]: value for page in compared for value in page.body["commits"]}
    commits |= {value["sha"]: value for value in values}
    if len(commits) != stated:
        return pages, values
    return [*pages, *compared], list(commits.values())


def _verify(
    section: Section,
    items: tuple[Item, ...] | None,
    lengths: Collection[int],
    stated: int | None,
    *,
    etags: Validators,
) -> SectionResult:
    """Compare a list that was read to its end with the number that GitHub states.

    `lengths` is in how many ways it can be counted.
    """
    length = max(lengths)
    if stated is None:
        return SectionResult(items, result=VERIFIED, etags=etags)
    if stated in lengths:
        witness = TOTAL if section in LISTED_IN else COUNTER
        return SectionResult(items, stated, VERIFIED, etags=etags, witness=witness)
    if section in CAPS and CAPS[section] <= length < stated:
        return SectionResult(items, stated, CAPPED, etags=etags)
    error = DisagreementError(f"GitHub states {stated} and lists {length}")
    return SectionResult(items, stated, error=error)


async def _list(
    github: GitHub, pull_request: PullRequestItem, section: Section, first: Page | None
) -> list[Page]:
    """Return all pages of a list, of which we may have the first already."""
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

    Unlike the other lists, those of the head commit come in an object with their total.
    """
    if section not in LISTED_IN:
        return [value for page in pages for value in page.items], None
    values = [value for page in pages for value in page.body[LISTED_IN[section]]]
    return values, pages[-1].body["total_count"]
