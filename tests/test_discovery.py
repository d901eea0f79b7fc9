"""Merges whose deliveries were lost, found by asking GitHub."""

from datetime import timedelta

import pytest
from django.utils import timezone

from metrics_sync.discovery import discover
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
LONG_AGO = timezone.now() - timedelta(days=3650)


@pytest.fixture
def repository(sandbox: SandboxServer, db: None) -> TrackedRepository:
    sandbox.world.add(make_recording(REPOSITORY, 7))
    sandbox.world.add(make_recording(REPOSITORY, 8, merged=False))
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


def look(repository: TrackedRepository, *, dry_run: bool = False) -> tuple[int, str]:
    [(_, found, error)] = discover([repository], since=LONG_AGO, dry_run=dry_run)
    return found, error


def test_merge_that_no_webhook_told_becomes_pending(repository: TrackedRepository) -> None:
    """A lost delivery is not told by anybody else."""
    assert look(repository) == (1, "")

    row = PullRequest.objects.get()
    assert (row.github_pr_number, row.state, row.sync_status) == (7, "merged", "pending")


def test_row_that_is_open_here_and_merged_there_becomes_pending(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """The opening was told and the merge was lost."""
    pull = sandbox.world.recording(REPOSITORY, 7).pull
    PullRequestFactory(team=repository.team, github_repo=REPOSITORY, github_pr_id=pull["id"])

    assert look(repository) == (1, "")
    assert PullRequest.objects.get().sync_status == "pending"


def test_second_look_finds_nothing_new(repository: TrackedRepository) -> None:
    """It runs again and again."""
    assert [look(repository)[0] for _ in range(2)] == [1, 0]


def test_dry_run_counts_and_writes_nothing(repository: TrackedRepository) -> None:
    """Looking must not change what is looked at."""
    assert look(repository, dry_run=True) == (1, "")

    repository.refresh_from_db()
    assert (PullRequest.objects.count(), repository.discovered_until) == (0, None)


def test_bookmark_moves_only_when_the_look_reached_its_end(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """A look that broke off must be made again from the same place."""
    fault = sandbox.faults.add(Fault(FaultKind.STATUS, path="/pulls$", status=502))
    _, error = look(repository)
    repository.refresh_from_db()
    bookmark_after_error = repository.discovered_until
    fault.times = 0

    look(repository)

    repository.refresh_from_db()
    assert ("502" in error, bookmark_after_error) == (True, None)
    assert repository.discovered_until is not None


def test_later_looks_begin_an_hour_before_the_last_one(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """Changes that GitHub's list showed late are found by the overlap."""
    merged_at = timezone.now() - timedelta(minutes=70)
    with sandbox.world.editing(REPOSITORY, 7) as recording:
        recording.pull["updated_at"] = f"{merged_at:%Y-%m-%dT%H:%M:%SZ}"
    found = []
    for minutes in (5, 15):
        repository.discovered_until = timezone.now() - timedelta(minutes=minutes)
        found += [count for _, count, _ in discover([repository], since=None, dry_run=False)]

    assert found == [0, 1]
