"""Following one delivery through the logs of all processes."""

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from django.conf import settings as django_settings

from metrics_sync.models import GitHubIntegration
from metrics_sync.observe.tracing import TraceFilter, get_trace, trace
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from metrics_sync.sandbox.broker import find_free_port
from tests.conftest import PATIENCE_SECONDS, Workers, wait_until
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.processes import run_manage


def make_record() -> logging.LogRecord:
    record = logging.makeLogRecord({"msg": "hello"})
    assert TraceFilter().filter(record)
    return record


def test_records_carry_what_is_being_worked_on() -> None:
    """A line `no answer` alone does not say which pull request it concerns."""
    with trace(delivery_id="d", job_id=""), trace(job_id="j"):
        record = make_record()

    assert (record.delivery_id, record.job_id) == ("d", "j")  # type: ignore[attr-defined]


def test_trace_ends_with_its_block() -> None:
    """The thread's next request is another delivery."""
    with pytest.raises(ValueError, match="broken"), trace(delivery_id="d"):
        raise ValueError("broken")

    assert get_trace() == {}
    assert not hasattr(make_record(), "delivery_id")


@contextmanager
def serve(environment: dict[str, str], log: Path) -> Iterator[str]:
    """Run the web server that the Procfile names, on a free port."""
    port = find_free_port()
    command = [sys.executable, "-m", "gunicorn", "project.asgi", "--config"]
    command += ["python:project.serving"]
    environment = {**environment, "PORT": str(port), "BIND": "127.0.0.1", "WEB_CONCURRENCY": "1"}
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as file:
        web = subprocess.Popen(command, env=environment, stderr=file, cwd=django_settings.BASE_DIR)
        try:
            wait_until(lambda: _answers(url))
            yield url
        finally:
            web.terminate()
            web.wait(PATIENCE_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310  (our own)
            return bool(answer.status == 200)
    except OSError:
        return False


def read_lines(text: str, **ids: str) -> list[dict[str, Any]]:
    """Return the entries of a JSON log that carry these ids."""
    entries = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [entry for entry in entries if ids.items() <= entry.items()]


@pytest.mark.long(seconds=6)
@pytest.mark.django_db(transaction=True)
def test_delivery_is_followed_from_the_webhook_to_complete(
    workers: Workers, sandbox: SandboxServer, tmp_path: Path
) -> None:
    """GitHub shows operators only the id of a delivery."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    hook: GitHubIntegration = TrackedRepositoryFactory(full_name="acme/anvil", **token).integration
    payload = build_pull_request_event(sandbox.world.add(make_recording("acme/anvil", 7)), "closed")
    environment = {**workers.environment, "LOG_FORMAT": "json", "ALLOWED_HOSTS": "127.0.0.1"}

    log = tmp_path / "web.log"
    with serve(environment, log) as url:
        address, secret = url + hook.get_webhook_path(), hook.webhook_secret
        for guid in ("wanted", "another"):
            deliver(
                address,
                event="pull_request",
                payload=payload,
                secret=secret,
                guid=guid,
                timeout_seconds=PATIENCE_SECONDS,
            )
    worker = ["rqworker", "pr-data", "--burst"]
    done = run_manage(*worker, environment=environment, timeout=PATIENCE_SECONDS)

    of_web = read_lines(log.read_text(), delivery_id="wanted")
    of_worker = read_lines(done.stderr, delivery_id="wanted")
    assert [line["message"] for line in of_web] == [
        "Queued acme/anvil#7 on pr-data",
        "Took pull_request wanted of acme/anvil: processed",
    ]
    [fetched] = [line for line in of_worker if line["message"].startswith("Fetched acme/anvil#7")]
    assert "complete" in fetched["message"]
    ids = ("job_id", "pull_request_id")
    assert [fetched[name] for name in ids] == [of_web[0][name] for name in ids]


@pytest.mark.django_db(transaction=True)
def test_job_queued_inside_a_job_runs_under_its_own_id(
    workers: Workers, sandbox: SandboxServer
) -> None:
    """The clock's job passed its `job_id` on, and each fetch ended before it began."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    team = TrackedRepositoryFactory(full_name="acme/anvil", **token).team
    recording = sandbox.world.add(make_recording("acme/anvil", 7))
    ids = {"github_repo": "acme/anvil", "github_pr_id": recording.pull["id"]}
    with trace(job_id="of the clock"):
        row = PullRequestFactory(merged=True, team=team, github_pr_number=7, **ids)

    workers.drain()

    row.refresh_from_db()
    assert row.sync_status == "complete"
