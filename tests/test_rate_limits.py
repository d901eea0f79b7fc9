"""Forty pull requests, and a token whose requests are enough for five of them at a time."""

import pytest
from redis import Redis
from rq.job import Job

from metrics_sync.models import PullRequest, RequestLease
from metrics_sync.queueing import MERGES, enqueue_fetch
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token, make_recording
from tests.conftest import Workers, wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
#: A minute would say the same, and last longer.
WINDOW_SECONDS = 3
WORKERS = 3


@pytest.mark.django_db(transaction=True)
def test_used_up_limit_is_waited_for_without_asking_and_without_a_retry(
    sandbox: SandboxServer, workers: Workers, redis: Redis
) -> None:
    """Going on asking gets a token banned, and retries are for what fails."""
    sandbox.world.add_token(
        Token(DEFAULT_TOKEN, limit_per_window=50, window_seconds=WINDOW_SECONDS)
    )
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    for number in range(1, 41):
        recording = sandbox.world.add(make_recording(REPOSITORY, number))
        PullRequestFactory(
            team=repository.team,
            github_repo=REPOSITORY,
            github_pr_id=recording.pull["id"],
            github_pr_number=number,
        )
    PullRequest.objects.update(state="merged", sync_status="pending")
    for row in PullRequest.objects.all():
        enqueue_fetch(row, queue_name=MERGES)

    for _ in range(WORKERS):
        workers.start()
    wait_until(lambda: not PullRequest.objects.exclude(sync_status="complete").exists())

    statuses = [request.status for request in sandbox.requests]
    jobs = Job.fetch_many(
        list(PullRequest.objects.values_list("sync_job_id", flat=True)), connection=redis
    )
    # What is asked for again after a wait has not changed, and costs nothing.
    assert (statuses.count(200), set(statuses) - {304}) == (360, {200})
    assert {job.retries_left for job in jobs if job} == {3}
    assert not RequestLease.objects.exists()
