"""Fetching one pull request and listing many, over real HTTP: requests, proofs, faults, limits."""

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from django.conf import settings

from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.github import (
    GitHub,
    client,
    fetch_merges,
    fetch_numbers,
    fetch_pull_request,
    fetch_repository,
    fetch_snapshot,
    keep_connections,
    transport,
)
from metrics_sync.github import fetch as fetch_module
from metrics_sync.github.sections import LISTED_IN, UNCOUNTED_LINES
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    World,
    make_recording,
)
from metrics_sync.snapshot import (
    CAPPED,
    COUNTERS,
    DISAGREEING,
    OUTDATED,
    UNAVAILABLE,
    VERIFIED,
    Known,
    RateLimit,
    Receipt,
    Section,
    SectionReceipt,
    Snapshot,
)
from metrics_sync.snapshot.items import get_key
from metrics_sync.snapshot.reading import TIMELINE_EVENTS
from tests.conftest import wait_until
from tests.http2 import Front, serve_http2

REPOSITORY = "acme/anvil"
NOW = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
JUST_NOW = NOW - timedelta(minutes=5) + timedelta(seconds=1)
FIVE_MINUTES_AGO = NOW - timedelta(minutes=5)

NO_COMMIT = "No commit found for SHA: 7fd1a60b01f91b314f59955a4e4d4e80d8edf11d"
ITSELF = "/pulls/7$"
PATHS = {
    Section.COMMITS: "/pulls/7/commits$",
    Section.FILES: "/pulls/7/files$",
    Section.CHECK_RUNS: "/check-runs$",
    Section.ISSUE_COMMENTS: "/issues/7/comments$",
    Section.REVIEW_COMMENTS: "/pulls/7/comments$",
    Section.REVIEWS: "/pulls/7/reviews$",
    Section.TIMELINE: "/issues/7/timeline$",
    Section.COMMIT_STATUSES: "/status$",
}

COUNTED = [section for section in Section if section in COUNTERS or section in LISTED_IN]
ALL_VERIFIED = dict.fromkeys(Section, VERIFIED)

Ask = Callable[..., Any]
Fetch = Callable[..., Snapshot]
Http2 = Callable[..., Front]


@pytest.fixture
def http2(
    sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Http2]:
    """Start a TLS server with these protocols in front of the sandbox."""
    with ExitStack() as stack:

        def start(protocols: list[str], **options: float) -> Front:
            serving = serve_http2(sandbox.url, folder=tmp_path, protocols=protocols, **options)
            front = stack.enter_context(serving)
            monkeypatch.setenv("SSL_CERT_FILE", str(front.certificate))
            transport._tls_context.cache_clear()
            return front

        yield start
    transport._tls_context.cache_clear()


@pytest.fixture
def ask(sandbox: SandboxServer) -> Ask:
    """Runs one conversation with a GitHub that has one pull request."""
    sandbox.world.add(make_recording(REPOSITORY, 7))

    def hold(question: Callable[[GitHub], Awaitable[Any]], **access: Any) -> Any:
        async def converse() -> Any:
            options = {"api_url": sandbox.url, "token": DEFAULT_TOKEN, **access}
            async with GitHub(**options) as github:
                return await question(github)

        return asyncio.run(converse())

    return hold


async def look(
    github: GitHub,
    *,
    merged_at: datetime | None = None,
    known: Known | None = None,
    now: datetime = NOW,
) -> Snapshot:
    options = {"merged_at": merged_at, "known": known or Known(), "now": now}
    return await fetch_snapshot(github, REPOSITORY, 7, **options)


@pytest.fixture
def fetch(ask: Ask) -> Fetch:
    """Fetches that pull request as a worker does."""

    def run(*, merged_at: datetime | None = None, **access: Any) -> Snapshot:
        return ask(partial(look, merged_at=merged_at), **access)

    return run


def inflict(sandbox: SandboxServer, kind: FaultKind, path: str = ITSELF, **options: Any) -> Fault:
    return sandbox.faults.add(Fault(kind, path=path, **options))


def read_keys(snapshot: Snapshot) -> dict[str, set[Any]]:
    """Return GitHub's keys of the items of each section."""
    return {
        section: {get_key(section, item) for item in result.items or ()}
        for section, result in snapshot.sections.items()
    }


def read_truth(sandbox: SandboxServer) -> dict[str, set[Any]]:
    recording = sandbox.world.recording(REPOSITORY, 7)
    names = {Section.COMMITS: ["sha"], Section.FILES: ["filename", "status"]}
    truth = {
        section: {
            tuple(item[name] for name in names.get(section, ["id"]))
            for item in getattr(recording, section)
        }
        for section in Section
    }
    kept = [item for item in recording.timeline if item["event"] in TIMELINE_EVENTS]
    return {**truth, Section.TIMELINE: {(item["id"],) for item in kept}}


def read_results(snapshot: Snapshot) -> dict[Section, str]:
    return {section: result.result for section, result in snapshot.sections.items()}


# Which requests are sent, and in which order.


def test_everything_is_had_and_proven_with_nine_requests(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """All merges of an hour share the budget of requests."""
    snapshot = fetch()

    assert read_keys(snapshot) == read_truth(sandbox)
    assert (read_results(snapshot), snapshot.errors) == (ALL_VERIFIED, {})
    assert len(sandbox.requests) == 9


def test_sections_are_asked_for_at_once(ask: Ask, fetch: Fetch) -> None:
    """Eight answers one after another take eight times as long."""
    ticks = count(1_800_000_000)
    world = World([make_recording(REPOSITORY, 7)])
    with SandboxServer(world, latency_ms=1000, clock=ticks.__next__) as server:
        fetch(api_url=server.url)
        started = sorted(request.started_at for request in server.requests)

    # Each request ticks at its arrival and before its answer: all arrived before the first answer.
    assert started[1:] == list(range(int(started[1]), int(started[1]) + 8))


def test_second_fetch_opens_no_new_connection(sandbox: SandboxServer, ask: Ask) -> None:
    """With TLS a new connection for each request costs more than the request."""

    async def look_twice(github: GitHub) -> list[set[int]]:
        seen = []
        for _ in range(2):
            await look(github)
            seen.append({id(each) for each in sandbox._runner.server.connections})
        return seen

    before, after = ask(look_twice)

    assert before == after
    assert len(before) == len(Section)


# All of these are in the timeline, too, which therefore has three or four pages.
@pytest.mark.parametrize(("length", "requests"), [(100, 12), (101, 18)])
def test_lists_are_followed_to_their_end(
    sandbox: SandboxServer, fetch: Fetch, length: int, requests: int
) -> None:
    """One page too few loses data; one too many costs a request for every list."""
    names = ("commits", "files", "issue_comments", "review_comments", "reviews", "check_runs")
    sandbox.world.add(make_recording(REPOSITORY, 7, **dict.fromkeys(names, length)))

    snapshot = fetch()

    assert read_keys(snapshot) == read_truth(sandbox)
    assert (read_results(snapshot), len(sandbox.requests)) == (ALL_VERIFIED, requests)


def test_further_pages_are_asked_for_at_once_and_kept_in_order(ask: Ask, fetch: Fetch) -> None:
    """Thirty pages of files one after another take thirty times as long as one."""
    ticks = count(1_800_000_000)
    recording = make_recording(REPOSITORY, 7, files=901, issue_comments=0, review_comments=0)
    with SandboxServer(World([recording]), latency_ms=1000, clock=ticks.__next__) as server:
        items = fetch(api_url=server.url).sections[Section.FILES].items or ()
        seen = [request for request in server.requests if "&page=" in request.query]

    # None of them was answered before the last had arrived.
    started = sorted(request.started_at for request in seen)
    assert started == list(range(int(started[0]), int(started[0]) + 9))
    names = [getattr(item, "filename", "") for item in items]
    assert names == [file["filename"] for file in recording.files]


async def list_comments(github: GitHub) -> list[Any]:
    pages = await github.all_pages(github.api.issues.list_comments, *REPOSITORY.split("/"), 7)
    return [page.body for page in pages]


def test_pages_that_wait_are_given_up_with_one_that_fails(sandbox: SandboxServer, ask: Ask) -> None:
    """They would use up requests although their list has failed already."""
    sandbox.world.add(make_recording(REPOSITORY, 7, issue_comments=401))
    inflict(sandbox, FaultKind.STATUS, "[&]page=2", status=404)
    inflict(sandbox, FaultKind.SLOW, "[&]page=[345]", seconds=0.5)

    async def count_left(github: GitHub) -> int:
        with pytest.raises(GoneError):
            await list_comments(github)
        return len(asyncio.all_tasks() - {asyncio.current_task()})

    assert ask(count_left) == 0


def test_cursors_are_followed_one_by_one(sandbox: SandboxServer, ask: Ask) -> None:
    """A page number does not move a cursor: the same page would come several times."""
    address = f"{sandbox.url}/repos/{REPOSITORY}/issues/7/comments?after="
    for found, after, number in (("per_page", "one", 2), ("after=one", "two", 3)):
        last = f'<{address}last&page=3>; rel="last"'
        link = f'<{address}{after}&page={number}>; rel="next", {last}'
        inflict(sandbox, FaultKind.WRONG_TYPE, found, body=[found], headers={"Link": link})
    inflict(sandbox, FaultKind.WRONG_TYPE, "after=two", body=["after=two"])

    assert ask(list_comments) == [["per_page"], ["after=one"], ["after=two"]]


def test_http2_is_spoken_where_it_is_understood(http2: Http2, fetch: Fetch) -> None:
    """All requests of a fetch then share one TLS handshake."""
    front = http2(["h2", "http/1.1"])

    snapshot = fetch(api_url=front.url)

    assert read_results(snapshot) == ALL_VERIFIED
    assert (front.versions, len(front.connections)) == ({"2"}, 1)


def converse_twice(front: Front, between: Callable[[], None]) -> list[int]:
    """Hold two conversations in one event loop; return how many requests each needed."""

    async def run() -> list[int]:
        needed = []
        async with keep_connections():
            for is_second in (False, True):
                if is_second:
                    await asyncio.to_thread(between)
                async with GitHub(api_url=front.url, token=DEFAULT_TOKEN) as github:
                    await github.call(github.api.users.get_authenticated)
                    needed.append(github.requests_made)
        return needed

    return asyncio.run(run())


def test_conversations_of_one_loop_share_its_connection(http2: Http2) -> None:
    """Each would begin with two round trips for its handshake."""
    front = http2(["h2", "http/1.1"])

    needed = converse_twice(front, between=lambda: None)

    assert (needed, len(front.connections)) == ([1, 1], 1)


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_kept_connection_that_github_closed_is_replaced(
    http2: Http2, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub may close an idle one at any time."""
    # How long the server waits for the answer to TLS's farewell, which an idle client never reads.
    monkeypatch.setattr("asyncio.constants.SSL_SHUTDOWN_TIMEOUT", 0.2)
    front = http2([protocol], idle_seconds=0.2)
    port = urlsplit(front.url).port

    def wait_for_the_end() -> None:
        wait_until(
            lambda: any(
                each.raddr and each.raddr.port == port and each.status == psutil.CONN_CLOSE_WAIT
                for each in psutil.Process().net_connections()
            )
        )

    converse_twice(front, between=wait_for_the_end)

    assert len(front.connections) == 2


def test_shared_connections_keep_no_cookie() -> None:
    """It would tell GitHub, or a server in front of it, who asked before."""
    client = transport._make_client()
    answer = httpx2.Response(
        200, headers={"Set-Cookie": "a=b"}, request=httpx2.Request("GET", "https://api.github.com")
    )

    client.cookies.extract_cookies(answer)

    assert not client.cookies


def test_tls_without_http2_will_do(http2: Http2, fetch: Fetch) -> None:
    """A GitHub Enterprise behind an old proxy must still work."""
    front = http2(["http/1.1"])

    snapshot = fetch(api_url=front.url)

    assert (read_results(snapshot), front.versions) == (ALL_VERIFIED, {"1.1"})


def test_sections_that_are_empty_by_their_counters_are_not_asked_for(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """Most pull requests have no comments."""
    sandbox.world.add(make_recording(REPOSITORY, 7, files=0, issue_comments=0, review_comments=0))

    snapshot = fetch()

    assert read_results(snapshot) == ALL_VERIFIED
    asked = {request.path.rpartition("/")[2] for request in sandbox.requests}
    assert asked == {"7", "commits", "check-runs", "reviews", "timeline", "status"}


def test_second_look_at_unchanged_pages_is_free(ask: Ask, fetch: Fetch) -> None:
    """Every merge is fetched again a day later."""
    first = fetch()
    known = Known(make_receipt(first).outdate(), first.etags, first.pull_request)

    async def look_again(github: GitHub) -> tuple[Snapshot, RateLimit | None]:
        return await look(github, known=known), github.budget.rate_limit

    again, rate_limit = ask(look_again)

    assert read_results(again) == ALL_VERIFIED
    assert {result.items for result in again.sections.values()} == {None}
    assert rate_limit.remaining == 5000 - 9


def test_review_behind_a_full_page_is_seen(sandbox: SandboxServer, ask: Ask, fetch: Fetch) -> None:
    """The ETag of a full page does not change when another page follows, and reviews have no
    counter.
    """
    add_reviews(sandbox, 100 - len(sandbox.world.recording(REPOSITORY, 7).reviews))
    first = fetch()
    entry = SectionReceipt(stated=None, stored=100, result=OUTDATED)
    known = Known(Receipt({Section.REVIEWS: entry}), first.etags, first.pull_request)
    add_reviews(sandbox, 1)

    again = ask(partial(look, known=known))

    assert len(again.sections[Section.REVIEWS].items) == 101


def add_reviews(sandbox: SandboxServer, count: int) -> None:
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        last = recording.reviews[-1]
        recording.reviews += [{**last, "id": last["id"] + n} for n in range(1, count + 1)]


# What proves that a list is complete.


def test_more_files_than_github_lists_are_called_capped(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """3,000 of 3,001 files is all that GitHub gives, but not the whole list."""
    sandbox.world.add(make_recording(REPOSITORY, 7, files=3001, lines_per_file=1))

    result = fetch().sections[Section.FILES]

    assert (result.result, len(result.items), result.stated) == (CAPPED, 3000, 3001)


@pytest.mark.parametrize(
    ("comparison", "result", "length"),
    [("there", VERIFIED, 251), ("gone", CAPPED, 250)],
)
def test_more_commits_than_github_lists_are_compared(
    sandbox: SandboxServer, fetch: Fetch, comparison: str, result: str, length: int
) -> None:
    """The oldest commits are missing from the list, and metrics count commits."""
    sandbox.world.add(make_recording(REPOSITORY, 7, commits=251))
    if comparison == "gone":
        inflict(sandbox, FaultKind.STATUS, "/compare/", status=404)

    commits = fetch().sections[Section.COMMITS]

    assert (commits.result, len(commits.items), commits.stated) == (result, length, 251)


def test_lines_that_github_left_uncounted_are_asked_for_again(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """Huge changes would look like empty ones."""
    recording = make_recording(REPOSITORY, 7, files=12, lines_per_file=9000)
    sandbox.world.add(recording)

    items = fetch().sections[Section.FILES].items

    lines = [(item["filename"], item["additions"], item["deletions"]) for item in recording.files]
    assert [(item.filename, item.additions, item.deletions) for item in items] == lines


@pytest.mark.long(seconds=3)
def test_small_pages_are_bounded_and_what_is_missing_is_said(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """One enormous pull request must not use up the budget of an hour."""
    sandbox.world.add(make_recording(REPOSITORY, 7, files=1200, lines_per_file=3000))

    result = fetch().sections[Section.FILES]

    small = [request for request in sandbox.requests if "per_page=10&" in f"{request.query}&"]
    assert (result.result, result.reason) == (VERIFIED, UNCOUNTED_LINES)
    assert len(small) == 100


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        pytest.param(FaultKind.SHORT_LIST, PATHS[Section.ISSUE_COMMENTS], id="older list"),
        pytest.param(FaultKind.STALE, ITSELF, id="older counters"),
    ],
)
def test_disagreement_with_the_counters_is_looked_at_once_more(
    sandbox: SandboxServer, fetch: Fetch, kind: FaultKind, path: str
) -> None:
    """Somebody comments between the two requests, or a replica lags behind."""
    inflict(sandbox, kind, path, items=1, times=1)

    snapshot = fetch()

    assert read_keys(snapshot) == read_truth(sandbox)
    assert read_results(snapshot) == ALL_VERIFIED


@pytest.mark.parametrize("section", COUNTED)
def test_list_that_stays_short_is_an_error_of_that_section(
    sandbox: SandboxServer, fetch: Fetch, section: Section
) -> None:
    """Complete means counted, not that no exception was raised."""
    sandbox.world.add(make_recording(REPOSITORY, 7, statuses=2))
    fault = inflict(sandbox, FaultKind.SHORT_LIST, PATHS[section])

    snapshot = fetch()

    assert list(snapshot.errors) == [section]
    assert isinstance(snapshot.errors[section], RetrySoonError)
    assert fault.inflicted == 2


@pytest.mark.parametrize("section", [Section.TIMELINE, Section.COMMIT_STATUSES, Section.CHECK_RUNS])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": FaultKind.STATUS, "status": 404}, id="an older server"),
        pytest.param({"kind": FaultKind.PERMISSION}, id="a narrower token"),
        pytest.param(
            {"kind": FaultKind.STATUS, "status": 422, "body": {"message": NO_COMMIT}},
            id="a commit that is gone",
        ),
    ],
)
def test_optional_section_that_cannot_be_had_is_called_unavailable(
    sandbox: SandboxServer, fetch: Fetch, section: Section, fault: dict[str, Any]
) -> None:
    """A pull request is complete without it, and its metrics say what is missing."""
    inflict(sandbox, path=PATHS[section], **fault)

    result = fetch().sections[section]

    assert (result.result, result.error) == (UNAVAILABLE, None)
    assert result.reason


def test_list_that_was_unavailable_is_asked_for_again(
    sandbox: SandboxServer, ask: Ask, fetch: Fetch
) -> None:
    """A permission that is granted later must take effect."""
    refusal = inflict(sandbox, FaultKind.PERMISSION, PATHS[Section.CHECK_RUNS], times=1)
    first = fetch()
    known = Known(make_receipt(first), first.etags, first.pull_request)

    again = ask(partial(look, known=known))

    assert refusal.inflicted == 1
    assert first.sections[Section.CHECK_RUNS].result == UNAVAILABLE
    assert read_results(again) == {Section.CHECK_RUNS: VERIFIED}


def make_receipt(snapshot: Snapshot) -> Receipt:
    """Return the receipt of a snapshot of which everything was stored."""
    stored = {section: len(result.items or ()) for section, result in snapshot.sections.items()}
    return Receipt().merge(snapshot.sections, stored=stored)


# Lists that confirm each other.


def cut(sandbox: SandboxServer, section: Section, times: int | None = None) -> Fault:
    """Have GitHub answer with an older list, which lacks the last item."""
    return inflict(sandbox, FaultKind.STALE, PATHS[section], items=1, times=times)


def test_reviews_that_the_timeline_names_and_github_does_not_list_are_no_proof(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """No counter shows that a list of reviews comes from a replica that lags behind."""
    cut(sandbox, Section.REVIEWS)

    snapshot = fetch()

    error = snapshot.errors[Section.REVIEWS]
    assert list(snapshot.errors) == [Section.REVIEWS]
    assert str(error) == "other lists name 2 reviews and GitHub lists 1"


def test_older_list_of_reviews_is_mended_at_once(sandbox: SandboxServer, fetch: Fetch) -> None:
    """The next answer usually comes from another replica."""
    cut(sandbox, Section.REVIEWS, times=1)

    snapshot = fetch()

    assert read_keys(snapshot) == read_truth(sandbox)
    assert read_results(snapshot) == ALL_VERIFIED
    assert snapshot.sections[Section.REVIEWS].witness == "timeline"
    assert snapshot.sections[Section.TIMELINE].witness == "merge, comments, reviews"


def add_reply(sandbox: SandboxServer) -> None:
    """Answer a comment: that makes a review of its own, which the timeline does not show."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        last, first = recording.reviews[-1], recording.review_comments[0]
        own = {"state": "COMMENTED", "body": "", "id": last["id"] + 1}
        recording.reviews += [{**last, **own}]
        reply = {"in_reply_to_id": first["id"], "pull_request_review_id": own["id"]}
        recording.review_comments += [{**first, **reply, "id": first["id"] + 10**6}]
        recording.pull["review_comments"] += 1


def test_review_that_is_only_a_reply_need_not_be_in_the_timeline(
    sandbox: SandboxServer, ask: Ask, fetch: Fetch
) -> None:
    """GitHub does not show such reviews there; a pull request with replies would be in doubt."""
    add_reply(sandbox)
    first = fetch()
    known = Known(make_receipt(first).outdate(), first.etags, first.pull_request)

    again = ask(partial(look, known=known))

    assert read_keys(first) == read_truth(sandbox)
    assert read_results(first) == read_results(again) == ALL_VERIFIED


def test_review_that_only_a_reply_names_is_missed(sandbox: SandboxServer, fetch: Fetch) -> None:
    """The timeline does not show such a review, but its comment names it."""
    add_reply(sandbox)
    cut(sandbox, Section.REVIEWS)

    snapshot = fetch()

    assert list(snapshot.errors) == [Section.REVIEWS]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        pytest.param(2, "a merge and its timeline lists none", id="from before the merge"),
        pytest.param(20, "a merge and its timeline lists none", id="empty"),
    ],
)
def test_older_timeline_is_no_proof(
    sandbox: SandboxServer, fetch: Fetch, items: int, said: str
) -> None:
    """Without its last events nobody knows when a draft was ready or a review dismissed."""
    inflict(sandbox, FaultKind.STALE, PATHS[Section.TIMELINE], items=items)

    snapshot = fetch()

    assert list(snapshot.errors) == [Section.TIMELINE]
    assert said in str(snapshot.errors[Section.TIMELINE])
    assert snapshot.sections[Section.REVIEWS].result == OUTDATED


def test_timeline_with_fewer_comments_than_stated_is_no_proof(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """An open pull request has no merge event that proves a timeline to be complete."""
    sandbox.world.add(make_recording(REPOSITORY, 7, merged=False, review_comments=0, reviews=0))
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        comments = recording.list_timeline()
        kept = [item for item in comments if item["event"] != "commented"]
    inflict(sandbox, FaultKind.WRONG_TYPE, PATHS[Section.TIMELINE], body=kept)

    snapshot = fetch()

    assert str(snapshot.errors[Section.TIMELINE]) == (
        "GitHub states 2 comments and its timeline lists 0"
    )


def test_timeline_without_a_verdict_that_github_lists_is_no_proof(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """Only reviews without a text of their own may be missing from the timeline."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        kept = [item for item in recording.list_timeline() if item["event"] != "reviewed"]
    inflict(sandbox, FaultKind.WRONG_TYPE, PATHS[Section.TIMELINE], body=kept)

    snapshot = fetch()

    assert list(snapshot.errors) == [Section.TIMELINE]
    assert "2 are not in its timeline" in str(snapshot.errors[Section.TIMELINE])


def test_reviews_without_a_timeline_say_that_nothing_vouches_for_them(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """An older server may have no timeline; its pull requests are complete all the same."""
    inflict(sandbox, FaultKind.STATUS, PATHS[Section.TIMELINE], status=404)

    reviews = fetch().sections[Section.REVIEWS]

    assert (reviews.result, reviews.witness) == (VERIFIED, "")
    assert reviews.reason == "there is no timeline to vouch for it"


def test_new_review_is_compared_with_a_timeline_that_says_it_is_unchanged(
    sandbox: SandboxServer, ask: Ask, fetch: Fetch
) -> None:
    """One of the two lists is from a replica that is behind."""
    first = fetch()
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        stale = [dict(item) for item in recording.list_timeline()]
    add_reviews(sandbox, 1)
    known = Known(make_receipt(first).outdate(), first.etags, first.pull_request)
    inflict(sandbox, FaultKind.WRONG_TYPE, PATHS[Section.TIMELINE], body=stale)

    again = ask(partial(look, known=known))

    assert list(again.errors) == [Section.TIMELINE]


def test_late_comment_leaves_the_reviews_unasked_in_full(
    sandbox: SandboxServer, ask: Ask, fetch: Fetch
) -> None:
    """The comment changes the timeline, but unchanged reviews must cost nothing."""
    first = fetch()
    sandbox.world.add_comment(REPOSITORY, 7, body="Late.")
    known = Known(make_receipt(first).outdate(), first.etags, first.pull_request)
    asked_before = len(sandbox.requests)

    again = ask(partial(look, known=known))

    assert read_results(again) == ALL_VERIFIED
    answers = [request.status for request in sandbox.requests[asked_before:]]
    # The pull request, its comments and its timeline.
    assert sorted(answers) == [200] * 3 + [304] * 6


# Faults that stay.


def repeat(ask: Ask, times: int, *, every: timedelta) -> Snapshot:
    """Fetch over and over, each time with the receipt of the time before."""
    known, moment = Known(), NOW
    for _ in range(times):
        snapshot: Snapshot = ask(partial(look, known=known, now=moment))
        stored = {s: len(r.items or ()) for s, r in snapshot.sections.items()}
        known = Known(known.receipt.merge(snapshot.sections, stored=stored), snapshot.etags)
        moment += every
    return snapshot


@pytest.mark.parametrize(
    ("times", "every", "result"),
    [
        pytest.param(2, timedelta(days=2), "", id="two fetches"),
        pytest.param(4, timedelta(hours=7), "", id="less than a day"),
        pytest.param(3, timedelta(hours=12), DISAGREEING, id="three over a day"),
    ],
)
@pytest.mark.parametrize("section", [Section.ISSUE_COMMENTS, Section.REVIEWS])
def test_list_that_disagrees_for_a_day_is_taken_as_it_is(
    sandbox: SandboxServer,
    ask: Ask,
    section: Section,
    times: int,
    every: timedelta,
    result: str,
) -> None:
    """Some of GitHub's counters are wrong for good, and such pull requests would be fetched for
    ever.
    """
    cut(sandbox, section)

    last = repeat(ask, times, every=every).sections[section]

    assert (last.result, last.error is None) == (result, bool(result))
    assert "GitHub lists 1" in (last.reason or str(last.error)).replace("and lists", "GitHub lists")


def test_other_disagreement_is_counted_anew(sandbox: SandboxServer, ask: Ask) -> None:
    """While the numbers change, GitHub is still updating them."""
    fault = cut(sandbox, Section.ISSUE_COMMENTS)
    known, moment = Known(), NOW
    for items in (1, 1, 2):
        fault.items = items
        snapshot = ask(partial(look, known=known, now=moment))
        known, moment = Known(make_receipt(snapshot), snapshot.etags), moment + timedelta(days=1)

    result = snapshot.sections[Section.ISSUE_COMMENTS]
    assert (result.result, result.fault and result.fault.count) == ("", 1)


@pytest.mark.parametrize("section", [Section.TIMELINE, Section.COMMIT_STATUSES])
def test_optional_list_that_always_fails_is_called_unavailable(
    sandbox: SandboxServer, ask: Ask, section: Section
) -> None:
    """GitHub answers 502 for some timelines, however often it is asked."""
    inflict(sandbox, FaultKind.STATUS, PATHS[section], status=502)

    result = repeat(ask, 3, every=timedelta(hours=12)).sections[section]

    assert (result.result, result.error) == (UNAVAILABLE, None)
    assert "failed 3 times" in result.reason


# ETags belong to one token.


def test_etags_of_another_token_are_not_sent(
    sandbox: SandboxServer, ask: Ask, fetch: Fetch
) -> None:
    """They never match, so every page would be asked for twice."""
    sandbox.world.add(make_recording(REPOSITORY, 7, files=250))
    sandbox.world.add_token(Token("ghs_next_hour"))
    first = fetch()
    known = Known(make_receipt(first).outdate(), first.etags, first.pull_request)
    asked_before = len(sandbox.requests)

    again = ask(partial(look, known=known), token="ghs_next_hour")

    asked = sandbox.requests[asked_before:]
    assert read_results(again) == ALL_VERIFIED
    assert len(asked) == asked_before
    assert not any(request.conditional for request in asked)


def test_fingerprint_does_not_tell_the_token(fetch: Fetch) -> None:
    """The fingerprint is stored unencrypted with the ETags."""
    first, second = fetch().etags["token"], fetch().etags["token"]

    assert DEFAULT_TOKEN not in str(first)
    assert first != second


# Files that change their type.


@pytest.mark.parametrize("stated", [1, 2])
def test_file_whose_type_changes_keeps_both_lines(
    sandbox: SandboxServer, ask: Ask, fetch: Fetch, stated: int
) -> None:
    """GitHub lists such a file twice under one name, and counts it once or twice."""
    sandbox.world.add(make_recording(REPOSITORY, 7, files=0))
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        file = make_recording(REPOSITORY, 7, files=1).files[0]
        lines = {"additions": 0, "deletions": 0, "changes": 0}
        recording.files = [{**file, **lines, "status": s} for s in ("removed", "added")]
        recording.pull |= {"changed_files": stated}
    first = fetch()
    known = Known(make_receipt(first).outdate(), first.etags, first.pull_request)

    again = ask(partial(look, known=known))

    assert [item.status for item in first.sections[Section.FILES].items] == ["removed", "added"]
    assert read_results(first) == read_results(again) == ALL_VERIFIED


@pytest.mark.parametrize("stated", [1, 4])
def test_other_numbers_of_files_are_not_explained_by_it(
    sandbox: SandboxServer, fetch: Fetch, stated: int
) -> None:
    """A missing page must not be mistaken for a file that is counted once."""
    sandbox.world.add(make_recording(REPOSITORY, 7, files=3))
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull |= {"changed_files": stated}

    assert list(fetch().errors) == [Section.FILES]


# Faults, and how they are reported.


@pytest.mark.parametrize("section", Section)
def test_section_fails_alone(sandbox: SandboxServer, fetch: Fetch, section: Section) -> None:
    """Partial data is better than none."""
    inflict(sandbox, FaultKind.STATUS, PATHS[section])

    snapshot = fetch()

    assert {name: type(error) for name, error in snapshot.errors.items()} == {
        section: RetrySoonError
    }
    assert read_keys(snapshot) == {**read_truth(sandbox), section: set()}


@pytest.mark.parametrize("path", [ITSELF, PATHS[Section.FILES]], ids=["itself", "a list"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": FaultKind.STATUS, "status": 502}, id="502"),
        pytest.param({"kind": FaultKind.STATUS, "status": 503}, id="503 as HTML"),
        pytest.param({"kind": FaultKind.RESET}, id="reset"),
        pytest.param({"kind": FaultKind.TRUNCATED}, id="truncated"),
        pytest.param({"kind": FaultKind.GARBAGE}, id="garbage"),
    ],
)
def test_one_passing_fault_is_healed_at_once(
    sandbox: SandboxServer, fetch: Fetch, fault: dict[str, Any], path: str
) -> None:
    """A retry of the job comes only after a minute, and there are only three."""
    inflict(sandbox, path=path, times=1, **fault)

    snapshot = fetch()

    assert (read_results(snapshot), len(sandbox.requests)) == (ALL_VERIFIED, 10)


def test_fault_that_does_not_pass_is_left_to_the_job(sandbox: SandboxServer, fetch: Fetch) -> None:
    """Requests without a pause do not help a server that is down."""
    inflict(sandbox, FaultKind.RESET)

    with pytest.raises(RetrySoonError):
        fetch()

    assert len(sandbox.requests) == 2


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"kind": FaultKind.STATUS, "status": 404}, GoneError, "404 Not Found"),
        ({"kind": FaultKind.STATUS, "status": 410}, GoneError, "410"),
        ({"kind": FaultKind.STATUS, "status": 451}, GoneError, "451 Repository access blocked"),
        (
            {"kind": FaultKind.PERMISSION, "permissions": "checks=read"},
            PermissionMissingError,
            "the token needs: checks=read",
        ),
        ({"kind": FaultKind.STATUS, "status": 422}, GitHubError, "422 Validation Failed"),
        ({"kind": FaultKind.STATUS, "status": 301}, GitHubError, "301"),
    ],
)
def test_refusal_for_good_is_asked_once_and_says_why(
    sandbox: SandboxServer,
    fetch: Fetch,
    fault: dict[str, Any],
    kind: type[GitHubError],
    said: str,
) -> None:
    """The operator reads on the row what to allow, to renew or to give up."""
    inflict(sandbox, path=PATHS[Section.FILES], **fault)

    snapshot = fetch()

    [(section, error)] = snapshot.errors.items()
    assert (section, type(error)) == (Section.FILES, kind)
    assert said in str(error)
    assert len(sandbox.requests) == 9


def test_unknown_token_is_refused_with_two_requests(sandbox: SandboxServer, fetch: Fetch) -> None:
    """The second request confirms the refusal; more of them would look like an attack."""
    with pytest.raises(CredentialRejectedError):
        fetch(token="ghp_revoked")

    assert [request.status for request in sandbox.requests] == [401, 401]


@pytest.mark.parametrize("body", [None, {}, [], [1], "text"], ids=repr)
def test_answer_of_another_type_is_an_error_of_its_section(
    sandbox: SandboxServer, fetch: Fetch, body: Any
) -> None:
    """Proxies answer 200 with their own pages, which must not be read as an empty list."""
    for path in PATHS.values():
        inflict(sandbox, FaultKind.WRONG_TYPE, path, body=body)

    snapshot = fetch()

    # An empty list of reviews is plausible; an empty timeline is not.
    open_ = {Section.REVIEWS} if body == [] else set()
    assert set(snapshot.errors) == set(Section) - open_
    assert snapshot.sections[Section.REVIEWS].result in ("", OUTDATED)
    assert all(isinstance(error, RetrySoonError) for error in snapshot.errors.values())


async def list_merges(
    github: GitHub, *, since: datetime = NOW - timedelta(days=30)
) -> list[list[int]]:
    pages = fetch_merges(github, REPOSITORY, since=since)
    return [[item.github_pr_number for item in page] async for page in pages]


@pytest.mark.parametrize("body", [None, {}, [1], "text"], ids=repr)
@pytest.mark.parametrize(
    "question",
    [
        pytest.param(partial(fetch_repository, full_name=REPOSITORY), id="repository"),
        pytest.param(
            partial(fetch_pull_request, full_name=REPOSITORY, number=7), id="pull request"
        ),
        pytest.param(partial(fetch_numbers, full_name=REPOSITORY, github_pr_ids=[1]), id="numbers"),
        pytest.param(list_merges, id="merges"),
    ],
)
def test_answer_of_another_type_is_to_be_asked_for_again(
    sandbox: SandboxServer, ask: Ask, question: Callable[[GitHub], Any], body: Any
) -> None:
    """A command must end with a sentence, not with a traceback or with nothing found."""
    inflict(sandbox, FaultKind.WRONG_TYPE, "", body=body)

    with pytest.raises(RetrySoonError):
        ask(question)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": FaultKind.STATUS, "status": 401},
        {"kind": FaultKind.STATUS, "status": 502},
        {"kind": FaultKind.PERMISSION},
        {"kind": FaultKind.PRIMARY_LIMIT},
        {"kind": FaultKind.RESET},
        {"kind": FaultKind.GARBAGE},
        {"kind": FaultKind.UNKNOWN_REDIRECT},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_errors_never_quote_the_token(
    sandbox: SandboxServer, fetch: Fetch, fault: dict[str, Any]
) -> None:
    """Error texts are stored on the row, and sent to the logs and to Sentry."""
    inflict(sandbox, **fault)

    with pytest.raises(GitHubError) as caught:
        fetch()

    assert DEFAULT_TOKEN not in "".join(traceback.format_exception(caught.value))


# Limits.


def test_used_up_limit_says_until_when_and_nothing_more_is_sent(
    sandbox: SandboxServer, ask: Ask
) -> None:
    """GitHub bans tokens that go on sending requests."""
    inflict(sandbox, FaultKind.PRIMARY_LIMIT, retry_after=600, times=1)

    async def ask_twice(github: GitHub) -> list[RateLimitedError]:
        errors = []
        for _ in range(2):
            with pytest.raises(RateLimitedError) as caught:
                await fetch_pull_request(github, REPOSITORY, 7)
            errors.append(caught.value)
        return errors

    errors = ask(ask_twice)

    [request] = sandbox.requests
    until = datetime.fromtimestamp(math.ceil(request.started_at + 600), UTC)
    assert [error.until for error in errors] == [until, until]
    assert isinstance(errors[1], BudgetSpentError)
    assert f"{until:%Y-%m-%d %H:%M}" in str(errors[1])


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(("retry_after", "seconds"), [(90, 90), (None, 60)])
def test_asking_too_much_at_once_says_until_when(
    sandbox: SandboxServer, fetch: Fetch, status: int, retry_after: int | None, seconds: int
) -> None:
    """A secondary limit does not end with the hour."""
    inflict(sandbox, FaultKind.SECONDARY_LIMIT, status=status, retry_after=retry_after)
    before = datetime.now(UTC)

    with pytest.raises(SecondaryLimitError) as caught:
        fetch()

    assert before <= caught.value.until - timedelta(seconds=seconds) <= datetime.now(UTC)
    assert len(sandbox.requests) == 1


def test_limit_met_by_one_section_keeps_the_rest_from_being_sent(
    sandbox: SandboxServer, fetch: Fetch
) -> None:
    """GitHub would refuse the others, and lengthen the pause."""
    inflict(sandbox, FaultKind.SECONDARY_LIMIT, PATHS[Section.COMMITS], retry_after=90)
    inflict(sandbox, FaultKind.SLOW, PATHS[Section.FILES], seconds=0.3)

    snapshot = fetch(is_careful=True)

    asked = [request.path.rpartition("/")[2] for request in sandbox.requests]
    assert asked == ["7", "commits", "files"]
    assert set(snapshot.errors) == set(Section) - {Section.FILES}
    assert {type(error) for error in snapshot.errors.values()} <= {
        BudgetSpentError,
        SecondaryLimitError,
    }


def test_no_more_is_sent_than_the_budget_allows(sandbox: SandboxServer, fetch: Fetch) -> None:
    """Eight requests that start together must not each count on the same last two."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=3))

    snapshot = fetch()

    assert [request.status for request in sandbox.requests] == [200, 200, 200]
    assert [type(error) for error in snapshot.errors.values()] == [BudgetSpentError] * 6


@pytest.mark.parametrize(("limit", "remaining"), [(5000, 4991), (None, None)])
def test_budget_is_what_github_states(
    sandbox: SandboxServer, ask: Ask, limit: int | None, remaining: int | None
) -> None:
    """Enterprise servers may have no limits, and no such headers."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=limit))

    async def look_at_both(github: GitHub) -> tuple[Snapshot, RateLimit | None]:
        return await look(github), github.budget.rate_limit

    snapshot, rate_limit = ask(look_at_both)

    assert read_results(snapshot) == ALL_VERIFIED
    assert getattr(rate_limit, "remaining", None) == remaining


# Each token goes to its own host only.


@pytest.mark.parametrize("token", ["", "ghp_other"])
def test_token_of_the_environment_is_never_taken(
    sandbox: SandboxServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """Without a token, ghapi would use that of the environment, which may be another team's."""
    for name in ("GITHUB_TOKEN", "GITHUB_JWT_TOKEN", "GH_TOKEN"):
        monkeypatch.setenv(name, DEFAULT_TOKEN)
    sandbox.world.add_token(Token("ghp_other"))

    fetch(token=token)

    assert {request.token for request in sandbox.requests} == {token}


def test_renamed_repository_is_followed_and_said(sandbox: SandboxServer, fetch: Fetch) -> None:
    """The data must not end when the repository gets a new name."""
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")

    snapshot = fetch()

    assert (read_results(snapshot), snapshot.moved_to) == (ALL_VERIFIED, "acme/hammer")
    assert {request.token for request in sandbox.requests} == {DEFAULT_TOKEN}


@pytest.mark.parametrize("section", [None, Section.FILES], ids=["itself", "a list"])
def test_redirect_to_another_host_is_not_followed(
    sandbox: SandboxServer, fetch: Fetch, section: Section | None
) -> None:
    """The token would be sent to that host."""
    with SandboxServer(World([make_recording(REPOSITORY, 7)])) as other:
        location = f"{other.url}/repos/{REPOSITORY}/pulls/7"
        path = PATHS[section] if section else ITSELF
        inflict(sandbox, FaultKind.UNKNOWN_REDIRECT, path, location=location)
        error = fetch_error(fetch, section)
        seen = other.requests

    assert (type(error), seen) == (GitHubError, [])
    assert "another host" in str(error)


def fetch_error(fetch: Fetch, section: Section | None) -> GitHubError:
    """Return the error of the one section, or of the pull request itself."""
    if section is None:
        with pytest.raises(GitHubError) as caught:
            fetch()
        return caught.value
    [(failed, error)] = fetch().errors.items()
    assert failed is section
    return error


@pytest.mark.parametrize(
    "location",
    ["https://{host}/user", "//github.example/user", "http://[", "http://{host}:x/", "ftp://x"],
)
def test_odd_redirect_is_refused_with_one_request(
    sandbox: SandboxServer, fetch: Fetch, location: str
) -> None:
    """Another scheme is another origin, and an unreadable address must not break the worker."""
    location = location.format(host=sandbox.url.removeprefix("http://"))
    inflict(sandbox, FaultKind.UNKNOWN_REDIRECT, location=location)

    error = fetch_error(fetch, None)

    assert (type(error), len(sandbox.requests)) == (GitHubError, 1)


def test_redirect_in_a_circle_ends(sandbox: SandboxServer, fetch: Fetch) -> None:
    """The worker would follow it for ever."""
    location = f"{sandbox.url}/repos/{REPOSITORY}/pulls/7"
    inflict(sandbox, FaultKind.UNKNOWN_REDIRECT, location=location)

    error = fetch_error(fetch, None)

    assert (type(error), len(sandbox.requests)) == (GitHubError, 4)


@pytest.mark.parametrize("inner", ["http://10.0.0.9:8080", "https://github.internal", ""])
def test_next_page_is_asked_for_at_our_own_root(
    sandbox: SandboxServer, ask: Ask, inner: str
) -> None:
    """`Link` of an Enterprise Server may name an inner host, where the token must not go."""
    path = PATHS[Section.ISSUE_COMMENTS]
    headers = {"Link": f'<{inner}/repos/{REPOSITORY}/issues/7/comments?page=2>; rel="next"'}
    inflict(sandbox, FaultKind.WRONG_TYPE, path, body=[], headers=headers, times=1)

    assert ask(list_comments) == [[], []]
    assert [request.query for request in sandbox.requests] == ["per_page=100", "page=2"]


@pytest.mark.parametrize("to", [1, 2])
def test_pages_in_a_circle_end_with_an_error(sandbox: SandboxServer, fetch: Fetch, to: int) -> None:
    """A list whose `next` leads back would keep its worker busy until the job is killed."""
    for path, page in (("page=2$", to), (PATHS[Section.ISSUE_COMMENTS], 2)):
        link = f"</repos/{REPOSITORY}/issues/7/comments?per_page=100&page={page}>"
        headers = {"Link": f'{link}; rel="next"'}
        inflict(sandbox, FaultKind.WRONG_TYPE, path, body=[], headers=headers)

    error = fetch_error(fetch, Section.ISSUE_COMMENTS)

    assert type(error) is RetrySoonError
    assert "leads back" in str(error)


def test_answer_that_drips_ends_with_the_request(
    sandbox: SandboxServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte arrives within the limit of a single read, and the worker would never be free
    again.
    """
    monkeypatch.setattr(client, "REQUEST_SECONDS", 1)
    inflict(sandbox, FaultKind.DRIP, PATHS[Section.FILES], seconds=0.1)

    error = fetch_error(fetch, Section.FILES)

    assert type(error) is RetrySoonError
    assert "within 1 s" in str(error)


def test_fetch_ends_before_its_job_and_keeps_what_came(
    sandbox: SandboxServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is killed at its timeout stores nothing that it fetched."""
    monkeypatch.setattr(fetch_module, "FETCH_SECONDS", 0.5)
    inflict(sandbox, FaultKind.SLOW, PATHS[Section.FILES], seconds=2)

    snapshot = fetch()

    assert list(snapshot.errors) == [Section.FILES]
    assert type(snapshot.errors[Section.FILES]) is RetrySoonError
    assert snapshot.sections[Section.COMMITS].result == VERIFIED


def test_fetch_is_over_before_its_job_is_killed() -> None:
    """There must be time to store what was fetched."""
    assert settings.RQ_QUEUES["pr-data"]["DEFAULT_TIMEOUT"] >= fetch_module.FETCH_SECONDS + 60


def test_page_that_was_remembered_of_another_host_is_not_asked_for(
    sandbox: SandboxServer,
) -> None:
    """Addresses of pages stay in the database when the API root changes."""

    async def ask(url: str) -> None:
        async with GitHub(api_url=sandbox.url, token=DEFAULT_TOKEN) as github:
            await github.get_again(url, etag='"a"')

    with SandboxServer() as other, pytest.raises(GitHubError, match="another host"):
        asyncio.run(ask(f"{other.url}/user"))

    assert sandbox.requests == other.requests == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("", "/api/v3", id="GitHub Enterprise"),
        pytest.param("127.0.0.1", "LOCALHOST", id="host in capitals"),
        pytest.param("http:", "HTTP:", id="scheme in capitals"),
    ],
)
def test_api_root_is_taken_as_it_is_written(
    sandbox: SandboxServer, fetch: Fetch, old: str, new: str
) -> None:
    """Operators paste addresses in many forms; pages and redirects must work with each."""
    sandbox.world.add(make_recording(REPOSITORY, 7, issue_comments=101))
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")
    root = sandbox.url.replace(old, new) if old else sandbox.url + new

    snapshot = fetch(api_url=root)

    assert read_results(snapshot) == ALL_VERIFIED


# Just after the merge.


@pytest.mark.parametrize("unmerged", [False, True], ids=["404", "still open"])
def test_answer_from_before_the_merge_is_asked_for_again(
    sandbox: SandboxServer, fetch: Fetch, unmerged: bool
) -> None:
    """Replicas lag behind webhooks for some seconds."""
    inflict(sandbox, FaultKind.STALE, unmerged=unmerged)

    with pytest.raises(RetrySoonError):
        fetch(merged_at=JUST_NOW)


@pytest.mark.parametrize("merged_at", [FIVE_MINUTES_AGO, None])
def test_404_is_believed_later(
    sandbox: SandboxServer, fetch: Fetch, merged_at: datetime | None
) -> None:
    """Deleted pull requests would be asked for for ever."""
    inflict(sandbox, FaultKind.STALE)

    with pytest.raises(GoneError):
        fetch(merged_at=merged_at)


@pytest.mark.parametrize(
    ("merged_at", "kind"), [(JUST_NOW, RetrySoonError), (FIVE_MINUTES_AGO, GoneError)]
)
def test_list_that_is_not_there_yet_is_asked_for_again(
    sandbox: SandboxServer, fetch: Fetch, merged_at: datetime, kind: type[GitHubError]
) -> None:
    """Each list may come from another replica."""
    inflict(sandbox, FaultKind.STALE, PATHS[Section.COMMITS])

    snapshot = fetch(merged_at=merged_at)

    assert {name: type(error) for name, error in snapshot.errors.items()} == {Section.COMMITS: kind}


# Lists of a repository's pull requests.


@pytest.fixture
def many(sandbox: SandboxServer, ask: Ask) -> SandboxServer:
    """Holds 102 pull requests more, of which number 101 is open."""
    few = {"commits": 1, "files": 1, "issue_comments": 0, "review_comments": 0, "check_runs": 0}
    for number in range(8, 110):
        sandbox.world.add(make_recording(REPOSITORY, number, merged=number != 101, **few))
    return sandbox


@pytest.mark.parametrize(
    ("numbers", "requests"),
    [
        pytest.param([109, 60], 1, id="on the first page"),
        pytest.param([7, 109], 2, id="on the last page"),
        pytest.param([101, 109], 2, id="one is not closed"),
    ],
)
def test_numbers_are_found_by_id(
    many: SandboxServer, ask: Ask, numbers: list[int], requests: int
) -> None:
    """Rows from before the number was kept have nothing else, and lists are long."""
    ids = {many.world.recording(REPOSITORY, number).pull["id"]: number for number in numbers}

    found = ask(partial(fetch_numbers, full_name=REPOSITORY, github_pr_ids=set(ids)))

    assert found == {key: number for key, number in ids.items() if number != 101}
    assert len(many.requests) == requests


def test_merges_are_listed_back_to_a_moment(many: SandboxServer, ask: Ask) -> None:
    """Merges that no webhook reported are found newest first, no further back than necessary."""
    with many.world.editing(REPOSITORY, 108) as recording:
        recording.pull |= {"merged_at": None, "merged": False}
    since = datetime.fromisoformat(many.world.recording(REPOSITORY, 106).pull["updated_at"])

    assert ask(partial(list_merges, since=since)) == [[109, 107, 106]]
    assert len(many.requests) == 1


def test_merges_go_on_to_the_end_of_the_list(many: SandboxServer, ask: Ask) -> None:
    """The first search of a repository has no bookmark at which to stop."""
    pages = ask(list_merges)

    assert [len(page) for page in pages] == [100, 2]


def test_repository_is_found_by_its_former_name(sandbox: SandboxServer, ask: Ask) -> None:
    """`connect` stores the name that GitHub uses today."""
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")

    found = ask(partial(fetch_repository, full_name=REPOSITORY))

    repository = sandbox.world.repository("acme/hammer")
    assert (found.full_name, found.github_repo_id) == ("acme/hammer", repository.id)
