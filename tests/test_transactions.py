"""Concurrent transactions: no change is lost, and those of one kind never deadlock."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier, Event
from typing import Any
from unittest.mock import Mock

import psycopg
import pytest
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.jobs.running import _begin
from metrics_sync.models import (
    FetchRun,
    PullRequest,
    TeamMember,
    TrackedRepository,
    WebhookDelivery,
)
from metrics_sync.sandbox import make_recording
from metrics_sync.sandbox.payloads import build_pull_request_review_event
from metrics_sync.store.transactions import run_transaction
from tests.conftest import PATIENCE_SECONDS, wait_until
from tests.factories import (
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time"),
]

REPOSITORY = "acme/anvil"
PAIRS = 40


def run_at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a thread and a connection of its own."""

    def run(work: Callable[[], Any]) -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def make_delivery(number: int, *, author: int, reviewer: int) -> Delivery:
    """Build a review by a new account, of a pull request by another new account."""
    recording = make_recording(REPOSITORY, number)
    recording.pull["user"] |= {"id": author, "login": f"person-{author}"}
    review = recording.reviews[0]
    review["user"] = review["user"] | {"id": reviewer, "login": f"person-{reviewer}"}
    payload = build_pull_request_review_event(recording, review)
    text = json.dumps(payload)
    return Delivery(f"guid-{number}", "pull_request_review", "submitted", REPOSITORY, payload, text)


@pytest.fixture
def repository() -> TrackedRepository:
    return TrackedRepositoryFactory(full_name=REPOSITORY)


def record_pair(number: int) -> None:
    """Record at once two reviews in which two new people review each other."""
    first, second, barrier = 1000 + 2 * number, 1001 + 2 * number, Barrier(2)

    def record(delivery: Delivery) -> None:
        barrier.wait(timeout=PATIENCE_SECONDS)
        record_delivery(delivery, integration=None)

    run_at_once(
        lambda: record(make_delivery(first, author=first, reviewer=second)),
        lambda: record(make_delivery(second, author=second, reviewer=first)),
    )


@pytest.mark.usefixtures("repository")
def test_reviews_in_opposite_roles_do_not_wait_for_each_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Four of ten such deliveries were once answered 503, and GitHub does not repeat them."""
    for number in range(PAIRS):
        record_pair(number)

    assert WebhookDelivery.objects.filter(status="processed").count() == 2 * PAIRS
    assert TeamMember.objects.count() == 2 * PAIRS
    assert "again" not in caplog.text


def make_circle() -> tuple[list[Callable[[], None]], list[int]]:
    """Build two transactions that lock the same two rows in opposite order, at their first try."""
    pks = [TeamFactory().people.create(github_id=n, login=f"{n}").pk for n in (1, 2)]
    barrier, tries = Barrier(2), list[int]()

    def lock(order: list[int]) -> None:
        tries.append(1)
        is_first = len(tries) <= 2
        for pk in order:
            TeamMember.objects.filter(pk=pk).update(name=f"{order}")
            if is_first and pk == order[0]:
                barrier.wait(timeout=PATIENCE_SECONDS)

    return [lambda: lock(pks), lambda: lock(pks[::-1])], tries


def test_transaction_that_a_deadlock_ended_is_run_again() -> None:
    """PostgreSQL ends one of the two, whose work would be lost."""
    works, tries = make_circle()

    run_at_once(*(lambda work=work: run_transaction(work) for work in works))

    assert len(tries) > 2


def test_rename_that_removes_a_row_waits_for_the_begin_of_its_fetch(
    repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both lock the pull request and its fetch runs; in opposite orders, one of them would fail."""
    same = {"team": repository.team, "github_pr_id": 7}
    old = PullRequestFactory(**same, repository=repository, github_repo=REPOSITORY)
    PullRequestFactory(**same, repository=repository, github_repo="acme/hammer")
    old.fetch_runs.create(team=old.team)
    has_begun, start = Event(), FetchRun.start

    def start_late(*arguments: Any, **options: Any) -> FetchRun:
        has_begun.set()
        wait_until(is_awaited)
        return start(*arguments, **options)

    def rename() -> None:
        has_begun.wait(PATIENCE_SECONDS)
        repository.rename("acme/hammer")

    monkeypatch.setattr(FetchRun, "start", start_late)
    [begun, _] = run_at_once(
        lambda: run_transaction(partial(_begin, old, job_id="job-1")),
        rename,
    )

    assert begun is not None
    assert not PullRequest.objects.filter(pk=old.pk).exists()


def test_run_that_begins_again_after_a_deadlock_is_one_attempt(
    repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the first try nothing may be left, on the object neither."""
    row = PullRequestFactory(merged=True, team=repository.team, github_repo=REPOSITORY)
    deadlock = OperationalError("deadlock detected")
    deadlock.__cause__ = psycopg.errors.DeadlockDetected()
    fetch_run = FetchRun.start(row, job_id="job-1")
    monkeypatch.setattr(FetchRun, "start", Mock(side_effect=[deadlock, fetch_run]))

    begun = run_transaction(partial(_begin, row, job_id="job-1"))

    assert begun is not None
    row.refresh_from_db()
    assert (row.sync_status, row.sync_attempts) == ("running", 1)


def is_awaited() -> bool:
    """Whether another connection waits for a lock of this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(cursor.fetchone()[0])


def test_other_faults_of_the_database_are_raised_at_once() -> None:
    """The database would refuse the same statement again."""
    tries = []

    def fail() -> None:
        tries.append(1)
        raise OperationalError("the database is shutting down")

    with pytest.raises(OperationalError):
        run_transaction(fail)

    assert len(tries) == 1


def test_release_leaves_rows_that_another_transaction_changes(
    repository: TrackedRepository,
) -> None:
    """Waiting for it could end in a deadlock."""
    held = {"fault_may_pass": True, "retry_at": timezone.now() + timedelta(hours=1)}
    row = PullRequestFactory(merged=True, team=repository.team, github_repo=REPOSITORY, **held)

    with transaction.atomic():
        row.save()
        assert run_at_once(lambda: PullRequest.objects.release_passing(row)) == [0]
