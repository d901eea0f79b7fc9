"""The signals for other apps: when they are sent, how often, and that they break nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from redis import Redis

from metrics_sync import store
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    Recording,
    SandboxServer,
    make_recording,
)
from metrics_sync.signals import pull_request_completed, pull_request_merged
from metrics_sync.snapshot import read_pull_request
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
SIGNALS = {"merged": pull_request_merged, "completed": pull_request_completed}

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def heard() -> Iterator[list[tuple[str, PullRequest]]]:
    """What two receivers of another app are told, in order; each raises after it took note."""
    told: list[tuple[str, PullRequest]] = []

    def listen(word: str) -> Callable[..., None]:
        def receive(*, pull_request: PullRequest, team: Any, **options: Any) -> None:
            assert team == pull_request.team
            told.append((word, pull_request))
            raise ZeroDivisionError("a fault of another app")

        return receive

    receivers = {word: listen(word) for word in SIGNALS}
    for word, signal in SIGNALS.items():
        signal.connect(receivers[word], sender=PullRequest)
    yield told
    for word, signal in SIGNALS.items():
        signal.disconnect(receivers[word], sender=PullRequest)


@pytest.fixture
def repository(sandbox: SandboxServer, transactional_db: None) -> TrackedRepository:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


@pytest.fixture
def recording(sandbox: SandboxServer) -> Recording:
    return sandbox.world.add(make_recording(REPOSITORY, 7))


@pytest.fixture
def opened(repository: TrackedRepository, recording: Recording) -> PullRequest:
    """A pull request that is open, as far as is known here."""
    return PullRequestFactory(
        team=repository.team,
        github_repo=REPOSITORY,
        github_pr_id=recording.pull["id"],
        github_pr_number=7,
    )


def merge(row: PullRequest) -> None:
    row.state, row.merged_at = PullRequest.State.MERGED, timezone.now()
    row.save()


def words(heard: list[tuple[str, PullRequest]]) -> list[str]:
    return [word for word, _ in heard]


def test_merge_is_told_after_the_commit(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """A receiver in another process must find the row, and a rollback must not be told."""
    with transaction.atomic():
        merge(opened)
        before = list(heard)

    assert (before, heard) == ([], [("merged", opened)])


def test_merge_that_is_rolled_back_is_not_told(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """A survey for what never happened."""
    with transaction.atomic():
        merge(opened)
        transaction.set_rollback(True)

    assert heard == []


def test_merge_is_told_once(heard: list[tuple[str, PullRequest]], opened: PullRequest) -> None:
    """GitHub tells of a merged pull request again, with each edit of its title."""
    merge(opened)

    PullRequest.objects.get().save()

    assert words(heard) == ["merged"]


def test_completion_is_told_once_with_its_numbers(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """Later looks at comments and checks are no news of this kind."""
    merge(opened)

    fetch_pr_complete_data(opened.pk)
    fetch_pr_complete_data(opened.pk)

    assert words(heard) == ["merged", "completed"]
    _, told = heard[-1]
    assert (told.sync_status, told.review_rounds, told.commits.count()) == ("complete", 1, 3)


def test_fetch_that_brings_part_of_it_completes_nothing(
    heard: list[tuple[str, PullRequest]], opened: PullRequest, sandbox: SandboxServer
) -> None:
    """Who reads the metrics on this signal must find them all."""
    merge(opened)
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/files", status=502))

    fetch_pr_complete_data(opened.pk)

    assert (words(heard), PullRequest.objects.get().sync_status) == (["merged"], "partial")


def test_merge_that_a_fetch_finds_is_told(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """No webhook told, and `fetch_pr` was run by hand."""
    fetch_pr_complete_data(opened.pk)

    assert words(heard) == ["merged", "completed"]


@pytest.mark.parametrize("is_known", [True, False])
def test_merge_that_is_discovered_is_told_once(
    heard: list[tuple[str, PullRequest]],
    repository: TrackedRepository,
    recording: Recording,
    request: pytest.FixtureRequest,
    is_known: bool,
) -> None:
    """Its webhook was lost, whether or not we knew that it was open."""
    if is_known:
        request.getfixturevalue("opened")
    item = read_pull_request(recording.pull, github_repo=REPOSITORY)

    store.save_missed_merges(repository.team, [item])
    store.save_missed_merges(repository.team, [item])

    assert heard == [("merged", PullRequest.objects.get())]


def test_receiver_that_raises_is_logged_and_breaks_nothing(
    heard: list[tuple[str, PullRequest]],
    opened: PullRequest,
    redis: Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A fault of another app must cost neither the fetch nor the answer to GitHub."""
    merge(opened)
    fetch_pr_complete_data(opened.pk)

    faults = [record for record in caplog.records if record.name == "django.dispatch"]
    assert len(faults) == len(heard) == 2
    assert all("a fault of another app" in str(record.exc_info) for record in faults)
    assert PullRequest.objects.get().sync_status == "complete"
