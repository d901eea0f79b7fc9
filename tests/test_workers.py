"""What a worker does before its first job."""

from pathlib import Path

from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, make_recording
from tests.benchmarks.worker import read_notes
from tests.conftest import Workers
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.http2 import serve_http2

REPOSITORY = "acme/anvil"


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
