"""Merges of a token that is short of requests, which are fetched through GraphQL."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job

from metrics_sync.heal.bulk_merges import enqueue_waiting, fetch_waiting
from metrics_sync.heal.reconcile import requeue_due
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import FetchRun, IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.observe import counting
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from metrics_sync.work.rounds import hold_round
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.test_backfill import fill, list_rest, rename_file
from tests.test_flow import read_rows, read_truth
from tests.test_refetching import is_true

REPOSITORY = "acme/anvil"
LIMIT = 5000


@pytest.fixture
def repository(sandbox: SandboxServer, redis: Redis, db: None) -> TrackedRepository:
    """A repository whose token has no request left for half an hour."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository: TrackedRepository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    leave(0)
    return repository


def leave(requests: int, *, until: datetime | None = None) -> datetime:
    """Let the tokens have so many requests left; returns when they have all again."""
    resets_at = until or timezone.now() + timedelta(minutes=30)
    IntegrationCredential.objects.update(
        rate_limit=LIMIT, rate_limit_remaining=requests, rate_limit_resets_at=resets_at
    )
    return resets_at


def merge(
    sandbox: SandboxServer, repository: TrackedRepository, *numbers: int, **sizes: int
) -> list[PullRequest]:
    """Put merges of just now into GitHub and, as webhooks do, their rows into our database."""
    fill(sandbox, *numbers, **sizes)
    for number in numbers:
        recording = sandbox.world.recording(repository.full_name, number)
        PullRequestFactory(
            team=repository.team,
            repository=repository,
            github_repo=repository.full_name,
            github_pr_id=recording.pull["id"],
            github_pr_number=number,
        )
    PullRequest.objects.filter(sync_status="idle").update(
        state="merged", sync_status="pending", merged_at=timezone.now()
    )
    return list(PullRequest.objects.filter(github_pr_number__in=numbers).order_by("pk"))


def let_merge(repository: TrackedRepository, count: int) -> None:
    """Let so many other pull requests have merged lately, which are complete."""
    of_repository = {"repository": repository, "team": repository.team, "github_repo": REPOSITORY}
    for number in range(1001, 1001 + count):
        PullRequestFactory(**of_repository, github_pr_number=number)
    PullRequest.objects.update(
        state="merged", sync_status="complete", merged_at=timezone.now() - timedelta(minutes=4)
    )


def queue_and_park(redis: Redis, rows: list[PullRequest]) -> None:
    """Let the job of each row begin, and wait as there are too few requests."""
    for row in rows:
        enqueue_fetch(row, queue_name=MERGES)
    work(redis, MERGES)


def work(redis: Redis, name: str) -> None:
    SimpleWorker([Queue(name, connection=redis)], connection=redis).work(burst=True)


def fetch(repository: TrackedRepository) -> dict[str, Any]:
    return fetch_waiting(repository.integration.credential_id)


def read_statuses() -> list[str]:
    return list(PullRequest.objects.order_by("pk").values_list("sync_status", flat=True))


def list_queries(sandbox: SandboxServer) -> list[int]:
    return [request.status for request in sandbox.requests if request.path == "/graphql"]


def test_merges_without_requests_are_fetched_with_one_query(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """They would wait for half an hour, while GraphQL's points are not used."""
    rows = merge(sandbox, repository, *range(1, 26))
    queue_and_park(redis, rows)
    waiting = PullRequest.objects.values_list("sync_error", flat=True)[0]

    assert enqueue_waiting() == {"queued": 1}
    work(redis, MERGES)

    assert "waits for GitHub's rate limit until" in waiting
    assert (list_queries(sandbox), list_rest(sandbox)) == ([200], [])
    assert is_true(sandbox)
    assert set(PullRequest.objects.values_list("sync_error", flat=True)) == {""}


def test_jobs_that_waited_are_gone(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Thousands of jobs that find nothing to do would all run at the reset."""
    [row] = merge(sandbox, repository, 1)
    queue_and_park(redis, [row])
    row.refresh_from_db()
    scheduled = Queue(MERGES, connection=redis).scheduled_job_registry
    before = scheduled.get_job_ids()

    fetch(repository)

    assert (before, scheduled.get_job_ids()) == ([row.sync_job_id], [])
    assert not redis.keys(f"rq:*{row.sync_job_id}*")


def test_job_that_is_left_finds_its_row_complete(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """The process may be killed before it deletes the job, and no row is fetched twice."""
    [row] = merge(sandbox, repository, 1)
    enqueue_fetch(row, queue_name=MERGES)
    fetch(repository)
    leave(LIMIT)
    before = len(sandbox.requests)

    work(redis, MERGES)

    assert len(sandbox.requests) == before
    assert FetchRun.objects.count() == 1


@pytest.mark.parametrize(
    ("left", "minutes", "others", "status"),
    [
        pytest.param(2000, 50, 24, "queued", id="half is gone at once"),
        pytest.param(2200, 50, 24, "complete", id="more than half is left"),
        pytest.param(2000, 50, 18, "complete", id="enough for as many as come"),
        pytest.param(300, 5, 24, "complete", id="enough for a few minutes"),
    ],
)
def test_requests_are_spent_so_that_they_last(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    redis: Redis,
    left: int,
    minutes: int,
    others: int,
    status: str,
) -> None:
    """What only REST has of merges fetched in bulk must be paid until the end of the hour."""
    leave(left, until=timezone.now() + timedelta(minutes=minutes))
    let_merge(repository, others)

    queue_and_park(redis, merge(sandbox, repository, 1))

    assert PullRequest.objects.get(github_pr_number=1).sync_status == status


def test_requests_that_others_have_set_aside_are_not_left_for_a_merge(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Workers that begin at once would each find enough, and leave none for what only REST has."""
    leave(65)  # of which one merge every five minutes needs 60 until the reset
    IntegrationCredential.objects.get().set_requests_aside(is_bulk=False)

    queue_and_park(redis, merge(sandbox, repository, 1))
    before = read_statuses()
    fetch(repository)

    assert (before, read_statuses(), list_rest(sandbox)) == (["queued"], ["complete"], [])


def test_merge_that_waited_in_vain_uses_requests_of_its_own(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """No clock may run, or its queries may fail."""
    leave(2000, until=timezone.now() + timedelta(minutes=59))
    let_merge(repository, 24)
    [row] = merge(sandbox, repository, 1)
    enqueue_fetch(row, queue_name=MERGES)
    PullRequest.objects.update(queued_at=timezone.now() - timedelta(minutes=5))

    work(redis, MERGES)

    row.refresh_from_db()
    assert (row.sync_status, list_queries(sandbox)) == ("complete", [])


def test_merge_that_no_query_brought_uses_requests_that_are_left(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """They are kept for what bulk cannot bring."""
    leave(2000, until=timezone.now() + timedelta(minutes=59))
    let_merge(repository, 24)
    [row] = merge(sandbox, repository, 1)
    queue_and_park(redis, [row])
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/graphql", status=502))

    fetch(repository)
    queue = Queue(MERGES, connection=redis)
    due = queue.scheduled_job_registry.get_jobs_to_schedule()
    row.refresh_from_db()

    assert due == [row.sync_job_id]
    assert row.sync_error.startswith("waits for GitHub's rate limit, as it was not fetched in bulk")
    queue.enqueue_job(Job.fetch(row.sync_job_id, connection=redis))
    work(redis, MERGES)
    row.refresh_from_db()
    assert row.sync_status == "complete"


def test_list_that_only_rest_has_waits_with_its_reason(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """The others are there, and no further query can bring it."""
    rows = merge(sandbox, repository, 1, 2)
    rename_file(sandbox, 1)
    queue_and_park(redis, rows)
    resets_at = IntegrationCredential.objects.get().rate_limit_resets_at

    fetch(repository)
    again = fetch(repository)

    row = PullRequest.objects.get(github_pr_number=1)
    assert (read_statuses(), row.retry_at, row.failures) == (["partial", "complete"], resets_at, 0)
    assert row.sync_error.startswith("files: the rate limit is used up until")
    assert (again["fetched"], list_queries(sandbox), list_rest(sandbox)) == (0, [200], [])


def test_list_that_waited_is_fetched_alone_after_the_reset(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """What the query brought is proven, and costs nothing again."""
    queue_and_park(redis, merge(sandbox, repository, 1))
    rename_file(sandbox, 1)
    fetch(repository)
    leave(LIMIT)
    PullRequest.objects.update(retry_at=timezone.now())

    requeue_due()
    work(redis, BULK)

    assert is_true(sandbox)
    assert set(list_rest(sandbox)) == {
        f"/repos/{REPOSITORY}/pulls/1",
        f"/repos/{REPOSITORY}/pulls/1/files",
    }


def test_list_that_only_rest_has_may_use_the_reserve(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """It is kept for merges, which these are."""
    leave(40)
    queue_and_park(redis, merge(sandbox, repository, 1))
    rename_file(sandbox, 1)

    fetch(repository)

    assert is_true(sandbox)
    assert list_rest(sandbox) == [f"/repos/{REPOSITORY}/pulls/1/files"]


def test_list_that_waits_for_what_others_have_set_aside_does_not_wait_for_the_reset(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """They give it back in seconds. A row that lacks a list has no job that waits for them."""
    leave(15)
    queue_and_park(redis, merge(sandbox, repository, 1))
    rename_file(sandbox, 1)
    credential = IntegrationCredential.objects.get()
    share = credential.set_requests_aside(is_bulk=False)
    fetch(repository)
    [before] = read_statuses()
    credential.note_rate_limit(None, returned=share)
    now = timezone.now()
    PullRequest.objects.update(retry_at=now, merged_at=now)

    requeue_due()
    work(redis, BULK)
    fetch(repository)

    assert (before, read_statuses()) == ("partial", ["complete"])
    assert is_true(sandbox)


def test_merge_that_failed_is_fetched_in_bulk_when_no_request_is_left(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    merge(sandbox, repository, 1)
    PullRequest.objects.update(sync_status="failed", retry_at=timezone.now())
    requeue_due()

    enqueue_waiting()
    work(redis, MERGES)

    assert is_true(sandbox)


@pytest.mark.parametrize(("hours", "status"), [(0.5, "complete"), (2, "failed")])
def test_recent_merge_that_failed_uses_the_reserve(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis, hours: float, status: str
) -> None:
    """The clock queues it again with what can wait, but it is a merge still."""
    leave(500)
    merge(sandbox, repository, 1)
    now = timezone.now()
    merged_at = now - timedelta(hours=hours)
    PullRequest.objects.update(sync_status="failed", retry_at=now, merged_at=merged_at)

    requeue_due()
    work(redis, BULK)

    assert (read_statuses(), list_queries(sandbox)) == ([status], [])


def test_old_merge_leaves_the_reserve_to_new_ones(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Discovery may find thousands of merges while requests are short."""
    leave(40)
    let_merge(repository, 24)
    [row] = merge(sandbox, repository, 1)
    PullRequest.objects.filter(pk=row.pk).update(merged_at=timezone.now() - timedelta(hours=2))
    rename_file(sandbox, 1)

    fetch(repository)

    row.refresh_from_db()
    assert (row.sync_status, list_queries(sandbox), list_rest(sandbox)) == ("partial", [200], [])


def test_complete_row_that_waits_for_a_refetch_is_no_merge_that_waits(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Its data are there, and points are for those whose data are not."""
    merge(sandbox, repository, 1)
    PullRequest.objects.update(completed_at=timezone.now())

    assert (fetch(repository)["fetched"], list_queries(sandbox)) == (0, [])


def test_limit_that_several_lists_meet_counts_once(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Each further one within an hour doubles the pause of all work with the token."""
    leave(40)
    merge(sandbox, repository, 1, 2, 3)
    for number in (1, 2, 3):
        rename_file(sandbox, number)
    sandbox.faults.add(Fault(FaultKind.SECONDARY_LIMIT, path="/repos/", retry_after=90))

    fetch(repository)

    assert IntegrationCredential.objects.get().secondary_limits == 1


@pytest.mark.parametrize(
    ("ago", "queue"),
    [
        pytest.param(timedelta(minutes=1), MERGES, id="new"),
        pytest.param(timedelta(hours=2), BULK, id="found later"),
    ],
)
def test_merge_of_a_query_counts_for_monitoring(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    redis: Redis,
    ago: timedelta,
    queue: str,
) -> None:
    """The alert for slow merges would be silent just when merges wait."""
    merge(sandbox, repository, 1)
    PullRequest.objects.update(merged_at=timezone.now() - ago)
    counting.take()

    fetch(repository)

    counted = {dict(labels).get("queue") for name, labels in counting.take() if "seconds" in name}
    assert counted == {queue}


def test_answer_from_before_the_merge_is_not_taken(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """A replica of GitHub's may be behind; the merge is asked for again in a minute."""
    queue_and_park(redis, merge(sandbox, repository, 1))
    with sandbox.world.editing(REPOSITORY, 1) as recording:
        recording.pull |= {"merged_at": None, "merged": False, "state": "open", "closed_at": None}

    fetch(repository)

    [row] = PullRequest.objects.all()
    assert (row.sync_status, row.commits.count()) == ("queued", 0)
    assert row.retry_at < timezone.now() + timedelta(minutes=2)
    assert "GitHub's answer is not of it" in row.sync_error


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": FaultKind.STATUS, "status": 404}, id="no GraphQL"),
        pytest.param({"kind": FaultKind.PERMISSION}, id="not for this token"),
    ],
)
def test_server_without_graphql_leaves_merges_to_rest(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis, fault: dict[str, Any]
) -> None:
    """They wait for requests as before, and queries are not sent in vain."""
    sandbox.faults.add(Fault(path="/graphql", **fault))
    rows = merge(sandbox, repository, 1)
    queue_and_park(redis, rows)

    result = fetch(repository)
    leave(2000, until=timezone.now() + timedelta(minutes=59))
    more = merge(sandbox, repository, 2)

    assert (result["fetched"], enqueue_waiting()) == (0, {"queued": 0})
    queue_and_park(redis, more)
    assert read_statuses() == ["queued", "complete"]


def test_repository_that_is_gone_keeps_no_other_from_its_merges(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """A team may track many with one token."""
    other = TrackedRepositoryFactory(
        full_name="acme/gone", integration=repository.integration, team=repository.team
    )
    gone = PullRequestFactory(team=repository.team, repository=other, github_repo="acme/gone")
    merge(sandbox, repository, 1)

    result = fetch(repository)

    gone.refresh_from_db()
    assert (result["fetched"], len(result["errors"]), gone.sync_status) == (1, 1, "pending")
    assert "NOT_FOUND" in gone.sync_error or "Could not resolve" in gone.sync_error
    assert IntegrationCredential.objects.get().may_fetch_in_bulk


def test_points_that_are_used_up_end_the_queries(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Both purses are empty then, and everybody waits."""
    body = {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}
    sandbox.faults.add(Fault(FaultKind.WRONG_TYPE, path="/graphql", body=body))
    queue_and_park(redis, merge(sandbox, repository, 1))

    fetch(repository)

    credential = IntegrationCredential.objects.get()
    assert credential.bulk_wait_until > timezone.now() + timedelta(minutes=10)
    assert (enqueue_waiting(), credential.may_fetch_in_bulk) == ({"queued": 0}, False)


def test_secondary_limit_stops_queries_and_requests(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """GitHub counts both together there."""
    sandbox.faults.add(Fault(FaultKind.SECONDARY_LIMIT, path="/graphql", retry_after=90))
    queue_and_park(redis, merge(sandbox, repository, 1))

    fetch(repository)

    credential = IntegrationCredential.objects.get()
    assert credential.find_pause_of_both() is not None
    assert (read_statuses(), enqueue_waiting()) == (["queued"], {"queued": 0})


def test_second_secondary_limit_stops_queries_for_twice_as_long(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Also while REST's own limit, which stops no queries, lasts longer than that pause."""
    resets_at = leave(0)
    credential = IntegrationCredential.objects.get()
    credential.note_pause(until=resets_at, is_secondary=False)
    IntegrationCredential.objects.update(secondary_limits=1, secondary_limited_at=timezone.now())
    sandbox.faults.add(Fault(FaultKind.SECONDARY_LIMIT, path="/graphql", retry_after=90))
    merge(sandbox, repository, 1)

    fetch(repository)

    credential.refresh_from_db()
    assert credential.bulk_wait_until > timezone.now() + timedelta(seconds=120)


def test_limit_of_rest_that_github_stated_does_not_stop_queries(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """The user of a token may have used up its requests elsewhere."""
    resets_at = leave(0)
    IntegrationCredential.objects.get().note_pause(until=resets_at, is_secondary=False)
    queue_and_park(redis, merge(sandbox, repository, 1))

    fetch(repository)

    assert is_true(sandbox)


def test_team_is_fetched_with_its_own_credential_only(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Another team's points are not its own, nor may its token read everything."""
    merge(sandbox, repository, 1)
    other = TrackedRepositoryFactory(
        full_name=REPOSITORY, integration__credential__access_token="ghp_of_others"
    )

    assert fetch(other)["fetched"] == 0
    assert (read_statuses(), list_queries(sandbox)) == (["pending"], [])


def test_one_job_at_a_time_fetches_for_a_credential(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Two would ask for the same merges."""
    merge(sandbox, repository, 1)

    with hold_round(
        f"fetch_waiting:{repository.integration.credential_id}", lasts=timedelta(minutes=1)
    ):
        result = fetch(repository)

    assert (result["fetched"], list_queries(sandbox)) == (0, [])


def test_team_with_its_share_of_jobs_waits_for_its_turn(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """A job that fetches many merges must not take the last worker from other teams."""
    [row] = merge(sandbox, repository, 1)
    enqueue_fetch(row, queue_name=MERGES)

    assert enqueue_waiting() == {"queued": 0}


def test_row_that_a_job_runs_is_left_to_it(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """It may have begun before the last request was spent."""
    [row] = merge(sandbox, repository, 1)
    row.mark_running(job_id="another")

    fetch(repository)

    assert (read_statuses(), list_queries(sandbox)) == (["running"], [])


def test_merge_fetched_by_hand_meanwhile_is_not_written_twice(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Of two that fetch a row one writes it."""
    [row] = merge(sandbox, repository, 1)
    leave(LIMIT)
    fetch_pr_complete_data(row.pk)
    leave(0)

    assert fetch(repository)["fetched"] == 0
    assert read_rows(row) == read_truth(sandbox.world.recording(REPOSITORY, 1))
    assert FetchRun.objects.count() == 1
