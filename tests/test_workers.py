"""How workers begin and end: loaded before the first job, and with no job left behind."""

import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from metrics_sync.models import PullRequest
from metrics_sync.models.pull_request import SyncStatus
from metrics_sync.queueing import MERGES, enqueue_fetch
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
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
