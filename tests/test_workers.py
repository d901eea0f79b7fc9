"""What a worker does before its first job."""

from pathlib import Path

import pytest

from metrics_sync.models import PullRequest
from metrics_sync.queueing import MERGES, enqueue_fetch
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, make_recording
from tests.benchmarks.worker import read_notes
from tests.conftest import Workers
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.http2 import serve_http2

REPOSITORY = "acme/anvil"


@pytest.fixture
def row(transactional_db: None) -> PullRequest:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    return PullRequestFactory(
        merged=True, github_repo=REPOSITORY, github_pr_number=7, team=repository.team
    )


def test_job_finds_everything_loaded(
    row: PullRequest, sandbox: SandboxServer, workers: Workers, tmp_path: Path
) -> None:
    """What a job has to load first, it loads again in each fork."""
    sandbox.world.add(make_recording(REPOSITORY, 7))
    enqueue_fetch(row, queue_name=MERGES)
    workers.command += ["--worker-class", "tests.benchmarks.worker.MeasuredWorker"]
    with serve_http2(sandbox.url, folder=tmp_path) as front:
        workers.environment |= {
            "BENCH_NOTES": str(tmp_path / "notes"),
            "GITHUB_API_URL": front.url,
            "SSL_CERT_FILE": str(front.certificate),
        }
        workers.drain()

    row.refresh_from_db()
    assert (row.sync_status, front.versions) == ("complete", {"2"})
    assert read_notes(tmp_path / "notes", "imported") == [[]]
