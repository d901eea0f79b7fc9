"""Repositories are verified at GitHub: when it is asked, and what each answer changes."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks
from redis import Redis
from rq import Queue

from metrics_sync import store
from metrics_sync.models import AuditEntry, IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.sandbox import SandboxServer, Token
from metrics_sync.sandbox.world import Repository
from metrics_sync.work.queueing import BULK
from metrics_sync.work.verification import verify_due
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

TOKEN = "ghp_forge"


@pytest.fixture
def held(sandbox: SandboxServer) -> Repository:
    """A repository at the pretend GitHub that the team's token can read."""
    sandbox.world.add_token(Token(TOKEN))
    return sandbox.world.add_repository("acme/anvil", private=True)


@pytest.fixture
def anvil(db: None, held: Repository) -> TrackedRepository:
    return TrackedRepositoryFactory(
        full_name="acme/anvil",
        github_repo_id=held.id,
        integration__credential__access_token=TOKEN,
    )


def hint(*, minutes_ago: int = 0) -> None:
    since = timezone.now() - timedelta(minutes=minutes_ago)
    TrackedRepository.objects.update(doubted_at=since, verify_at=since)


def read() -> TrackedRepository:
    return TrackedRepository.objects.get()


def test_new_name_is_followed_when_github_says_so(
    sandbox: SandboxServer, anvil: TrackedRepository
) -> None:
    """Rows, addresses and pages use the new name."""
    row = PullRequestFactory(team=anvil.team, merged=True)
    sandbox.world.rename_repository("acme/anvil", "anew/hammer")
    hint()

    verify_due()

    row.refresh_from_db()
    assert (read().full_name, row.github_repo, row.repository) == (*["anew/hammer"] * 2, anvil)
    assert "renamed: from acme/anvil to anew/hammer" in AuditEntry.objects.get().change


def test_hint_that_github_does_not_confirm_changes_nothing(anvil: TrackedRepository) -> None:
    """A forged, late or replayed delivery costs two requests."""
    hint(minutes_ago=6)

    verify_due()

    row = read()
    assert (row.full_name, row.is_active, row.doubted_at, row.verify_at) == (
        *("acme/anvil", True),
        *(None, None),
    )


def test_deleted_repository_is_tracked_no_more_when_github_has_said_so_twice(
    sandbox: SandboxServer, anvil: TrackedRepository
) -> None:
    """A repository that moves to another owner may be missing for a moment."""
    sandbox.world.delete_repository("acme/anvil")
    hint(minutes_ago=1)

    verify_due()
    first = read()
    hint(minutes_ago=6)
    verify_due()

    assert first.is_active
    assert first.doubted_at is not None
    assert first.verify_at == first.doubted_at + timedelta(minutes=5)
    assert (read().is_active, read().verify_at) == (False, None)


def test_answer_from_before_the_hint_is_asked_for_again(anvil: TrackedRepository) -> None:
    """Right after a webhook the API may still return the earlier state."""
    hint()

    verify_due()

    row = read()
    assert row.doubted_at is not None
    assert row.verify_at == row.doubted_at + timedelta(minutes=5)


def test_name_that_another_repository_took_leads_to_ours(
    sandbox: SandboxServer, anvil: TrackedRepository
) -> None:
    """A request by its id shows what became of our repository."""
    sandbox.world.rename_repository("acme/anvil", "acme/anvil-old")
    sandbox.world.add_repository("acme/anvil", repository_id=99)
    hint()

    verify_due()

    assert (read().full_name, read().github_repo_id) == ("acme/anvil-old", anvil.github_repo_id)


def test_two_repositories_may_change_names(
    sandbox: SandboxServer, anvil: TrackedRepository
) -> None:
    """For a moment both have one name, and neither must take the other's pull requests."""
    other = sandbox.world.add_repository("acme/hammer")
    hammer = TrackedRepositoryFactory(
        team=anvil.team,
        integration=anvil.integration,
        full_name="acme/hammer",
        github_repo_id=other.id,
    )
    rows = [
        PullRequestFactory(team=anvil.team, github_repo=name, github_pr_number=7)
        for name in ("acme/anvil", "acme/hammer")
    ]
    for old, new in (("anvil", "x"), ("hammer", "anvil"), ("x", "hammer")):
        sandbox.world.rename_repository(f"acme/{old}", f"acme/{new}")
    hint()

    verify_due()

    names = {row.pk: row.full_name for row in TrackedRepository.objects.active()}
    assert names == {anvil.pk: "acme/hammer", hammer.pk: "acme/anvil"}
    owners = [PullRequest.objects.get(pk=row.pk).repository for row in rows]
    assert owners == [anvil, hammer]


def test_id_is_learned_from_github(held: Repository, anvil: TrackedRepository) -> None:
    """Once the id is known, the shared webhook may report the repository to the team."""
    TrackedRepository.objects.update(github_repo_id=None, verified_at=None)
    hint(minutes_ago=6)

    verify_due()

    assert (read().github_repo_id, read().verified_at is not None) == (held.id, True)


def test_refused_token_leaves_all_as_it_is_and_waits(
    sandbox: SandboxServer, anvil: TrackedRepository
) -> None:
    """An expired token is no evidence about the repository."""
    sandbox.world.revoke_token(TOKEN)
    hint(minutes_ago=6)

    result = verify_due()

    row = read()
    assert (row.is_active, len(result["errors"]), row.doubted_at is not None) == (True, 1, True)
    assert row.verify_at is not None
    assert row.verify_at > timezone.now()


@pytest.mark.usefixtures("anvil")
def test_nothing_is_asked_without_a_hint(sandbox: SandboxServer) -> None:
    """The clock runs every minute, and must not cost requests each time."""
    assert verify_due() == {"asked": 0, "errors": []}
    assert sandbox.requests == []


def test_pull_request_without_a_key_gets_it(anvil: TrackedRepository) -> None:
    """A script's bulk statement does not call `save`, which fills the key."""
    row = PullRequestFactory(team=anvil.team)
    PullRequest.objects.update(repository=None)

    verify_due()

    row.refresh_from_db()
    assert row.repository == anvil


def test_hint_is_asked_about_at_once(
    redis: Redis,
    anvil: TrackedRepository,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """The request is sent by a job on the bulk queue, not by the webhook's view."""
    with django_capture_on_commit_callbacks(execute=True):
        store.doubt(anvil, reason="a delivery calls it acme/hammer", actor="a test")

    [job] = Queue(BULK, connection=redis).jobs
    assert job.func_name == "metrics_sync.work.verification.verify_due"


@pytest.mark.usefixtures("redis_down")
def test_hint_waits_for_the_clock_while_redis_is_down(
    anvil: TrackedRepository,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """The delivery must be answered nevertheless."""
    with django_capture_on_commit_callbacks(execute=True):
        store.doubt(anvil, reason="a delivery calls it acme/hammer", actor="a test")

    assert verify_due()["asked"] == 1


@pytest.fixture
def of_app(app: SandboxServer, db: None) -> TrackedRepository:
    """A public repository of an account that the GitHub App is installed on."""
    held = app.world.add_repository("acme/anvil")
    installation = app.world.add_installation(5, "acme", repositories=["acme/anvil"])
    return TrackedRepositoryFactory(
        full_name="acme/anvil",
        github_repo_id=held.id,
        integration__credential__kind="app",
        integration__credential__installation_id=5,
        integration__credential__account_id=installation.account_id,
    )


@pytest.mark.parametrize(
    ("change", "is_active"),
    [
        pytest.param({}, True, id="given as before"),
        pytest.param({"repositories": []}, False, id="taken away"),
        pytest.param({"is_removed": True}, False, id="App removed"),
        pytest.param({"is_suspended": True}, True, id="App suspended"),
    ],
)
def test_app_is_asked_for_what_it_is_given(
    app: SandboxServer, of_app: TrackedRepository, change: dict[str, Any], is_active: bool
) -> None:
    """Everybody can read a public repository, even an App that has lost access to it."""
    if "repositories" in change:
        app.world.add_repository("acme/other")
        app.world.add_installation(5, "acme", repositories=["acme/other"])
    if "is_removed" in change:
        app.world.remove_installation(5)
    if "is_suspended" in change:
        app.world.suspend_installation(5)
        IntegrationCredential.objects.update(revoked_at=timezone.now())
    hint(minutes_ago=6)

    verify_due()

    assert read().is_active is is_active
