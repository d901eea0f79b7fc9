"""Rate limits that are reached, waited for and over, with real workers."""

import io

import pytest
from django.core.management import call_command
from redis import Redis
from rq.job import Job

from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token, make_recording
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from tests.conftest import Workers, wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
#: A minute would say the same, and last longer.
WINDOW_SECONDS = 3
WORKERS = 3


def queue_merges(sandbox: SandboxServer, count: int) -> TrackedRepository:
    """Put merges into GitHub, their rows into our database, and their jobs into Redis."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository: TrackedRepository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    for number in range(1, count + 1):
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
    return repository


@pytest.mark.long(seconds=45)
@pytest.mark.django_db(transaction=True)
def test_used_up_limit_is_waited_for_without_asking_and_without_a_retry(
    sandbox: SandboxServer, workers: Workers, redis: Redis
) -> None:
    """Further requests get a token banned, and retries are for failures."""
    sandbox.world.add_token(
        Token(DEFAULT_TOKEN, limit_per_window=50, window_seconds=WINDOW_SECONDS)
    )
    queue_merges(sandbox, 40)

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
    assert IntegrationCredential.objects.get().count_set_aside() == 0


@pytest.mark.long(seconds=6)
@pytest.mark.django_db(transaction=True)
def test_new_token_ends_the_wait_for_the_limit_of_the_old_one(
    sandbox: SandboxServer, workers: Workers, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who stores a new token must not wait for the hour to end."""
    # Enough for one of the three, and not for two.
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=14, window_seconds=3000))
    sandbox.world.add_token(Token("ghp_of_another_user"))
    repository = queue_merges(sandbox, 3)
    workers.start()
    complete = PullRequest.objects.filter(sync_status="complete")
    keys = [f"rq:scheduled:{name}" for name in (MERGES, BULK)]
    wait_until(lambda: sum(map(redis.zcard, keys)) == 2 and complete.count() == 1)

    monkeypatch.setattr("sys.stdin", io.StringIO("ghp_of_another_user\n"))
    call_command("connect", REPOSITORY, "--team", repository.team.slug, "--token-stdin")

    wait_until(lambda: complete.count() == 3)
