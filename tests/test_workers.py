"""How workers start and stop: loaded before the first job, and without losing a job."""

import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.utils import timezone
from redis import Redis
from rq import Queue, Worker
from rq.exceptions import StopRequested
from rq.job import Job

from metrics_sync.models import PullRequest
from metrics_sync.models.states import SyncStatus
from metrics_sync.observe import counting
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from metrics_sync.snapshot import RateLimit
from metrics_sync.work.counts import SilentEnds, read_counts, read_silent_ends
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from metrics_sync.work.turns import enqueue_merge
from metrics_sync.work.workers import FetchWorker
from tests.benchmarks.worker import read_notes
from tests.conftest import MANAGE, PATIENCE_SECONDS, Workers, wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.http2 import serve_http2

REPOSITORY = "acme/anvil"
QUEUES = ["pr-data", "pr-data-bulk"]
WORKER = ["rqworker", *QUEUES, "--with-scheduler"]
MEASURED = "tests.benchmarks.worker.MeasuredWorker"
POOL = ["rqworker-pool", *QUEUES, "--num-workers", "2"]


@pytest.fixture
def pull_request(transactional_db: None, sandbox: SandboxServer) -> PullRequest:
    """A merge whose fetch takes three seconds."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/files$", seconds=3))
    ids = {"github_pr_id": recording.pull["id"], "github_pr_number": 7}
    return PullRequestFactory(merged=True, team=repository.team, **ids)


def tell_the_first(worker: psutil.Process) -> None:
    """Signal only the process that was started, as containers and `KillMode=mixed` do."""
    worker.send_signal(signal.SIGTERM)


def tell_everybody(worker: psutil.Process) -> None:
    """Signal every process, as platforms and `KillMode=control-group` do."""
    for process in [*worker.children(recursive=True), worker]:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


@pytest.mark.long(seconds=6)
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tell", [tell_the_first, tell_everybody])
@pytest.mark.parametrize("command", [WORKER, POOL], ids=["worker", "pool"])
def test_job_is_finished_when_its_worker_is_told_to_stop(
    pull_request: PullRequest,
    workers: Workers,
    command: list[str],
    tell: Callable[[psutil.Process], None],
) -> None:
    """Each deployment stops every worker; a row that stays `running` waits for minutes."""
    rows = PullRequest.objects.filter(pk=pull_request.pk)
    assert enqueue_fetch(rows.get(), queue_name=MERGES)
    worker = psutil.Popen([*MANAGE, *command], env=workers.environment)
    workers.started.append(worker)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)

    tell(worker)

    assert worker.wait(PATIENCE_SECONDS) == 0
    assert rows.get().sync_status == SyncStatus.COMPLETE


@pytest.mark.long(seconds=5)
@pytest.mark.parametrize("tell", [tell_the_first, tell_everybody])
def test_pool_stops_while_its_workers_load(
    workers: Workers, tmp_path: Path, tell: Callable[[psutil.Process], None]
) -> None:
    """The pool signals each worker once; a worker that misses it holds up a deployment for ever."""
    log = tmp_path / "log"
    with log.open("w") as output:
        pool = psutil.Popen(
            [*MANAGE, *POOL, "--verbosity", "2"],
            env=workers.environment,
            stdout=output,
            stderr=output,
            preexec_fn=ignore_interrupts,
        )
    workers.started.append(pool)
    # By then the pool has its own signal handlers, and has just started its workers.
    wait_until(lambda: "Checking worker processes" in log.read_text())

    tell(pool)

    assert pool.wait(PATIENCE_SECONDS) == 0


def ignore_interrupts() -> None:
    """Ignore interrupts, as processes do that a shell starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class WorkerToldWhileItLoads(FetchWorker):
    """Gets the signal to stop as soon as it starts to work; before that it has a pool's handler."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        signal.signal(signal.SIGINT, lambda *_: None)

    def queue_names(self) -> list[str]:
        signal.raise_signal(signal.SIGINT)
        raise SystemExit("It was not heard.")


@pytest.mark.long(seconds=3)
def test_worker_is_told_before_rq_listens(environment: dict[str, str]) -> None:
    """A pool starts another worker for one that ended, and may stop while that one loads."""
    name = f"{WorkerToldWhileItLoads.__module__}.{WorkerToldWhileItLoads.__qualname__}"
    command = [*MANAGE, "rqworker", "--worker-class", name, MERGES]

    ended = subprocess.run(command, env=environment, check=False, timeout=PATIENCE_SECONDS)

    assert ended.returncode == -signal.SIGINT


def test_idle_worker_stops_although_the_exception_was_lost(redis: Redis) -> None:
    """A signal may arrive while a line is logged, where exceptions are lost."""
    worker = FetchWorker([Queue(MERGES, connection=redis)], connection=redis)
    worker.run_maintenance_tasks()
    with suppress(StopRequested):
        worker._shutdown()

    with pytest.raises(StopRequested):
        worker.run_maintenance_tasks()


@pytest.mark.long(seconds=5)
def test_jobs_find_everything_loaded_and_share_only_the_connection_to_github(
    sandbox: SandboxServer, workers: Workers, tmp_path: Path
) -> None:
    """Each fork would load them again; a shared database connection would share its transaction."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    team = TrackedRepositoryFactory(full_name=REPOSITORY, **token).team
    for number in (7, 8):
        recording = sandbox.world.add(make_recording(REPOSITORY, number))
        ids = {"github_pr_id": recording.pull["id"], "github_pr_number": number}
        PullRequestFactory(merged=True, team=team, github_repo=REPOSITORY, **ids)
    with serve_http2(sandbox.url, folder=tmp_path) as front:
        workers.environment |= {
            "BENCH_NOTES": str(tmp_path / "notes"),
            "GITHUB_API_URL": front.url,
            "SSL_CERT_FILE": str(front.certificate),
        }
        # Not `drain`, whose processes start with the libraries already loaded.
        command = [*MANAGE, *WORKER, "--burst", "--worker-class", MEASURED]
        subprocess.run(command, env=workers.environment, check=True, timeout=PATIENCE_SECONDS)

    statuses = PullRequest.objects.values_list("sync_status", flat=True)
    assert (list(statuses), front.versions) == (["complete"] * 2, {"2"})
    assert len(front.connections) == 1
    assert read_notes(tmp_path / "notes", "imported") == [[], []]
    assert read_notes(tmp_path / "notes", "inherited") == [0]


SILENT: counting.Series = ("jobs_ended_silently", (("queue", MERGES),))


def test_error_before_rq_takes_over_is_logged_and_counted(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an error could end every job that the clock queues, with no line in any log."""
    queue = Queue(MERGES, connection=redis)
    job = queue.enqueue("os.getpid")
    job.meta = ["of another version"]

    with pytest.raises(AttributeError):
        FetchWorker([queue], connection=redis).perform_job(job, queue, None)

    ends = read_silent_ends()
    assert (ends.count_last_day, "AttributeError" in ends.last_reason) == (1, True)
    assert read_counts()[SILENT] == 1
    assert "Traceback" in caplog.text


@pytest.mark.long(seconds=5)
def test_job_whose_process_is_killed_is_counted(
    pull_request: PullRequest, workers: Workers
) -> None:
    """The kernel kills the process when memory is short, and leaves no message in our logs."""
    assert enqueue_fetch(pull_request, queue_name=MERGES)
    worker = workers.start()
    rows = PullRequest.objects.filter(pk=pull_request.pk)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)

    for child in worker.children():
        child.kill()
    wait_until(lambda: read_silent_ends().count_last_day == 1)

    assert "SIGKILL" in read_silent_ends().last_reason


def test_no_silent_end_is_none(redis: Redis) -> None:
    """On most days no job is killed."""
    assert read_silent_ends() == SilentEnds()


@pytest.mark.long(seconds=5)
def test_job_whose_worker_is_gone_is_counted(pull_request: PullRequest, workers: Workers) -> None:
    """If a machine is lost, only the expired lease of its job in Redis shows it."""
    assert enqueue_fetch(pull_request, queue_name=MERGES)
    workers.start()
    rows = PullRequest.objects.filter(pk=pull_request.pk)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)
    workers.kill()
    registry = Queue(MERGES, connection=connect(workers))
    started = registry.started_job_registry
    for entry in started.connection.zrange(started.key, 0, -1):
        started.connection.zadd(started.key, {entry: 1})

    workers.drain()

    assert "worker is gone" in read_silent_ends().last_reason


@pytest.mark.long(seconds=3)
@pytest.mark.parametrize("kind", [FaultKind.STATUS, FaultKind.PRIMARY_LIMIT])
def test_merge_that_is_done_once_more_leaves_the_queue_of_merges(
    pull_request: PullRequest, sandbox: SandboxServer, workers: Workers, redis: Redis, kind: str
) -> None:
    """Hundreds that failed together return together, and would block other teams' merges."""
    sandbox.faults.add(Fault(kind, path="/pulls/7$", status=502))
    redis.flushdb()
    enqueue_fetch(pull_request, queue_name=MERGES)

    workers.drain()

    waiting = {name: Queue(name, connection=redis).scheduled_job_registry.count for name in QUEUES}
    assert waiting == {"pr-data": 0, "pr-data-bulk": 1}


@pytest.mark.long(seconds=3)
def test_merge_that_comes_back_is_not_held_to_the_reserve_of_bulk_work(
    pull_request: PullRequest, redis: Redis, workers: Workers
) -> None:
    """The reserve is kept for merges of the last hour."""
    redis.flushdb()
    PullRequest.objects.filter(pk=pull_request.pk).update(merged_at=timezone.now())
    enqueue_fetch(pull_request, queue_name=MERGES)
    credential = pull_request.team.credentials.get()
    credential.note_rate_limit(RateLimit(5000, 900, timezone.now() + timedelta(minutes=30)))
    merges, bulk = (Queue(name, connection=redis) for name in QUEUES)
    redis.lmove(merges.key, bulk.key)
    redis.hset(Job.key_for(pull_request.sync_job_id), "origin", BULK)

    workers.drain()

    pull_request.refresh_from_db()
    assert pull_request.sync_status == "complete"


@pytest.mark.long(seconds=5)
def test_one_team_whose_merges_hang_holds_no_other(
    pull_request: PullRequest, sandbox: SandboxServer, workers: Workers
) -> None:
    """One worker of the merges queue stays free for the other teams."""
    command = [*MANAGE, "rqworker-pool", MERGES, "--num-workers", "2"]
    workers.started.append(psutil.Popen(command, env=workers.environment))
    wait_until(lambda: Worker.count(queue=Queue(MERGES, connection=connect(workers))) == 2)
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/repos/acme/hanging/", seconds=600))
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    hanging = TrackedRepositoryFactory(full_name="acme/hanging", **token)
    for number in range(1, 11):
        recording = sandbox.world.add(make_recording("acme/hanging", number))
        ids = {"github_repo": "acme/hanging", "github_pr_id": recording.pull["id"]}
        PullRequestFactory(merged=True, team=hanging.team, github_pr_number=number, **ids)
    statuses = PullRequest.objects.filter(team=hanging.team).values_list("sync_status", flat=True)
    wait_until(lambda: "running" in set(statuses.all()))

    PullRequest.objects.filter(pk=pull_request.pk).update(sync_status="pending")
    enqueue_merge(PullRequest.objects.get(pk=pull_request.pk))
    wait_until(lambda: PullRequest.objects.get(pk=pull_request.pk).sync_status == "complete")

    assert sorted(statuses.all()) == ["pending"] * 9 + ["running"]


def connect(workers: Workers) -> Redis:
    return Redis.from_url(workers.environment["REDIS_URL"])


@pytest.mark.long(seconds=4)
@pytest.mark.parametrize(
    ("queues", "waiting", "niceness"),
    [
        pytest.param([MERGES], 0, 0, id="the merge of a team that has one"),
        pytest.param([MERGES], 1, 5, id="one of many of a team"),
        pytest.param([MERGES, BULK], 0, 10, id="whoever does bulk work"),
    ],
)
def test_processors_are_for_merges_of_teams_with_few_first(
    pull_request: PullRequest,
    workers: Workers,
    redis: Redis,
    queues: list[str],
    waiting: int,
    niceness: int,
) -> None:
    """On one machine, 500 running jobs delay another team's merge as much as a full queue."""
    redis.flushdb()
    for _ in range(waiting):
        redis.rpush(f"metrics_sync:turns:{pull_request.team_id}", 0)
    enqueue_fetch(pull_request, queue_name=queues[-1])

    worker = workers.start(*queues)

    rows = PullRequest.objects.filter(pk=pull_request.pk)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)
    assert max(child.nice() for child in worker.children()) - psutil.Process().nice() == niceness
