"""The signals for other apps: when and how often they are sent, and that they break nothing."""

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
    """The calls of two receivers of another app, in order; each raises after it took note."""
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
    """A pull request that our database has as open."""
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


def test_merge_is_announced_after_the_commit(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """A receiver in another process must find the row, and a rollback must not be announced."""
    with transaction.atomic():
        merge(opened)
        before = list(heard)

    assert (before, heard) == ([], [("merged", opened)])


def test_merge_that_is_rolled_back_is_not_announced(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """Another app would send a survey about a merge that nobody stored."""
    with transaction.atomic():
        merge(opened)
        transaction.set_rollback(True)

    assert heard == []


def test_merge_is_announced_once(heard: list[tuple[str, PullRequest]], opened: PullRequest) -> None:
    """GitHub reports a merged pull request again with each edit of its title."""
    merge(opened)

    PullRequest.objects.get().save()

    assert words(heard) == ["merged"]


def test_completion_is_announced_once_with_its_metrics(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """Later refetches for comments and checks are not announced."""
    merge(opened)

    fetch_pr_complete_data(opened.pk)
    fetch_pr_complete_data(opened.pk)

    assert words(heard) == ["merged", "completed"]
    _, told = heard[-1]
    assert (told.sync_status, told.review_rounds, told.commits.count()) == ("complete", 1, 3)


def test_partial_fetch_announces_no_completion(
    heard: list[tuple[str, PullRequest]], opened: PullRequest, sandbox: SandboxServer
) -> None:
    """A receiver of this signal must find all metrics."""
    merge(opened)
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/files", status=502))

    fetch_pr_complete_data(opened.pk)

    assert (words(heard), PullRequest.objects.get().sync_status) == (["merged"], "partial")


def test_merge_that_a_fetch_finds_is_announced(
    heard: list[tuple[str, PullRequest]], opened: PullRequest
) -> None:
    """No webhook reported the merge, and somebody ran `fetch_pr`."""
    fetch_pr_complete_data(opened.pk)

    assert words(heard) == ["merged", "completed"]


@pytest.mark.parametrize("is_known", [True, False])
def test_discovered_merge_is_announced_once(
    heard: list[tuple[str, PullRequest]],
    repository: TrackedRepository,
    recording: Recording,
    request: pytest.FixtureRequest,
    is_known: bool,
) -> None:
    """Its webhook was lost, whether or not we knew the open pull request."""
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
    """An error in another app must stop neither the fetch nor the answer to GitHub."""
    merge(opened)
    fetch_pr_complete_data(opened.pk)

    faults = [record for record in caplog.records if record.name == "django.dispatch"]
    assert len(faults) == len(heard) == 2
    assert all("a fault of another app" in str(record.exc_info) for record in faults)
    assert PullRequest.objects.get().sync_status == "complete"
