"""When a merge is queued: only at the transition, once, and after the commit."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core import serializers
from django.db import transaction
from pytest_django import DjangoCaptureOnCommitCallbacks
from redis import Redis
from rq import Queue

from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.observe import counting
from metrics_sync.observe.tracing import trace
from metrics_sync.work.queueing import BULK, MERGES
from tests.factories import MERGED_AT, PullRequestFactory, TrackedRepositoryFactory


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(full_name="acme/anvil")


@pytest.fixture
def count_queued(
    redis: Redis, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> Callable[[Callable[[], Any]], int]:
    """Commit an action, and count the jobs that it put on the queue of merges."""

    def count(action: Callable[[], Any]) -> int:
        before = Queue(MERGES, connection=redis).count
        with django_capture_on_commit_callbacks(execute=True):
            action()
        assert Queue(BULK, connection=redis).count == 0
        return Queue(MERGES, connection=redis).count - before

    return count


Count = Callable[[Callable[[], Any]], int]


@pytest.mark.parametrize(("delivery_id", "source"), [("guid", "webhook"), ("", "other")])
def test_merge_is_counted_by_its_source(
    repository: TrackedRepository, count_queued: Count, delivery_id: str, source: str
) -> None:
    """This number shows whether webhooks still arrive."""
    counting.take()

    with trace(delivery_id=delivery_id):
        count_queued(lambda: PullRequestFactory(merged=True, team=repository.team))

    assert counting.take() == {("merges", (("source", source),)): 1}


def merge(row: PullRequest) -> None:
    row.state, row.merged_at = "merged", MERGED_AT
    row.save()


def test_row_that_becomes_merged_is_queued(
    repository: TrackedRepository, count_queued: Count
) -> None:
    """The data must be complete within seconds of the merge."""
    row = PullRequestFactory(team=repository.team)

    assert count_queued(lambda: merge(row)) == 1
    assert PullRequest.objects.get().sync_status == "queued"


def test_row_that_is_new_and_merged_is_queued(
    repository: TrackedRepository, count_queued: Count
) -> None:
    """The merge may be the first event of a pull request."""
    queued = count_queued(lambda: PullRequestFactory(merged=True, team=repository.team))

    assert queued == 1


@pytest.mark.parametrize("state", ["open", "closed"])
def test_row_that_is_not_merged_is_not_queued(
    repository: TrackedRepository, count_queued: Count, state: str
) -> None:
    """Open pull requests change many times a day."""
    assert count_queued(lambda: PullRequestFactory(team=repository.team, state=state)) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda row: row.save(), id="same object"),
        pytest.param(lambda row: row.save(update_fields=["title"]), id="one field"),
        pytest.param(lambda row: PullRequest.objects.get().save(), id="read again"),
        pytest.param(lambda row: PullRequest.objects.only("title").get().save(), id="in part"),
        pytest.param(lambda row: (row.refresh_from_db(), row.save()), id="refreshed"),
        pytest.param(
            lambda row: (row.mark_running(job_id="a"), row.mark_failed(job_id="a"), row.save()),
            id="after a fetch",
        ),
    ],
)
def test_later_saves_of_a_merged_row_queue_nothing(
    repository: TrackedRepository, count_queued: Count, change: Callable[[PullRequest], Any]
) -> None:
    """The job saves the row itself; queueing it again would never end."""
    row = PullRequestFactory(team=repository.team)
    count_queued(lambda: merge(row))

    assert count_queued(lambda: change(row)) == 0


def test_merge_counts_when_the_state_is_saved(
    repository: TrackedRepository, count_queued: Count
) -> None:
    """A script may save one field before the other."""
    row = PullRequestFactory(team=repository.team)
    row.state = "merged"

    assert count_queued(lambda: row.save(update_fields=["title"])) == 0
    assert count_queued(lambda: row.save(update_fields=["state"])) == 1


def test_merge_that_is_rolled_back_is_not_queued(
    repository: TrackedRepository, count_queued: Count
) -> None:
    """The worker would not find the row."""
    row = PullRequestFactory(team=repository.team)

    def merge_and_roll_back() -> None:
        with transaction.atomic():
            merge(row)
            transaction.set_rollback(True)

    assert count_queued(merge_and_roll_back) == 0


@pytest.mark.usefixtures("repository")
def test_merge_is_not_queued_before_it_is_committed(
    redis: Redis, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    """A fast worker would find an open pull request, or none."""
    with django_capture_on_commit_callbacks() as callbacks:
        PullRequestFactory(merged=True, team=TrackedRepository.objects.get().team)

    assert (len(callbacks), Queue(MERGES, connection=redis).count) == (1, 0)


def test_rows_loaded_from_a_fixture_are_not_queued(
    repository: TrackedRepository, count_queued: Count
) -> None:
    """Loading a backup must not fetch all its merges."""
    row = PullRequestFactory.build(team=repository.team, state="merged", pk=1)
    backup = serializers.serialize("json", [row])

    def load() -> None:
        for item in serializers.deserialize("json", backup):
            item.save()

    assert count_queued(load) == 0
    assert PullRequest.objects.get().state == "merged"


@pytest.mark.usefixtures("db")
def test_merge_in_a_repository_that_is_not_tracked_becomes_untracked(count_queued: Count) -> None:
    """Reconcile queues it once a team tracks the repository."""
    assert count_queued(lambda: PullRequestFactory(merged=True)) == 0
    assert PullRequest.objects.get().sync_status == "untracked"


@pytest.mark.usefixtures("redis_down")
def test_merge_with_redis_down_is_saved_and_stays_pending(
    repository: TrackedRepository,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """Saving must not fail because of the queue; reconcile finds the row."""
    with django_capture_on_commit_callbacks(execute=True):
        PullRequestFactory(merged=True, team=repository.team)

    assert PullRequest.objects.get().sync_status == "pending"
