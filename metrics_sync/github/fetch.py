"""Fetches a pull request with all its lists at once, and proves that the lists are complete."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from metrics_sync.exceptions import (
    DisagreementError,
    GitHubError,
    GoneError,
    NameReusedError,
    NumberReusedError,
    RetrySoonError,
)
from metrics_sync.github.client import GitHub
from metrics_sync.github.pages import Page
from metrics_sync.github.sections import (
    FETCH_SECONDS,
    fetch_sections,
    limit_time,
    list_validators,
    revalidate,
)
from metrics_sync.github.witnesses import VOUCHING, corroborate
from metrics_sync.snapshot import (
    AGREED,
    ITSELF,
    TOKEN,
    TOTAL,
    UNAVAILABLE,
    UNREADABLE,
    VERIFIED,
    Known,
    PullRequestItem,
    Receipt,
    Section,
    SectionResult,
    Snapshot,
    Validators,
    read_pull_request,
)

#: For how long after the merge the API may still answer from before it.
REPLICATION_LAG = timedelta(minutes=5)


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


async def fetch_snapshot(
    github: GitHub,
    full_name: str,
    number: int,
    *,
    merged_at: datetime | None,
    known: Known,
    now: datetime,
) -> Snapshot:
    """Fetch a pull request and those of its lists that the known receipt does not prove.

    Each list fails alone, with its error in its result. A list is fetched again when the pull
    request's counter has changed since; pages that have not changed cost no rate limit. For five
    minutes after `merged_at`, answers from before the merge are taken as replication lag.

    Raises GitHubError when the pull request itself cannot be fetched, and NumberReusedError when
    its number belongs to another one.
    """
    just_merged = merged_at is not None and now - merged_at < REPLICATION_LAG
    give_up_at = asyncio.get_running_loop().time() + FETCH_SECONDS
    known = _drop_unusable_etags(known, github)
    async with limit_time(give_up_at):
        pull_request, etags = await _fetch_itself(
            github, full_name, number, known=known, just_merged=just_merged
        )
    fetch = partial(fetch_sections, github, give_up_at=give_up_at, just_merged=just_merged)
    results = await fetch(pull_request, _choose(known, pull_request), known)
    results, agreed = corroborate(results, pull_request, agreed=known.etags.get(AGREED, ()))
    if disagreeing := _list_disagreeing(results):
        # Counters and lists are read at different moments, and somebody may be commenting.
        try:
            pull_request, etags = await _fetch_itself_again(github, full_name, number, give_up_at)
            results |= await fetch(pull_request, disagreeing, Known())
            results, agreed = corroborate(results, pull_request, agreed=agreed)
        except GitHubError as error:
            results |= {s: replace(results[s], error=error) for s in disagreeing if s in results}
    results = known.receipt.accept_lasting_faults(results, now=now)
    kept = {**known.etags, **_list_etags(results, github), ITSELF: etags, AGREED: agreed}
    moved_to = pull_request.base_repo if github.was_redirected else ""
    return Snapshot(pull_request, results, kept, moved_to=moved_to)


def _list_etags(results: Mapping[Section, SectionResult], github: GitHub) -> dict[str, Validators]:
    """Return the ETags of each list, and the fingerprint of the token that they belong to."""
    etags = {section.value: result.etags for section, result in results.items()}
    return {TOKEN: [[github.make_fingerprint()]], **etags}


def _drop_unusable_etags(known: Known, github: GitHub) -> Known:
    """Drop the ETags of another token, and of lists that must be compared with each other."""
    (fingerprint,) = known.etags.get(TOKEN, [[""]])[0]
    if not github.recognizes(fingerprint):
        return replace(known, etags={})
    if known.etags.get(AGREED):
        return known
    usable = {name: etags for name, etags in known.etags.items() if name not in VOUCHING}
    return replace(known, etags=usable)


def _choose(known: Known, pull_request: PullRequestItem) -> list[Section]:
    """Choose the lists to fetch; those that vouch for each other are fetched together."""
    wanted = set(known.receipt.list_missing(pull_request.stated))
    is_unavailable = Section.TIMELINE in known.receipt.list_with(UNAVAILABLE)
    if Section.REVIEWS in wanted or (Section.TIMELINE in wanted and not is_unavailable):
        has_agreed = bool(known.etags.get(AGREED))
        wanted |= {Section.REVIEWS, Section.TIMELINE} if has_agreed else set(VOUCHING)
    return [section for section in Section if section in wanted]


def _list_disagreeing(results: Mapping[Section, SectionResult]) -> list[Section]:
    """List what must be fetched once more, in full with the lists that it is compared with."""
    found = {s for s, result in results.items() if isinstance(result.error, DisagreementError)}
    if found & {Section.REVIEWS, Section.TIMELINE}:
        found |= set(VOUCHING)
    return [section for section in Section if section in found]


async def fetch_missing(
    github: GitHub, snapshot: Snapshot, *, receipt: Receipt, now: datetime
) -> Snapshot:
    """Fetch the lists that failed in a snapshot, unless the receipt proves them already.

    The pull request itself is not fetched again. Each list fails alone, with its error in its
    result. The total that GraphQL stated vouches for a list for which REST has no counter.
    """
    pull_request = snapshot.pull_request
    missing = receipt.list_missing(pull_request.stated)
    wanted = [section for section in snapshot.errors if section in missing]
    give_up_at = asyncio.get_running_loop().time() + FETCH_SECONDS
    totals = {s: result.stated for s in wanted if (result := snapshot.sections[s]).stated}
    asked = replace(pull_request, stated={**pull_request.stated, **totals})
    came = await fetch_sections(
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
    sections |= receipt.accept_lasting_faults({s: sections[s] for s in came}, now=now)
    return replace(snapshot, sections=sections)


async def _fetch_itself(
    github: GitHub, full_name: str, number: int, *, known: Known, just_merged: bool
) -> tuple[PullRequestItem, Validators]:
    """Fetch the pull request itself; an answer from before a merge of just now is an error."""
    validators = known.etags.get(ITSELF, ())
    try:
        is_unchanged, page = await revalidate(github, validators)
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
    return pull_request, list_validators(page)


async def _fetch_itself_again(
    github: GitHub, full_name: str, number: int, give_up_at: float
) -> tuple[PullRequestItem, Validators]:
    async with limit_time(give_up_at):
        page = await _get_itself(github, full_name, number)
    return _read_itself(page, full_name), list_validators(page)
