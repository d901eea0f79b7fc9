"""Processes that are killed, each in another status, and what happens to their rows."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from redis import Redis
from rq import Queue

from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.states import STUCK_AFTER
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from tests.conftest import MANAGE, PATIENCE_SECONDS, Workers
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.test_flow import read_rows, read_truth

REPOSITORY = "acme/anvil"

#: Runs a line of Python, and kills its own process once the row is in the status that it is told:
#: before anything else is done, and in whatever transaction that is.
KILLED_IN = """
import os, signal, sys
import django
django.setup()
from metrics_sync.models import PullRequest
from metrics_sync import jobs, store
from metrics_sync.work import turns

status, line, pk = sys.argv[1], sys.argv[2], int(sys.argv[3])
move, save, finish = PullRequest._move, PullRequest.save, PullRequest.finish_together

def die(row):
    if row.sync_status == status:
        os.kill(os.getpid(), signal.SIGKILL)

def move_and_die(row, **options):
    die(row)
    moved = move(row, **options)
    die(row)
    return moved

def save_and_die(row, **options):
    save(row, **options)
    die(row)

def finish_and_die(ended):
    for row, *_ in ended:
        die(row)
    finish(ended)
    for row, *_ in ended:
        die(row)

PullRequest._move, PullRequest.save = move_and_die, save_and_die
PullRequest.finish_together = finish_and_die
row = PullRequest.objects.get(pk=pk)
exec(line)
"""

MERGE = "row.state, row.merged_at = 'merged', row.pr_created_at; row.save()"
ENQUEUE = "turns.enqueue_merge(row)"
FETCH = "jobs.fetch_pr_complete_data(pk)"


@pytest.fixture
def repository(transactional_db: None, sandbox: SandboxServer) -> TrackedRepository:
    sandbox.world.add(make_recording(REPOSITORY, 7))
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


@pytest.fixture
def row(repository: TrackedRepository, sandbox: SandboxServer) -> PullRequest:
    pull = sandbox.world.recording(REPOSITORY, 7).pull
    return PullRequestFactory(
        team=repository.team,
        github_repo=REPOSITORY,
        github_pr_id=pull["id"],
        github_pr_number=7,
        pr_created_at=timezone.now(),
    )


def merge(row: PullRequest) -> None:
    PullRequest.objects.filter(pk=row.pk).update(
        state="merged", merged_at=timezone.now(), sync_status="pending"
    )


def kill_in(status: str, line: str, row: PullRequest, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", KILLED_IN, status, line, str(row.pk)]
    killed = subprocess.run(
        command, env=environment, cwd=settings.BASE_DIR, timeout=PATIENCE_SECONDS, check=False
    )
    assert killed.returncode == -signal.SIGKILL


def let_time_pass() -> None:
    """Let two minutes pass since the last heartbeat."""
    moment = timezone.now() - STUCK_AFTER - timedelta(seconds=1)
    PullRequest.objects.update(queued_at=moment, fetch_started_at=moment, heartbeat_at=None)


def heal(workers: Workers) -> None:
    let_time_pass()
    call_command("reconcile", "--discover", "--since", "2020-01-01", "--json")
    workers.drain()


@pytest.mark.long(seconds=4)
@pytest.mark.parametrize(
    ("status", "line", "prepare"),
    [
        pytest.param("pending", MERGE, None, id="pending"),
        pytest.param("queued", ENQUEUE, merge, id="queued"),
        pytest.param("running", FETCH, merge, id="running"),
        pytest.param("complete", FETCH, merge, id="complete"),
    ],
)
def test_row_of_a_process_that_was_killed_becomes_complete(
    row: PullRequest,
    sandbox: SandboxServer,
    workers: Workers,
    status: str,
    line: str,
    prepare: Callable[[PullRequest], None] | None,
) -> None:
    """No other process takes the next step of a killed one by itself."""
    if prepare:
        prepare(row)

    kill_in(status, line, row, workers.environment)
    heal(workers)

    row.refresh_from_db()
    assert row.sync_status == "complete"
    assert read_rows(row) == read_truth(sandbox.world.recording(REPOSITORY, 7))


@pytest.mark.long(seconds=4)
@pytest.mark.parametrize(
    ("status", "path"),
    [pytest.param("partial", "/files$", id="partial"), pytest.param("failed", "", id="failed")],
)
def test_row_of_a_process_that_was_killed_over_a_fault_becomes_complete(
    row: PullRequest, sandbox: SandboxServer, workers: Workers, status: str, path: str
) -> None:
    """It is killed before it has told RQ to retry."""
    fault = sandbox.faults.add(Fault(FaultKind.STATUS, path=path, status=502))
    merge(row)

    kill_in(status, FETCH, row, workers.environment)
    fault.times = 0
    heal(workers)

    row.refresh_from_db()
    assert row.sync_status == "complete"
    assert read_rows(row) == read_truth(sandbox.world.recording(REPOSITORY, 7))


@pytest.mark.long(seconds=4)
def test_row_of_a_process_that_was_killed_untracked_becomes_complete(
    row: PullRequest, repository: TrackedRepository, workers: Workers
) -> None:
    """The repository is connected after the webhooks of its merges."""
    repository.deactivate()
    merge(row)

    kill_in("untracked", FETCH, row, workers.environment)
    repository.is_active = True
    repository.save()
    heal(workers)

    row.refresh_from_db()
    assert row.sync_status == "complete"


@pytest.mark.long(seconds=4)
def test_merge_whose_process_was_killed_before_it_was_written_becomes_complete(
    row: PullRequest, workers: Workers
) -> None:
    """The row stays idle, GitHub got no answer, and no webhook reports the merge again."""
    in_transaction = "from django.db import transaction\nwith transaction.atomic():\n    " + MERGE

    kill_in("pending", in_transaction, row, workers.environment)
    row.refresh_from_db()
    left_behind = row.sync_status
    heal(workers)

    row.refresh_from_db()
    assert (left_behind, row.sync_status) == ("idle", "complete")


@pytest.mark.long(seconds=4)
def test_five_reconciles_during_a_storm_of_merges_queue_each_once(
    repository: TrackedRepository, workers: Workers, redis: Redis
) -> None:
    """Two operators and the clock may reconcile at the same time."""
    rows = [
        PullRequestFactory(team=repository.team, github_repo=REPOSITORY, merged=True)
        for _ in range(60)
    ]
    PullRequest.objects.update(sync_status="pending", sync_job_id="", queued_at=None)
    redis.flushdb()

    started = [start_reconcile(workers.environment) for _ in range(5)]
    results = [read_json(process) for process in started]

    queued = [job.args[0] for name in ("pr-data", "pr-data-bulk") for job in list_jobs(redis, name)]
    assert sorted(queued) == sorted(row.pk for row in rows)
    assert sum(result["requeued"] for result in results) == len(rows)


def start_reconcile(environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [*MANAGE, "reconcile", "--json"]
    environment = {**os.environ, **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def read_json(process: subprocess.Popen[str]) -> dict[str, Any]:
    printed, _ = process.communicate(timeout=PATIENCE_SECONDS)
    result: dict[str, Any] = json.loads(printed)
    return result


def list_jobs(redis: Redis, name: str) -> list[Any]:
    return Queue(name, connection=redis).jobs
