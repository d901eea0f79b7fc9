"""`manage.py backfill`: whole repositories, many pull requests with each request."""

import json
from typing import Any

import pytest
from django.core.management import call_command

from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, make_recording
from tests.factories import TrackedRepositoryFactory

REPOSITORY = "acme/anvil"


@pytest.fixture
def repository(sandbox: SandboxServer, db: None) -> TrackedRepository:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


def backfill(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    call_command("backfill", REPOSITORY, "--since", "2026-01-01", "--json", *arguments)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_speed(sandbox: SandboxServer, repository, capsys) -> None:
    import time

    for n in range(1, 501):
        sandbox.world.add(make_recording(REPOSITORY, n))
    t = time.time()
    printed = backfill(capsys)
    with capsys.disabled():
        print(printed, 500 / (time.time() - t))
    assert PullRequest.objects.filter(sync_status="complete").count() == 500
