"""A secret that no key decrypts stops only its own rows."""

import json
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from pytest_django import Settings
from redis import Redis
from rq import Queue, SimpleWorker

from metrics_sync.heal.discovery import discover_lost
from metrics_sync.heal.reconcile import requeue_due
from metrics_sync.models import GitHubIntegration, PullRequest, TrackedRepository
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    SandboxServer,
    build_pull_request_event,
    make_recording,
    sign,
)
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

NAMES = ["acme/anvil", "acme/hammer"]


@pytest.fixture
def repositories(sandbox: SandboxServer, db: None) -> list[TrackedRepository]:
    """Two repositories of two teams; the secrets of the first are lost."""
    made = [
        TrackedRepositoryFactory(
            full_name=name,
            integration__credential__access_token=DEFAULT_TOKEN,
            integration__webhook_secret="secret",
        )
        for name in NAMES
    ]
    integration = made[0].integration
    with connection.cursor() as cursor:
        for table, column, pk in (
            ("integrationcredential", "access_token", integration.credential_id),
            ("githubintegration", "webhook_secret", integration.pk),
        ):
            statement = f"UPDATE metrics_sync_{table} SET {column} = 'x' WHERE id = %s"  # noqa: S608
            cursor.execute(statement, [pk])
    return list(TrackedRepository.objects.order_by("pk"))


@pytest.fixture
def rows(sandbox: SandboxServer, repositories: list[TrackedRepository]) -> list[PullRequest]:
    """A merged pull request in each of them."""
    made = []
    for repository in repositories:
        recording = sandbox.world.add(make_recording(repository.full_name, 7))
        values = {"github_pr_id": recording.pull["id"], "github_pr_number": 7}
        name = repository.full_name
        made.append(
            PullRequestFactory(merged=True, team=repository.team, github_repo=name, **values)
        )
    return made


def read_statuses(rows: list[PullRequest]) -> list[str]:
    for row in rows:
        row.refresh_from_db()
    return [row.sync_status for row in rows]


def work(redis: Redis, *names: str) -> list[Any]:
    queues = [Queue(name, connection=redis) for name in names]
    SimpleWorker(queues, connection=redis).work(burst=True)
    return [job_id for queue in queues for job_id in queue.failed_job_registry.get_job_ids()]


def test_worker_says_so_on_the_row_and_goes_on(redis: Redis, rows: list[PullRequest]) -> None:
    """A retry cannot help, and the log must not look like a crash."""
    for row in rows:
        enqueue_fetch(row, queue_name=MERGES)

    failed = work(redis, MERGES)

    assert (read_statuses(rows), failed) == (["failed", "complete"], [])
    assert rows[0].sync_error.startswith("access: IntegrationCredential.access_token cannot be")
    assert "TOKEN_ENCRYPTION_KEYS" in rows[0].fetch_runs.get().errors[0]
    assert Queue(MERGES, connection=redis).scheduled_job_registry.count == 0


def test_clock_queues_the_others(redis: Redis, rows: list[PullRequest]) -> None:
    """The clock runs every minute, and nobody watches it."""
    report = requeue_due()
    work(redis, BULK)

    assert (report["requeued"], report["errors"]) == (2, [])
    assert read_statuses(rows) == ["failed", "complete"]


@pytest.mark.usefixtures("redis")
def test_reconcile_names_it_and_fetches_the_others(
    rows: list[PullRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator reads which secret it is, and what to do."""
    PullRequest.objects.update(github_pr_number=None)

    with pytest.raises(SystemExit):
        call_command("reconcile", "--inline", "--json")

    [error] = json.loads(capsys.readouterr().out)["errors"]
    assert error.startswith("acme/anvil: ")
    assert "TOKEN_ENCRYPTION_KEYS" in error
    assert read_statuses(rows) == ["pending", "complete"]


@pytest.mark.usefixtures("redis")
def test_discovery_finds_the_merges_of_the_others(
    sandbox: SandboxServer, repositories: list[TrackedRepository]
) -> None:
    """Discovery is the last way to find lost webhooks."""
    for name in NAMES:
        recording = make_recording(name, 8)
        recording.pull["updated_at"] = recording.pull["merged_at"] = "2099-01-01T00:00:00Z"
        sandbox.world.add(recording)

    report = discover_lost()

    [error] = report["errors"]
    assert (report["discovered"], error.startswith("acme/anvil: ")) == (1, True)
    assert PullRequest.objects.get().github_repo == "acme/hammer"


def test_only_its_own_webhook_answers_503(
    client: Client, settings: Settings, repositories: list[TrackedRepository]
) -> None:
    """GitHub shows the delivery as failed, so that it can be redelivered."""
    body = json.dumps(build_pull_request_event(make_recording(NAMES[1], 7), "closed")).encode()
    uuids = GitHubIntegration.objects.order_by("pk").values_list("uuid", flat=True)

    statuses = [
        client.post(
            path,
            body,
            content_type="application/json",
            headers={
                "X-GitHub-Delivery": "guid",
                "X-GitHub-Event": "pull_request",
                "X-Hub-Signature-256": sign(body, secret),
            },
        ).status_code
        for path, secret in (
            (f"/webhooks/github/{uuids[0]}/", "secret"),
            (f"/webhooks/github/{uuids[1]}/", "secret"),
            ("/webhooks/github/", settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET),
        )
    ]

    assert statuses == [503, 202, 202]
