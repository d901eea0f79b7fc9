"""Fetches a pull request of the pretend GitHub, as the job on the queues does."""

from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import PullRequest
from metrics_sync.sandbox import DEFAULT_TOKEN, Recording, SandboxServer
from tests.factories import PullRequestFactory, TrackedRepositoryFactory


def fetch_recording(sandbox: SandboxServer, recording: Recording) -> PullRequest:
    """Let GitHub have a merged pull request, track its repository, and return the fetched row."""
    sandbox.world.add(recording)
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=recording.repo, **token)
    row: PullRequest = PullRequestFactory(
        merged=True,
        team=repository.team,
        github_repo=recording.repo,
        github_pr_id=recording.pull["id"],
        github_pr_number=recording.number,
    )
    fetch_pr_complete_data(row.pk)
    row.refresh_from_db()
    return row
