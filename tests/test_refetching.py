"""Complete pull requests of GitHub Apps are fetched again in bulk."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings
from redis import Redis, RedisError
from rq import Queue

from metrics_sync.access.tokens import replace_token
from metrics_sync.heal.reconcile import requeue_due
from metrics_sync.heal.refetching import refetch_in_bulk
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import FetchRun, PullRequest, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer
from metrics_sync.work.queueing import BULK
from tests.conftest import Workers
from tests.factories import TrackedRepositoryFactory
from tests.test_backfill import (
    REPOSITORY,
    fill,
    list_statuses,
    rename_file,
    run,
    track_of_app,
)
from tests.test_flow import read_rows, read_truth
from tests.test_kills import kill_in, let_time_pass


@pytest.fixture
def repository(app: SandboxServer, redis: Redis, db: None) -> TrackedRepository:
    """A repository of an App, with two complete pull requests that are due to be fetched again."""
    repository = track_of_app(app)
    run(repository)
    make_due()
    return repository


def make_due() -> None:
    """Let a day pass, in which the token that the App fetched them with expires."""
    PullRequest.objects.update(refetch_at=timezone.now())
    for credential in {row.integration.credential for row in TrackedRepository.objects.all()}:
        if credential.kind == credential.Kind.APP:
            credential.refresh_from_db()
            replace_token(credential, api_url=credential.integrations.get().get_api_root())


def list_jobs(redis: Redis) -> list[tuple[str, Any]]:
    return [
        (job.func_name.rpartition(".")[2], job.args) for job in Queue(BULK, connection=redis).jobs
    ]


def refetch(redis: Redis) -> dict[str, Any]:
    """Run the one job that is queued."""
    [job] = Queue(BULK, connection=redis).jobs
    return refetch_in_bulk(*job.args)


def list_new(sandbox: SandboxServer, before: int) -> list[str]:
    """List the paths of the requests after the first `before`."""
    return [request.path for request in sandbox.requests[before:]]


def is_true(sandbox: SandboxServer) -> bool:
    """Whether every row is complete and equals GitHub's data."""
    return all(
        row.sync_status == "complete"
        and {entry["result"] for entry in row.receipt.values()} == {"verified"}
        and read_rows(row) == read_truth(sandbox.world.recording(REPOSITORY, row.github_pr_number))
        for row in PullRequest.objects.all()
    )


def test_what_is_due_is_fetched_with_one_query(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """By REST each would cost as much as a first fetch: the new token cannot use the ETags."""
    fill(app, 1, 2, issue_comments=4)
    before = len(app.requests)

    requeue_due()
    statuses = list_statuses()
    result = refetch(redis)

    assert (statuses, result) == (["queued"] * 2, {"fetched": 2, "queued": 0, "errors": []})
    assert list_new(app, before) == ["/graphql"]
    assert is_true(app)
    assert PullRequest.objects.filter(refetch_at=None).count() == 2
    assert FetchRun.objects.filter(status="complete").count() == 4


def test_list_that_only_rest_has_is_fetched_anew(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """A proof of a day ago does not hold today."""
    rename_file(app, 1)
    with app.world.editing(REPOSITORY, 1) as recording:
        recording.files[0]["filename"] = "moved.py"
    before = len(app.requests)

    requeue_due()
    refetch(redis)

    assert list_new(app, before) == ["/graphql", f"/repos/{REPOSITORY}/pulls/1/files"]
    assert is_true(app)


def test_rows_of_a_personal_token_keep_their_etags(
    sandbox: SandboxServer, redis: Redis, db: None
) -> None:
    """What has not changed costs such a token nothing."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    fill(sandbox, 1)
    run(repository)
    make_due()

    requeue_due()

    assert list_jobs(redis) == [("fetch_pr_complete_data", (PullRequest.objects.get().pk,))]


def test_merge_of_just_now_is_left_to_rest(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """A replica of GitHub may not have it yet, and only REST's fetch looks for that."""
    PullRequest.objects.update(merged_at=timezone.now() - timedelta(minutes=4))

    requeue_due()

    assert {name for name, _ in list_jobs(redis)} == {"fetch_pr_complete_data"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": FaultKind.EMPTY_LISTS}, id="counts do not agree"),
        pytest.param({"kind": FaultKind.STATUS, "status": 502}, id="breaks down"),
        pytest.param({"kind": FaultKind.SECONDARY_LIMIT, "retry_after": 60}, id="limits"),
    ],
)
def test_what_bulk_does_not_bring_gets_jobs_of_its_own(
    app: SandboxServer, repository: TrackedRepository, redis: Redis, fault: dict[str, Any]
) -> None:
    """The pull request keeps its stored lists until REST has fetched it."""
    app.faults.add(Fault(path="/graphql", **fault))

    requeue_due()
    result = refetch(redis)

    assert (result["fetched"], list_statuses()) == (0, ["queued"] * 2)
    names = [name for name, _ in list_jobs(redis)]
    assert names == ["refetch_in_bulk", *["fetch_pr_complete_data"] * 2]
    assert all(row.commits.exists() for row in PullRequest.objects.all())


def test_answer_that_is_older_than_a_delivery_is_not_taken(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """GraphQL's totals agree with its lists on a replica that is behind, too."""
    row = PullRequest.objects.get(github_pr_number=1)
    PullRequest.objects.filter(pk=row.pk).update(pr_updated_at=timezone.now())

    requeue_due()
    refetch(redis)

    row.refresh_from_db()
    assert (row.sync_status, list_jobs(redis)[1]) == (
        "queued",
        ("fetch_pr_complete_data", (row.pk,)),
    )


def test_change_that_comes_meanwhile_is_not_lost(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """The request to GitHub may have been sent before the change."""
    requeue_due()
    PullRequest.objects.filter(github_pr_number=1).note_change()
    refetch(redis)

    due = PullRequest.objects.exclude(refetch_at=None)
    assert [row.github_pr_number for row in due] == [1]


def test_row_that_another_job_has_is_left_to_it(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """The two never both write."""
    requeue_due()
    row = PullRequest.objects.get(github_pr_number=1)
    row.mark_running(job_id="another")

    result = refetch(redis)

    row.refresh_from_db()
    assert (result["fetched"], row.sync_status, row.sync_job_id) == (1, "running", "another")


def test_row_that_was_fetched_meanwhile_is_not_fetched_twice(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Somebody may ask by hand while the job waits."""
    requeue_due()
    for pk in PullRequest.objects.values_list("pk", flat=True):
        fetch_pr_complete_data(pk)
    before = len(app.requests)

    assert refetch(redis) == {"fetched": 0, "queued": 0, "errors": []}
    assert list_new(app, before) == []


def test_renamed_repository_is_followed(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """GraphQL answers under the old name, which may be another repository's one day."""
    app.world.rename_repository(REPOSITORY, "acme/hammer")
    make_due()

    requeue_due()
    refetch(redis)

    assert set(PullRequest.objects.values_list("github_repo", "sync_status")) == {
        ("acme/hammer", "complete")
    }


def test_repository_that_is_tracked_no_more_is_not_asked(
    app: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Somebody may end the tracking while the job waits."""
    requeue_due()
    repository.deactivate()
    before = len(app.requests)
    refetch(redis)

    assert (list_statuses(), list_new(app, before)) == (["untracked"] * 2, [])


@pytest.mark.usefixtures("repository")
def test_redis_down_leaves_nothing_claimed(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim without a job would block its row for two minutes."""
    monkeypatch.setattr(Queue, "enqueue", refuse)

    assert "Redis does not answer" in requeue_due()["errors"][0]
    assert list_statuses() == ["pending"] * 2


def refuse(*args: Any, **options: Any) -> None:
    raise RedisError("no")


@pytest.mark.long(seconds=6)
@pytest.mark.django_db(transaction=True)
def test_killed_job_leaves_rows_that_the_clock_finds(
    app: SandboxServer, workers: Workers, redis: Redis, settings: Settings
) -> None:
    """A job that is killed in the middle of a write has written nothing."""
    workers.environment |= {
        "GITHUB_APP_ID": settings.METRICS_SYNC_GITHUB_APP_ID,
        "GITHUB_APP_PRIVATE_KEY": settings.METRICS_SYNC_GITHUB_APP_PRIVATE_KEY,
    }
    run(track_of_app(app))
    make_due()
    requeue_due()
    row = PullRequest.objects.get(github_pr_number=1)
    line = (
        "from metrics_sync.heal.refetching import refetch_in_bulk; "
        "refetch_in_bulk(row.sync_job_id, [pk])"
    )

    kill_in("running", line, row, workers.environment)
    redis.flushdb()
    after = list_statuses()
    let_time_pass()
    requeue_due()
    workers.drain()

    assert after == ["queued"] * 2
    assert is_true(app)
