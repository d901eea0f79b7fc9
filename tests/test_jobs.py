"""What a worker runs, against a GitHub that misbehaves over real HTTP."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import DatabaseError, DataError, connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.jobs import _park, fetch_pr_complete_data
from metrics_sync.jobs.running import fetch_now
from metrics_sync.jobs.saving import save, save_fetched
from metrics_sync.models import FetchRun, IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.transitions import Outcome
from metrics_sync.observe import counting
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    Recording,
    SandboxServer,
    Token,
    make_recording,
)
from metrics_sync.sandbox.payloads import build_pull_request_review_event
from metrics_sync.snapshot import (
    VERIFIED,
    RateLimit,
    Section,
    SectionResult,
    Snapshot,
    read_pull_request,
)
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from metrics_sync.work.verification import verify_due
from tests.conftest import wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.plans import avoid_whole_tables, count_rows_read

REPOSITORY = "acme/anvil"
NAMES = ("commits", "files", "check_runs", "issue_comments", "review_comments", "reviews")


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


@pytest.fixture
def credential(repository: TrackedRepository) -> IntegrationCredential:
    return repository.integration.credential


def add_merge(sandbox: SandboxServer, team: Any, recording: Recording) -> PullRequest:
    """Put a merge into GitHub, and its row, as a webhook leaves it, into our database."""
    sandbox.world.add(recording)
    return PullRequestFactory(
        merged=True,
        team=team,
        github_repo=recording.repo,
        github_pr_id=recording.pull["id"],
        github_pr_number=recording.number,
    )


@pytest.fixture
def pull_request(sandbox: SandboxServer, repository: TrackedRepository) -> PullRequest:
    return add_merge(sandbox, repository.team, make_recording(REPOSITORY, 7))


def break_section(sandbox: SandboxServer, name: str = "/reviews", **options: Any) -> Fault:
    """Let GitHub answer one section with 502, or what the options say."""
    kind = options.pop("kind", FaultKind.STATUS)
    return sandbox.faults.add(Fault(kind, path=name, **options))


def run_queue(redis: Redis, *rows: PullRequest) -> list[Job]:
    """Queue rows and work in this process until the queue is empty; scheduled jobs stay."""
    for row in rows:
        assert enqueue_fetch(row, queue_name=MERGES)
    SimpleWorker([Queue(MERGES, connection=redis)], connection=redis).work(burst=True)
    for row in rows:
        row.refresh_from_db()
    return [Job.fetch(row.sync_job_id, connection=redis) for row in rows]


def test_everything_is_fetched_counted_and_proven(pull_request: PullRequest) -> None:
    """Complete means verified, and the receipt is the proof."""
    result = fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    counts = dict(zip(NAMES, (3, 5, 3, 2, 3, 2), strict=True))
    assert result == {
        **{f"{name}_synced": count for name, count in counts.items()},
        "requests_made": 9,
        "errors": [],
    }
    assert pull_request.sync_status == "complete"
    stored = {name: entry["stored"] for name, entry in pull_request.receipt.items()}
    assert stored == {**counts, "timeline": 0, "commit_statuses": 0}
    assert {entry["result"] for entry in pull_request.receipt.values()} == {"verified"}


def test_missing_pull_request_is_said_and_not_tried_again(db: None) -> None:
    """A row can be deleted while its job waits."""
    assert fetch_pr_complete_data(404) == {
        "error": "There is no pull request with the id 404 here."
    }


def test_pull_request_of_no_tracked_repository_becomes_untracked(db: None) -> None:
    """Nobody's token may be used for a repository that its team does not track."""
    row = PullRequestFactory(merged=True)

    result = fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    assert (list(result), row.sync_status) == (["error"], "untracked")


def test_fetching_twice_changes_nothing(pull_request: PullRequest) -> None:
    """A job runs twice whenever a queue or a person is not sure that it ran."""
    fetch_pr_complete_data(pull_request.pk)
    before = {name: _read_keys(pull_request, name) for name in ("commits", "files", "comments")}

    fetch_pr_complete_data(pull_request.pk)

    assert before == {name: _read_keys(pull_request, name) for name in before}


def test_completion_is_counted_once(pull_request: PullRequest) -> None:
    """A later fetch would make the merge look as if it had waited until then."""
    fetch_pr_complete_data(pull_request.pk)
    first = count_completions()

    fetch_pr_complete_data(pull_request.pk)

    assert (first, count_completions()) == (1, 0)


def count_completions() -> float:
    """Return how many were counted in this process since the last time."""
    counts = counting.take()
    return sum(counts[name, labels] for name, labels in counts if name == "seconds_to_complete")


def _read_keys(row: PullRequest, name: str) -> list[int]:
    return sorted(getattr(row, name).values_list("pk", flat=True))


def test_what_github_no_longer_lists_is_removed(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """Deleted comments would otherwise be counted for ever."""
    fetch_pr_complete_data(pull_request.pk)
    gone = sandbox.world.recording(REPOSITORY, 7).issue_comments[0]["id"]
    sandbox.world.delete_comment(REPOSITORY, 7, gone)

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert not pull_request.comments.filter(github_comment_id=gone).exists()
    assert pull_request.total_comments == 4


def test_second_look_at_unchanged_pages_costs_nothing(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """Every pull request is fetched again for late comments, and few have any."""
    fetch_pr_complete_data(pull_request.pk)
    asked_before = len(sandbox.requests)
    before = _read_keys(pull_request, "commits")

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    again = sandbox.requests[asked_before:]
    assert [request.status for request in again] == [304] * 9
    assert (pull_request.sync_status, before) == ("complete", _read_keys(pull_request, "commits"))
    assert {entry["result"] for entry in pull_request.receipt.values()} == {"verified"}


@pytest.mark.parametrize("is_deleted", [False, True])
def test_second_look_at_an_unchanged_pull_request_keeps_its_author(
    sandbox: SandboxServer, pull_request: PullRequest, *, is_deleted: bool
) -> None:
    """GitHub answers 304 without a body, so the author is read from the row."""
    recording = sandbox.world.recording(REPOSITORY, 7)
    login = recording.pull["user"]["login"]
    if is_deleted:
        recording.pull["user"], login = None, None
    fetch_pr_complete_data(pull_request.pk)

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    author = pull_request.author
    assert (pull_request.sync_status, author and author.login) == ("complete", login)


def test_second_look_pays_only_for_what_changed(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """One late comment changes the pull request's counter, its list and the timeline."""
    fetch_pr_complete_data(pull_request.pk)
    asked_before = len(sandbox.requests)
    sandbox.world.add_comment(REPOSITORY, 7, body="Seen in production.")

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    paid = [request.path for request in sandbox.requests[asked_before:] if request.status == 200]
    assert sorted(path.partition("anvil")[2] for path in paid) == [
        "/issues/7/comments",
        "/issues/7/timeline",
        "/pulls/7",
    ]
    assert (pull_request.sync_status, pull_request.total_comments) == ("complete", 6)


def test_second_look_with_another_token_costs_what_the_first_did(
    sandbox: SandboxServer, pull_request: PullRequest, credential: IntegrationCredential
) -> None:
    """An App's token lasts an hour: ETags of the last token would double the cost for nothing."""
    fetch_pr_complete_data(pull_request.pk)
    first = len(sandbox.requests)
    sandbox.world.add_token(Token("ghs_next_hour"))
    credential.access_token = "ghs_next_hour"
    credential.save()

    fetch_pr_complete_data(pull_request.pk)
    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    asked = [(request.status, request.conditional) for request in sandbox.requests]
    assert (first, asked[first:]) == (9, [(200, False)] * 9 + [(304, True)] * 9)
    assert {entry["result"] for entry in pull_request.receipt.values()} == {"verified"}


def cut_reviews(sandbox: SandboxServer) -> Fault:
    """Let GitHub list the reviews without the last one, also when asked again at once."""
    return break_section(sandbox, "/reviews", kind=FaultKind.STALE, items=1, times=2)


def test_stale_list_of_reviews_is_not_verified_and_right_after_the_next_look(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """No counter of GitHub's shows that a review is missing; the timeline does."""
    cut_reviews(sandbox)

    fetch_pr_complete_data(pull_request.pk)
    pull_request.refresh_from_db()
    stale = pull_request.receipt
    status = pull_request.sync_status
    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert (status, [name for name in stale if stale[name]["result"] != "verified"]) == (
        *("partial", ["reviews"]),
    )
    assert (pull_request.sync_status, pull_request.reviews.count()) == ("complete", 2)
    assert pull_request.receipt["reviews"]["witness"] == "timeline"


def test_stale_list_of_reviews_at_the_second_look_leaves_the_rows(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """A replica that lags behind must not remove a review that was stored."""
    fetch_pr_complete_data(pull_request.pk)
    before = _read_keys(pull_request, "reviews")
    cut_reviews(sandbox)

    fetch_pr_complete_data(pull_request.pk)
    pull_request.refresh_from_db()
    meanwhile = (pull_request.sync_status, _read_keys(pull_request, "reviews"))
    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert meanwhile == ("partial", before)
    assert (pull_request.sync_status, _read_keys(pull_request, "reviews")) == ("complete", before)


def test_completed_at_stays_the_first_time(pull_request: PullRequest) -> None:
    """It says how long it took until the data was complete; a second fetch does not change that."""
    fetch_pr_complete_data(pull_request.pk)
    first = PullRequest.objects.get().completed_at

    fetch_pr_complete_data(pull_request.pk)

    assert PullRequest.objects.get().completed_at == first


@pytest.mark.parametrize(
    ("status", "hours_ago", "minutes_after"),
    [
        pytest.param("in_progress", 0, 5, id="checks run, first look"),
        pytest.param("queued", 0.1, 15, id="checks run, second look"),
        pytest.param("in_progress", 0.5, 60, id="checks run, third look"),
        pytest.param("in_progress", 2, 1440, id="checks run for ever"),
        pytest.param("completed", 0, 1440, id="late comments"),
        pytest.param("in_progress", 30, None, id="old"),
    ],
)
def test_complete_is_looked_at_again_in_time(
    sandbox: SandboxServer,
    pull_request: PullRequest,
    status: str,
    hours_ago: float,
    minutes_after: int | None,
) -> None:
    """A merged pull request is not over: checks go on, and people comment."""
    merged_at = timezone.now().replace(microsecond=0) - timedelta(hours=hours_ago)
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["merged_at"] = merged_at.isoformat()
        recording.check_runs[0]["status"] = status

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    expected = merged_at + timedelta(minutes=minutes_after) if minutes_after else None
    assert pull_request.refetch_at == expected


@pytest.mark.parametrize(
    ("state", "minutes_after"),
    [pytest.param("pending", 5, id="pending"), pytest.param("success", 1440, id="ended")],
)
def test_pending_legacy_status_is_a_running_check(
    sandbox: SandboxServer, pull_request: PullRequest, state: str, minutes_after: int
) -> None:
    """An older CI reports only by statuses; without this, its result came a day late."""
    merged_at = timezone.now().replace(microsecond=0)
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["merged_at"] = merged_at.isoformat()
        recording.statuses = [
            {**status, "state": state}
            for status in make_recording(REPOSITORY, 7, statuses=1).statuses
        ]

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert pull_request.refetch_at == merged_at + timedelta(minutes=minutes_after)
    is_running = PullRequest.objects.with_running_checks().exists()
    assert is_running is (state == "pending")


def test_commits_past_githubs_cap_come_from_a_comparison(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """GitHub's list leaves out the oldest commits of long pull requests without notice."""
    row = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 9, commits=275))

    fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    assert (row.sync_status, row.truncated, row.commits.count()) == ("complete", [], 275)


def test_commits_that_no_comparison_completes_are_called_truncated(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """After the base was rewritten GitHub can no longer say which commits they were."""
    row = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 9, commits=275))
    break_section(sandbox, "/compare/", status=404)

    fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    assert (row.sync_status, row.truncated) == ("complete", ["commits"])
    assert row.receipt["commits"] == {"stated": 275, "stored": 250, "result": "capped"}


def test_lines_that_github_left_uncounted_are_asked_for_in_small_pages(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """Past 20,000 changed lines in an answer, GitHub gives files 0 lines without notice."""
    recording = make_recording(REPOSITORY, 9, files=60, lines_per_file=900)
    row = add_merge(sandbox, repository.team, recording)

    fetch_pr_complete_data(row.pk)

    counted = row.files.values_list("filename", "additions", "deletions")
    truth = [(file["filename"], file["additions"], file["deletions"]) for file in recording.files]
    assert sorted(counted) == sorted(truth)


@pytest.mark.parametrize("name", NAMES)
def test_one_failing_section_leaves_the_others(
    sandbox: SandboxServer, pull_request: PullRequest, name: str
) -> None:
    """Partial data is better than none, as long as it is called partial."""
    path = {"issue_comments": "/issues/7/comments", "review_comments": "/pulls/7/comments"}
    break_section(sandbox, path.get(name, f"/{name.replace('_', '-')}$"))

    result = fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert pull_request.sync_status == "partial"
    assert [error.split(":")[0] for error in result["errors"]] == [name]
    others = {part for part in NAMES if pull_request.receipt[part]["result"] == "verified"}
    assert others == set(NAMES) - {name}


@pytest.mark.parametrize(
    ("missing", "asked"),
    [
        ("files", {"7", "files"}),
        # Of reviews only the timeline and review comments can tell that all are there.
        ("reviews", {"7", "reviews", "timeline", "comments"}),
    ],
)
def test_retry_asks_only_for_what_is_missing(
    sandbox: SandboxServer, pull_request: PullRequest, missing: str, asked: set[str]
) -> None:
    """The merges of other pull requests need the same budget of requests."""
    fault = break_section(sandbox, f"/{missing}", times=2)
    fetch_pr_complete_data(pull_request.pk)
    asked_before = len(sandbox.requests)

    result = fetch_pr_complete_data(pull_request.pk)

    again = [request.path.rpartition("/")[2] for request in sandbox.requests[asked_before:]]
    assert (fault.inflicted, set(again), result["errors"]) == (2, asked, [])
    assert len(again) == len(asked)


def test_metrics_of_missing_sections_are_unknown_and_not_zero(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """People would believe a zero."""
    break_section(sandbox)

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    unknown = (pull_request.review_rounds, pull_request.avg_fix_response_hours)
    assert unknown == (None, None)
    assert pull_request.commits_after_first_review is None
    assert pull_request.total_comments == 5


def test_missing_permission_is_named(sandbox: SandboxServer, pull_request: PullRequest) -> None:
    """The operator must read which permission to give, not only that something is forbidden."""
    break_section(sandbox, "/files", kind=FaultKind.PERMISSION, permissions="contents=read")

    result = fetch_pr_complete_data(pull_request.pk)

    assert "contents=read" in result["errors"][0]


def test_check_runs_that_the_token_may_not_read_leave_the_rest_complete(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """Fine-grained tokens cannot read check runs; such pull requests stayed partial for ever."""
    break_section(sandbox, "/check-runs", kind=FaultKind.PERMISSION, permissions="checks=read")

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    entry = pull_request.receipt["check_runs"]
    assert (pull_request.sync_status, entry["result"]) == ("complete", "unavailable")
    assert "checks=read" in entry["reason"]
    assert (pull_request.ci_at_merge, "checks" in pull_request.provenance["missing"]) == ("", True)


@pytest.fixture
def disagreeing(sandbox: SandboxServer, pull_request: PullRequest) -> PullRequest:
    """A pull request whose counter of review comments has been one too high for a day."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["review_comments"] += 1
    fetch_pr_complete_data(pull_request.pk)
    pull_request.refresh_from_db()
    looks = pull_request.receipt["review_comments"]["looks"]
    a_day_ago = timezone.now() - timedelta(days=1)
    looks |= {"since": a_day_ago.isoformat(), "count": 2}
    pull_request.save()
    return pull_request


@pytest.mark.parametrize("fetches", [1, 2])
def test_list_that_disagrees_for_a_day_ends_complete_and_named(
    disagreeing: PullRequest, fetches: int
) -> None:
    """Some of GitHub's counters are wrong for good; the list must neither be fetched for ever nor
    be called verified.
    """
    for _ in range(fetches):
        fetch_pr_complete_data(disagreeing.pk)

    disagreeing.refresh_from_db()
    entry = disagreeing.receipt["review_comments"]
    assert (disagreeing.sync_status, disagreeing.disagreeing) == ("complete", ["review_comments"])
    assert (entry["result"], entry["reason"]) == ("disagreeing", "GitHub states 4 and lists 3")
    assert disagreeing.total_comments is not None


def test_passing_fault_uses_one_retry_after_another(
    sandbox: SandboxServer, pull_request: PullRequest, redis: Redis
) -> None:
    """RQ schedules the retries, and the row says what it waits for."""
    break_section(sandbox, r"/pulls/7$")

    [job] = run_queue(redis, pull_request)

    assert (job.get_status(), job.retries_left) == ("scheduled", 2)
    assert pull_request.sync_status == "queued"
    assert "502" in pull_request.sync_error


def test_last_retry_leaves_the_row_failed(
    sandbox: SandboxServer, pull_request: PullRequest, redis: Redis
) -> None:
    """A row that waits for a job that never comes would be lost."""
    break_section(sandbox, r"/pulls/7$")
    [job] = run_queue(redis, pull_request)
    job.retries_left = 0
    job.save()
    Queue(MERGES, connection=redis).enqueue_job(job)

    SimpleWorker([MERGES], connection=redis).work(burst=True)

    pull_request.refresh_from_db()
    result = job.latest_result()
    assert result is not None
    assert "502" in result.exc_string
    assert (job.get_status(), pull_request.sync_status) == ("failed", "failed")


def test_retry_that_comes_late_does_nothing(
    sandbox: SandboxServer, pull_request: PullRequest, redis: Redis
) -> None:
    """Reconcile has completed the row, while RQ still held the first job's retry."""
    break_section(sandbox, times=2)
    [first] = run_queue(redis, pull_request)
    run_queue(redis, pull_request)
    asked_before = len(sandbox.requests)
    Queue(MERGES, connection=redis).enqueue_job(first)

    SimpleWorker([MERGES], connection=redis).work(burst=True)

    pull_request.refresh_from_db()
    assert (len(sandbox.requests), pull_request.sync_status) == (asked_before, "complete")


@pytest.mark.parametrize("kind", [FaultKind.PRIMARY_LIMIT, FaultKind.SECONDARY_LIMIT])
def test_rate_limit_parks_the_job_without_using_a_retry(
    sandbox: SandboxServer, pull_request: PullRequest, redis: Redis, kind: FaultKind
) -> None:
    """GitHub names the time of the reset; three quick retries would all fail before it."""
    break_section(sandbox, kind=kind, retry_after=300)

    [job] = run_queue(redis, pull_request)

    assert (job.get_status(), job.retries_left) == ("scheduled", 3)
    assert pull_request.sync_status == "queued"
    [(_, due)] = redis.zrange(f"rq:scheduled:{MERGES}", 0, -1, withscores=True)
    assert 295 < due - timezone.now().timestamp() < 320


def test_parked_job_wakes_within_the_hour(
    sandbox: SandboxServer,
    pull_request: PullRequest,
    credential: IntegrationCredential,
    redis: Redis,
) -> None:
    """The limit may end sooner, for example with a new token; nothing else would wake the job."""
    credential.wait_until = timezone.now() + timedelta(days=365)
    credential.save()

    run_queue(redis, pull_request)

    [(_, due)] = redis.zrange(f"rq:scheduled:{MERGES}", 0, -1, withscores=True)
    assert due - timezone.now().timestamp() <= 3600 + 120
    assert sandbox.requests == []


def test_spread_of_a_parked_job_is_minutes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the last of many jobs would start when half of the next window is over."""
    monkeypatch.setattr("metrics_sync.jobs.random.uniform", lambda low, high: high)

    retry = _park(timezone.now() + timedelta(hours=1))

    assert retry.intervals == [3720]


ABSURD = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0"}


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        pytest.param(403, {**ABSURD, "X-RateLimit-Reset": "4102444800"}, id="year 2100"),
        pytest.param(403, {"Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, id="date of 2100"),
        pytest.param(
            502,
            {
                "X-RateLimit-Limit": "9" * 12,
                "X-RateLimit-Remaining": "-1",
                "X-RateLimit-Reset": "1",
            },
            id="no numbers of a column",
        ),
    ],
)
def test_nothing_that_github_states_stops_a_token_for_longer_than_two_hours(
    sandbox: SandboxServer,
    pull_request: PullRequest,
    credential: IntegrationCredential,
    redis: Redis,
    status: int,
    headers: dict[str, str],
) -> None:
    """A proxy's header stopped every merge of a team until the year 2100."""
    break_section(sandbox, status=status, headers=headers, times=1)

    run_queue(redis, pull_request)

    credential.refresh_from_db()
    longest = timezone.now() + timedelta(hours=2)
    assert all(
        until is None or until <= longest
        for until in [credential.wait_until, credential.rate_limit_resets_at]
    )
    assert pull_request.sync_status in {"queued", "complete"}


def test_server_without_limits_is_read_whole(
    sandbox: SandboxServer, pull_request: PullRequest, credential: IntegrationCredential
) -> None:
    """GitHub Enterprise has no rate limits unless somebody switched them on."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=None))

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    credential.refresh_from_db()
    assert (pull_request.sync_status, credential.rate_limit) == ("complete", None)


def test_good_token_that_is_refused_once_costs_the_team_nothing(
    sandbox: SandboxServer, pull_request: PullRequest, credential: IntegrationCredential
) -> None:
    """After one such answer, all merges waited until an operator stored a new token."""
    break_section(sandbox, status=401, times=1)

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    credential.refresh_from_db()
    assert (pull_request.sync_status, credential.revoked_at) == ("complete", None)


def test_others_of_a_limited_token_send_nothing(
    sandbox: SandboxServer,
    pull_request: PullRequest,
    credential: IntegrationCredential,
    redis: Redis,
) -> None:
    """GitHub bans tokens that go on sending requests."""
    credential.wait_until = timezone.now() + timedelta(minutes=5)
    credential.save()

    [job] = run_queue(redis, pull_request)

    assert (sandbox.requests, job.retries_left) == ([], 3)
    assert (job.get_status(), pull_request.sync_status) == ("scheduled", "queued")
    assert "rate limit" in pull_request.sync_error


def test_bulk_job_waits_while_only_the_reserve_is_left(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    pull_request: PullRequest,
    credential: IntegrationCredential,
    redis: Redis,
) -> None:
    """Merges use the reserve meanwhile."""
    merge = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 8))
    credential.note_rate_limit(RateLimit(5000, 900, timezone.now() + timedelta(hours=1)))
    enqueue_fetch(pull_request, queue_name=BULK)
    enqueue_fetch(merge, queue_name=MERGES)

    for name in (BULK, MERGES):
        SimpleWorker([name], connection=redis).work(burst=True)

    statuses = [PullRequest.objects.get(pk=row.pk).sync_status for row in (pull_request, merge)]
    assert statuses == ["queued", "complete"]


def test_refused_token_is_noted_once_and_asked_with_no_more(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    pull_request: PullRequest,
    credential: IntegrationCredential,
) -> None:
    """One revoked credential tells an operator more than five hundred failures."""
    other = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 8))
    sandbox.world.revoke_token(DEFAULT_TOKEN)
    fetch_pr_complete_data(pull_request.pk)
    asked_before = len(sandbox.requests)

    result = fetch_pr_complete_data(other.pk)

    credential.refresh_from_db()
    pull_request.refresh_from_db()
    assert (credential.revoked_at is None, asked_before) == (False, len(sandbox.requests))
    assert (pull_request.sync_status, pull_request.retry_at) == ("failed", None)
    assert "manage.py connect" in result["errors"][0]


def test_failed_fetch_leaves_older_rows_as_they_were(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """A short outage of GitHub must not cost data."""
    fetch_pr_complete_data(pull_request.pk)
    break_section(sandbox, "")

    fetch_pr_complete_data(pull_request.pk)

    counts = (pull_request.commits.count(), pull_request.reviews.count())
    pull_request.refresh_from_db()
    assert (counts, pull_request.sync_status) == ((3, 2), "partial")
    assert pull_request.review_rounds == 1


def test_second_job_leaves_a_running_row_alone(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """Two jobs at once would cost twice the requests."""
    pull_request.mark_running(job_id="first")

    result = fetch_pr_complete_data(pull_request.pk)

    assert (list(result), sandbox.requests) == (["error"], [])


def test_run_that_was_taken_over_writes_nothing(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """The data of the job that took over is newer."""
    pull_request.mark_running(job_id="slow")
    run = FetchRun.start(pull_request, job_id="slow")
    PullRequest.objects.update(sync_job_id="other", sync_status="complete")

    save(pull_request, run, Outcome(errors={"fetch": ValueError("late")}), job=None)

    run.refresh_from_db()
    row = PullRequest.objects.get()
    assert (row.sync_status, row.sync_error) == ("complete", "")
    assert (run.status, run.errors) == ("failed", ["fetch: another job took over"])


def test_run_that_ends_late_stays_superseded(pull_request: PullRequest) -> None:
    """The prune would keep it for ever beside the last one."""
    pull_request.mark_running(job_id="slow")
    run = FetchRun.start(pull_request, job_id="slow")
    FetchRun.start(pull_request, job_id="other")
    PullRequest.objects.update(sync_job_id="other")

    save(pull_request, run, Outcome(errors={"fetch": ValueError("late")}), job=None)

    attempts = FetchRun.objects.order_by("pk")
    assert list(attempts.values_list("is_superseded", flat=True)) == [True, False]


def test_run_of_a_killed_process_is_closed(pull_request: PullRequest) -> None:
    """A run that never ends would look as if it was still at work."""
    FetchRun.start(pull_request, job_id="killed")

    fetch_pr_complete_data(pull_request.pk)

    assert [run.status for run in pull_request.fetch_runs.all()] == ["complete", "failed"]


def test_undecryptable_token_is_on_the_row_and_in_the_job(
    pull_request: PullRequest, credential: IntegrationCredential, redis: Redis
) -> None:
    """A lost key must not look like a fault of GitHub."""
    _spoil_token(credential)

    run_queue(redis, pull_request)

    assert "TOKEN_ENCRYPTION_KEYS" in pull_request.sync_error


def _spoil_token(credential: IntegrationCredential) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE metrics_sync_integrationcredential SET access_token = 'x' WHERE id = %s",
            [credential.pk],
        )


def count_queries(row: PullRequest) -> int:
    with CaptureQueriesContext(connection) as queries:
        fetch_pr_complete_data(row.pk)
    return len([query for query in queries if "SAVEPOINT" not in query["sql"]])


def test_ordinary_pull_request_takes_25_queries_at_most(pull_request: PullRequest) -> None:
    """The budget of a fetch, from the first look at the row to `complete`."""
    assert count_queries(pull_request) <= 25


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite splits long statements")
def test_number_of_queries_does_not_depend_on_the_number_of_items(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """A pull request with 3,000 files must not take 3,000 round trips."""
    sizes = {"commits": 240, "files": 3000, "issue_comments": 500, "lines_per_file": 4}
    large = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 9, **sizes))
    people = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 8, issue_comments=9))
    fetch_pr_complete_data(people.pk)  # writes their accounts, which are only read from then on

    assert count_queries(large) == count_queries(pull_request)


def test_renamed_repository_is_followed(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """GitHub redirects from the old name, as long as nobody takes it."""
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    repository.refresh_from_db()
    assert (pull_request.github_repo, repository.full_name) == ("acme/hammer",) * 2
    assert pull_request.sync_status == "complete"


def test_repository_that_took_the_name_is_not_fetched(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """Its number 7 is a stranger's; GitHub is asked by the id for the right name."""
    sandbox.world.rename_repository(REPOSITORY, "acme/anvil-old")
    sandbox.world.add_repository(REPOSITORY, repository_id=99)
    taker = make_recording(REPOSITORY, 7, repository_id=99)
    taker.pull["id"] = pull_request.github_pr_id
    sandbox.world.add(taker)

    fetch_pr_complete_data(pull_request.pk)
    pull_request.refresh_from_db()
    error, commits = pull_request.sync_error, pull_request.commits.count()
    verify_due()
    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert ("another repository now" in error, commits) == (True, 0)
    assert (pull_request.github_repo, pull_request.github_pr_number) == ("acme/anvil-old", 7)
    assert pull_request.sync_status == "complete"


def test_fetch_learns_the_id_of_a_repository_that_was_known_by_its_name(
    repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """GitHub has given the id to the team's own token, so it can be trusted."""
    TrackedRepository.objects.update(github_repo_id=None, verified_at=None)

    fetch_pr_complete_data(pull_request.pk)

    known = TrackedRepository.objects.get()
    assert (known.github_repo_id, known.verified_at is not None) == (
        repository.github_repo_id,
        True,
    )


@pytest.mark.django_db(transaction=True)
def test_long_fetch_gives_signs_of_life(
    sandbox: SandboxServer, repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reconcile takes a running row without a sign of life for stuck."""
    row = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 9))
    monkeypatch.setattr("metrics_sync.jobs.running.HEARTBEAT_SECONDS", 0.01)
    break_section(sandbox, "/files", kind=FaultKind.SLOW, seconds=1, times=1)

    with ThreadPoolExecutor() as pool:
        fetching = pool.submit(_fetch_in_thread, row.pk)
        wait_until(lambda: PullRequest.objects.filter(heartbeat_at__isnull=False).exists())
        fetching.result()

    row.refresh_from_db()
    assert (row.sync_status, row.heartbeat_at) == ("complete", None)


def _fetch_in_thread(pk: int) -> None:
    try:
        fetch_pr_complete_data(pk)
    finally:
        connection.close()


def test_number_of_another_pull_request_brings_none_of_its_data(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """A repository that was deleted and made anew uses the same numbers again."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["id"] += 1

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert (pull_request.sync_status, pull_request.github_pr_number) == ("failed", None)
    assert "another pull request" in pull_request.sync_error
    assert not pull_request.commits.exists()


def test_pull_request_known_under_both_names_keeps_the_row_of_the_new_one(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """The webhook of the rename was lost, and a later one already used the new name."""
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")
    newer = PullRequestFactory(
        team=repository.team,
        github_repo="acme/hammer",
        github_pr_id=pull_request.github_pr_id,
        github_pr_number=7,
    )

    result = fetch_pr_complete_data(pull_request.pk)

    repository.refresh_from_db()
    assert ("new name" in result["error"], repository.full_name) == (True, "acme/hammer")
    assert list(PullRequest.objects.all()) == [newer]


def test_news_of_a_row_that_waits_makes_another_look(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """The next try does not ask again for sections that an earlier try fetched."""
    fault = break_section(sandbox, "/files")
    fetch_pr_complete_data(pull_request.pk)
    fault.times = 0
    PullRequest.objects.note_change()
    news = PullRequest.objects.get().refetch_at

    fetch_pr_complete_data(pull_request.pk)

    row = PullRequest.objects.get()
    assert (row.sync_status, row.refetch_at) == ("complete", news)


def test_look_that_news_asked_for_is_made_once(pull_request: PullRequest) -> None:
    """Otherwise a pull request would be due again right after each fetch, for ever."""
    fetch_pr_complete_data(pull_request.pk)
    PullRequest.objects.update(refetch_at=timezone.now() - timedelta(minutes=1))

    fetch_pr_complete_data(pull_request.pk)

    assert not PullRequest.objects.outdated(timezone.now()).exists()


def test_old_addresses_of_a_renamed_repository_are_forgotten(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """Somebody else may take the old name, and answer there."""
    fetch_pr_complete_data(pull_request.pk)
    sandbox.world.rename_repository(REPOSITORY, "acme/anvil-old")
    repository.rename("acme/anvil-old")
    sandbox.world.add_repository(REPOSITORY, repository_id=424242)

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert (pull_request.sync_status, pull_request.github_pr_number) == ("complete", 7)


def test_run_writes_nothing_into_a_row_that_another_job_runs(pull_request: PullRequest) -> None:
    """The run was taken for dead, and came back while another job was at work."""
    pull_request.mark_running(job_id="slow")
    run = FetchRun.start(pull_request, job_id="slow")
    PullRequest.objects.update(sync_job_id="other")

    save(pull_request, run, Outcome(errors={"fetch": ValueError("late")}), job=None)

    row = PullRequest.objects.get()
    assert (row.sync_status, row.sync_job_id, row.sync_error) == ("running", "other", "")


def test_bulk_fetch_of_a_row_that_a_job_took_meanwhile_writes_nothing(
    repository: TrackedRepository,
) -> None:
    """Only one of two fetches may write a row, and the job's data may be newer."""
    row = PullRequestFactory(merged=True, team=repository.team, github_repo=REPOSITORY)
    pull = make_recording(REPOSITORY, 7).pull
    snapshot = Snapshot(read_pull_request(pull, github_repo=REPOSITORY), {}, etags={})
    PullRequest.objects.update(sync_status="queued", sync_job_id="other")

    assert not save_fetched(row, snapshot)

    row.refresh_from_db()
    assert (row.sync_status, row.sync_job_id, row.title) == ("queued", "other", "Make it heavier")
    assert not FetchRun.objects.exists()


def test_news_that_came_while_many_were_fetched_is_looked_at(
    repository: TrackedRepository,
) -> None:
    """GitHub was asked before the run of this pull request began, so its answer may be older."""
    row = PullRequestFactory(merged=True, team=repository.team, github_repo=REPOSITORY)
    pull = make_recording(REPOSITORY, 7).pull | {"id": row.github_pr_id}
    snapshot = Snapshot(read_pull_request(pull, github_repo=REPOSITORY), {}, etags={})
    PullRequest.objects.all().note_change()

    assert save_fetched(row, snapshot)

    row.refresh_from_db()
    assert (row.sync_status, row.refetch_at is not None) == ("complete", True)


def test_save_that_is_rolled_back_leaves_no_proof(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """The run and the object in memory said “verified” of lists that no table had."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["number"] = 2**70  # the last statement of the transaction fails

    with pytest.raises((DataError, OverflowError)):
        fetch_now(pull_request, partial(Access.of, repository, is_bulk=False))

    run, row = FetchRun.objects.get(), PullRequest.objects.get()
    assert (run.status, run.receipt, row.receipt, row.commits.count()) == ("failed", {}, {}, 0)
    assert (pull_request.receipt, pull_request.github_pr_number) == ({}, 7)


def test_bulk_save_that_is_rolled_back_leaves_no_proof(repository: TrackedRepository) -> None:
    """The same holds for pull requests that are fetched together with others."""
    row = PullRequestFactory(merged=True, team=repository.team, github_repo=REPOSITORY)
    pull = make_recording(REPOSITORY, 7).pull | {"id": row.github_pr_id, "number": 2**70}
    files = {Section.FILES: SectionResult((), 0, VERIFIED)}
    snapshot = Snapshot(read_pull_request(pull, github_repo=REPOSITORY), files, etags={})

    assert save_fetched(row, snapshot)

    run = FetchRun.objects.get()
    assert (run.status, run.receipt) == ("failed", {})
    assert (row.sync_status, row.receipt) == ("failed", {})


@pytest.mark.parametrize("seconds_behind", [0, 60])
def test_job_that_comes_back_with_an_old_dump_does_nothing(
    sandbox: SandboxServer, pull_request: PullRequest, redis: Redis, seconds_behind: int
) -> None:
    """A restored Redis has jobs again that are done, whatever the worker's clock says."""
    [job] = run_queue(redis, pull_request)
    behind = F("fetch_started_at") - timedelta(seconds=seconds_behind)
    PullRequest.objects.update(fetch_started_at=behind)
    asked_before = len(sandbox.requests)
    Queue(MERGES, connection=redis).enqueue_job(job)

    SimpleWorker([MERGES], connection=redis).work(burst=True)

    pull_request.refresh_from_db()
    assert (len(sandbox.requests), pull_request.sync_status) == (asked_before, "complete")


def test_first_answer_releases_what_failed_in_an_outage(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """After fifteen minutes without GitHub, every row waited another half hour."""
    other = add_merge(sandbox, repository.team, make_recording(REPOSITORY, 8))
    outage = break_section(sandbox, "")
    fetch_pr_complete_data(pull_request.pk)
    held_until = PullRequest.objects.get(pk=pull_request.pk).retry_at
    outage.times = 0

    fetch_pr_complete_data(other.pk)

    now = timezone.now()
    pull_request.refresh_from_db()
    assert held_until > now >= pull_request.retry_at
    assert (pull_request.sync_status, pull_request.fault_may_pass) == ("failed", False)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"fault_may_pass": False}, id="GitHub said no"),
        pytest.param({"failures": 9}, id="fails while others do not"),
        pytest.param({"github_repo": "acme/untracked"}, id="somewhere else"),
    ],
)
def test_answer_releases_nothing_that_it_says_nothing_of(
    repository: TrackedRepository, values: dict[str, Any]
) -> None:
    """Otherwise a pull request that always fails would be fetched after every other one."""
    later = timezone.now() + timedelta(hours=1)
    held = {"failures": 1, "fault_may_pass": True, "retry_at": later, "github_repo": REPOSITORY}
    answered = PullRequestFactory(team=repository.team, github_repo=REPOSITORY)
    PullRequestFactory(merged=True, team=repository.team, **(held | values))

    assert PullRequest.objects.release_passing(answered) == 0


def test_run_without_a_record_has_not_begun(
    pull_request: PullRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row would otherwise look as if a job were fetching it, until it counts as stuck."""
    monkeypatch.setattr(FetchRun, "start", Mock(side_effect=DatabaseError("no disk left")))
    before = pull_request.sync_status

    with pytest.raises(DatabaseError):
        fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert pull_request.sync_status == before


def test_answer_with_nothing_to_release_costs_one_query(pull_request: PullRequest) -> None:
    """Nearly every fetch ends with nothing to release."""
    with CaptureQueriesContext(connection) as queries:
        pull_request.release_others()

    assert len(queries) == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="asks PostgreSQL what it read")
def test_look_for_rows_to_release_reads_few_after_an_outage(pull_request: PullRequest) -> None:
    """Each fetch of the backlog would otherwise walk through all pull requests."""
    held = {"fault_may_pass": True, "retry_at": timezone.now() + timedelta(hours=1)}
    others = {"merged": True, "team": pull_request.team, "github_repo": "acme/hammer"}
    PullRequestFactory.create_batch(300, **others)
    failed = PullRequestFactory.create_batch(100, **others, **held)
    store.refresh_statistics()
    PullRequest.objects.filter(pk__in=[row.pk for row in failed]).update(fault_may_pass=False)
    avoid_whole_tables()

    before = count_rows_read()
    pull_request.release_others()

    assert count_rows_read() - before <= len(failed)


def test_rows_are_counted_when_github_says_that_nothing_changed(
    pull_request: PullRequest,
) -> None:
    """The old receipt proves what was stored then, not what is."""
    fetch_pr_complete_data(pull_request.pk)
    pull_request.reviews.all()[:1].get().delete()
    pull_request.files.all()[:1].get().delete()

    fetch_pr_complete_data(pull_request.pk)

    assert (pull_request.reviews.count(), pull_request.files.count()) == (2, 5)


def test_person_who_asks_again_is_answered_in_full(
    sandbox: SandboxServer, repository: TrackedRepository, pull_request: PullRequest
) -> None:
    """“Nothing has changed” does not help somebody who doubts what is shown."""
    fetch_pr_complete_data(pull_request.pk)
    asked_before = len(sandbox.requests)
    pull_request.refresh_from_db()
    pull_request.comments.update(body="Spoiled")

    fetch_now(pull_request, partial(Access.of, repository, is_bulk=False), in_full=True)

    assert {request.status for request in sandbox.requests[asked_before:]} == {200}
    assert not pull_request.comments.filter(body="Spoiled").exists()


def test_time_that_is_none_stands_in_the_receipt(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """One such date emptied the list for good; the receipt explains why the time is missing."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.check_runs[0]["started_at"] = "0001-01-01T00:00:00Z"

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    entry = pull_request.receipt["check_runs"]
    assert (entry["result"], entry["stored"]) == ("verified", len(recording.check_runs))
    assert entry["reason"] == "1 with a time that is unknown"


def test_dismissal_whose_list_comes_unchanged_is_kept(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """A late delivery overwrote the dismissal, and no later fetch could notice."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.reviews[0]["state"] = "DISMISSED"
    fetch_pr_complete_data(pull_request.pk)
    review = recording.reviews[0] | {"state": "changes_requested"}
    payload = build_pull_request_review_event(recording, review)
    text = json.dumps(payload)
    event = ("guid", "pull_request_review", "submitted", REPOSITORY, payload, text)
    record_delivery(Delivery(*event), integration=None)

    fetch_pr_complete_data(pull_request.pk)

    stored = pull_request.reviews.get(github_review_id=review["id"])
    assert (stored.state, stored.submitted_state) == ("dismissed", "changes_requested")


def test_odd_characters_cost_nothing_wherever_they_stand(
    sandbox: SandboxServer, pull_request: PullRequest
) -> None:
    """PostgreSQL refuses them in every column, not only where people write."""
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.commits[0]["sha"] += "\x00"
        recording.check_runs[0]["app"]["slug"] = "a\x00"
        recording.files[0]["filename"] += "\x00"

    fetch_pr_complete_data(pull_request.pk)

    pull_request.refresh_from_db()
    assert (pull_request.sync_status, pull_request.sync_error) == ("complete", "")
    assert pull_request.check_runs.filter(app_slug="a").exists()
