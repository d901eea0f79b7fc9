"""Rows that waited for a token continue when GitHub accepts it, or when there is another."""

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings
from redis import Redis
from rq import Queue, SimpleWorker

from metrics_sync.access.tokens import find_token
from metrics_sync.exceptions import CredentialRejectedError
from metrics_sync.heal.reconcile import requeue_due
from metrics_sync.heal.releasing import release_parked, release_refused
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    make_recording,
)
from metrics_sync.work.queueing import MERGES, enqueue_fetch
from tests.factories import PullRequestFactory, TrackedRepositoryFactory, move_to_github

REPOSITORY = "acme/anvil"


def track(full_name: str = REPOSITORY, *, token: str = DEFAULT_TOKEN) -> TrackedRepository:
    row: TrackedRepository = TrackedRepositoryFactory(
        full_name=full_name, integration__credential__access_token=token
    )
    return row


@pytest.fixture
def repository(sandbox: SandboxServer, db: None) -> TrackedRepository:
    return track()


def add_merge(sandbox: SandboxServer, repository: TrackedRepository) -> PullRequest:
    recording = sandbox.world.add(make_recording(repository.full_name, 7))
    row: PullRequest = PullRequestFactory(
        merged=True,
        team=repository.team,
        github_repo=repository.full_name,
        github_pr_id=recording.pull["id"],
        github_pr_number=7,
    )
    return row


def refuse(repository: TrackedRepository) -> IntegrationCredential:
    credential = repository.integration.credential
    credential.mark_revoked()
    return credential


def is_refused(credential: IntegrationCredential) -> bool:
    return type(credential).objects.filter(pk=credential.pk, revoked_at__isnull=False).exists()


def test_refused_token_that_is_accepted_again_releases_what_waited(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """An outage of GitHub must not need an operator."""
    pull_request = add_merge(sandbox, repository)
    sandbox.world.revoke_token(DEFAULT_TOKEN)
    fetch_pr_complete_data(pull_request.pk)
    assert is_refused(repository.integration.credential)
    sandbox.world.add_token(Token(DEFAULT_TOKEN))

    result = release_refused()
    requeue_due()

    pull_request.refresh_from_db()
    assert (result, pull_request.sync_status) == ({"accepted": 1, "errors": []}, "queued")


def test_token_that_is_still_refused_stays_so(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """One request an hour is enough, and no row is fetched in vain."""
    credential = refuse(repository)
    sandbox.world.revoke_token(DEFAULT_TOKEN)

    assert release_refused() == {"accepted": 0, "errors": []}
    assert is_refused(credential)
    assert [request.path for request in sandbox.requests] == ["/rate_limit"]


@pytest.mark.parametrize("is_resumed", [True, False], ids=["resumed", "still suspended"])
def test_resumed_installation_is_noticed_without_its_webhook(
    app: SandboxServer, repository: TrackedRepository, is_resumed: bool
) -> None:
    """The delivery may be lost, and once nothing else asked GitHub again."""
    app.world.add_repository(REPOSITORY, private=True)
    credential = repository.integration.credential
    credential.link_installation(5, account_id=app.world.add_installation(5, "acme").account_id)
    app.world.suspend_installation(5)
    with pytest.raises(CredentialRejectedError):
        find_token(credential, api_url=app.url)
    if is_resumed:
        app.world.suspend_installation(5, suspended=False)

    release_refused()

    credential.refresh_from_db()
    assert (credential.revoked_at is None) == is_resumed
    assert credential.access_token.startswith("ghs_") == is_resumed


def test_github_that_is_down_is_asked_once_and_nothing_is_believed(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """Asking for a hundred credentials would take the clock's hour."""
    credentials = [refuse(repository), refuse(track("acme/hammer"))]
    sandbox.faults.add(Fault(FaultKind.STATUS, status=502))

    result = release_refused()

    assert (result["accepted"], len(result["errors"]), len(sandbox.requests)) == (0, 1, 1)
    assert all(map(is_refused, credentials))


def test_credential_without_a_token_stays_refused(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """GitHub answers requests without a token, but only for public data."""
    credential = repository.integration.credential
    credential.store_token("")
    credential.mark_revoked()

    assert (release_refused()["accepted"], sandbox.requests) == (0, [])


def test_token_that_no_key_decrypts_stops_no_other(
    sandbox: SandboxServer, repository: TrackedRepository, settings: Settings
) -> None:
    """Other secrets may still be readable."""
    settings.DEBUG = True
    lost = refuse(repository)
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = ["A" * 43 + "="]
    other = track("acme/hammer")
    move_to_github(other.integration, f"{sandbox.url}/api/v3")
    refuse(other)

    assert release_refused()["accepted"] == 1
    assert is_refused(lost)


def test_token_that_nothing_is_read_with_is_not_asked_about(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """GitHub takes many requests with refused tokens for an attack."""
    refuse(repository)
    repository.deactivate()

    release_refused()

    assert sandbox.requests == []


def park(repository: TrackedRepository, sandbox: SandboxServer, redis: Redis) -> str:
    """Let a merge's job wait for the token's rate limit; return the job's id."""
    credential = repository.integration.credential
    credential.note_pause(until=timezone.now() + timedelta(minutes=50), is_secondary=False)
    pull_request = add_merge(sandbox, repository)
    assert enqueue_fetch(pull_request, queue_name=MERGES)
    SimpleWorker([Queue(MERGES, connection=redis)], connection=redis).work(burst=True)
    pull_request.refresh_from_db()
    assert "rate limit" in pull_request.sync_error
    return str(pull_request.sync_job_id)


def list_due(redis: Redis) -> set[str]:
    now = timezone.now().timestamp()
    return {job_id.decode() for job_id in redis.zrangebyscore(f"rq:scheduled:{MERGES}", 0, now)}


def test_new_token_brings_forward_what_waits_for_the_limit_of_the_old_one(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """The old token's hour does not matter any more; rows of other tokens go on waiting."""
    mine = park(repository, sandbox, redis)
    park(track("acme/hammer"), sandbox, redis)
    same_team = {"team": repository.team, "integration__organization_slug": "forge"}
    park(TrackedRepositoryFactory(full_name="forge/tongs", **same_team), sandbox, redis)
    assert list_due(redis) == set()

    release_parked(repository.integration.credential)

    assert list_due(redis) == {mine}


def test_new_token_makes_due_what_failed_with_the_old_one(repository: TrackedRepository) -> None:
    """The new token may have the missing permission or requests."""
    later = timezone.now() + timedelta(days=1)
    for each in (repository, track("acme/hammer")):
        PullRequestFactory(
            merged=True,
            team=each.team,
            github_repo=each.full_name,
            sync_status="failed",
            retry_at=later,
        )

    release_parked(repository.integration.credential)

    due = PullRequest.objects.filter(retry_at__lt=later)
    assert [row.github_repo for row in due] == [REPOSITORY]


def test_redis_that_is_down_costs_no_new_token(
    repository: TrackedRepository, redis_down: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is stored by then, and the jobs check again within an hour."""
    PullRequestFactory(team=repository.team, github_repo=REPOSITORY, state="merged")
    PullRequest.objects.update(sync_status="queued", sync_job_id="a job")

    release_parked(repository.integration.credential)

    assert "run at their scheduled time" in caplog.text
