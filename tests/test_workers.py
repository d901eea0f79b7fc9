"""How workers begin and end: loaded before the first job, and with no job left behind."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from redis import Redis
from rq import Queue

from metrics_sync import counting
from metrics_sync.models import PullRequest
from metrics_sync.models.pull_request import SyncStatus
from metrics_sync.queueing import (
    MERGES,
    SilentEnds,
    enqueue_fetch,
    read_counts,
    read_silent_ends,
)
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from metrics_sync.workers import FetchWorker
from tests.benchmarks.worker import read_notes
from tests.conftest import MANAGE, PATIENCE_SECONDS, Workers, wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.http2 import serve_http2

REPOSITORY = "acme/anvil"
QUEUES = ["pr-data", "pr-data-bulk"]
WORKER = ["rqworker", *QUEUES, "--with-scheduler"]
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
    """Signal the process that was started, as containers and `KillMode=mixed` do."""
    worker.send_signal(signal.SIGTERM)


def tell_everybody(worker: psutil.Process) -> None:
    """Signal every process, as platforms and `KillMode=control-group` do."""
    for process in [*worker.children(recursive=True), worker]:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tell", [tell_the_first, tell_everybody])
@pytest.mark.parametrize("command", [WORKER, POOL], ids=["worker", "pool"])
def test_job_is_finished_when_its_worker_is_told_to_stop(
    pull_request: PullRequest,
    workers: Workers,
    command: list[str],
    tell: Callable[[psutil.Process], None],
) -> None:
    """Each deployment stops every worker; a row that stays `running` waits for ten minutes."""
    rows = PullRequest.objects.filter(pk=pull_request.pk)
    assert enqueue_fetch(rows.get(), queue_name=MERGES)
    worker = psutil.Popen([*MANAGE, *command], env=workers.environment)
    workers.started.append(worker)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)

    tell(worker)

    assert worker.wait(PATIENCE_SECONDS) == 0
    assert rows.get().sync_status == SyncStatus.COMPLETE


def test_job_finds_everything_loaded_and_shares_no_connection(
    sandbox: SandboxServer, workers: Workers, tmp_path: Path
) -> None:
    """Each fork would load it again; and a killed one would leave its transaction to the next."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    team = TrackedRepositoryFactory(full_name=REPOSITORY, **token).team
    names = {"github_repo": REPOSITORY, "github_pr_id": recording.pull["id"]}
    row = PullRequestFactory(merged=True, team=team, github_pr_number=7, **names)
    with serve_http2(sandbox.url, folder=tmp_path) as front:
        workers.environment |= {
            "BENCH_NOTES": str(tmp_path / "notes"),
            "GITHUB_API_URL": front.url,
            "SSL_CERT_FILE": str(front.certificate),
        }
        workers.drain("--worker-class", "tests.benchmarks.worker.MeasuredWorker")

    row.refresh_from_db()
    assert (row.sync_status, front.versions) == ("complete", {"2"})
    assert read_notes(tmp_path / "notes", "imported") == [[]]
    assert read_notes(tmp_path / "notes", "inherited") == [0]


SILENT: counting.Series = ("jobs_ended_silently", (("queue", MERGES),))


def test_error_before_rq_takes_over_is_logged_and_counted(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an error once ended every job that the clock had queued, with no line in any log."""
    queue = Queue(MERGES, connection=redis)
    job = queue.enqueue("os.getpid")
    job.meta = ["of another version"]

    with pytest.raises(AttributeError):
        FetchWorker([queue], connection=redis).perform_job(job, queue, None)

    ends = read_silent_ends()
    assert (ends.count_last_day, "AttributeError" in ends.last_reason) == (1, True)
    assert read_counts()[SILENT] == 1
    assert "Traceback" in caplog.text


def test_job_whose_process_is_killed_is_counted(
    pull_request: PullRequest, workers: Workers
) -> None:
    """The kernel takes the process when memory is short, and says nothing here."""
    assert enqueue_fetch(pull_request, queue_name=MERGES)
    worker = workers.start()
    rows = PullRequest.objects.filter(pk=pull_request.pk)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)

    for child in worker.children():
        child.kill()
    wait_until(lambda: read_silent_ends().count_last_day == 1)

    assert "SIGKILL" in read_silent_ends().last_reason


def test_no_silent_end_is_none(redis: Redis) -> None:
    """Most days have none."""
    assert read_silent_ends() == SilentEnds()


def test_job_whose_worker_is_gone_is_counted(pull_request: PullRequest, workers: Workers) -> None:
    """Of a machine that is lost, only the lease of its job in Redis tells."""
    assert enqueue_fetch(pull_request, queue_name=MERGES)
    workers.start()
    rows = PullRequest.objects.filter(pk=pull_request.pk)
    wait_until(lambda: rows.get().sync_status == SyncStatus.RUNNING)
    workers.kill()
    registry = Queue(MERGES, connection=Redis.from_url(workers.environment["REDIS_URL"]))
    started = registry.started_job_registry
    for entry in started.connection.zrange(started.key, 0, -1):
        started.connection.zadd(started.key, {entry: 1})

    workers.drain()

    assert "worker is gone" in read_silent_ends().last_reason
