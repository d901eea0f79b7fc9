"""Thousands of pull requests, fetched in bulk by a process that is killed twice on the way."""

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Any
from urllib.request import Request, urlopen

import pytest
from django.db import connection

from metrics_sync.models import FetchRun, PullRequest
from metrics_sync.sandbox import DEFAULT_TOKEN, Recording, SandboxServer, make_recording
from metrics_sync.snapshot import Account, FileItem, Item, ReviewItem, Section, read_items
from metrics_sync.snapshot.items import (
    CheckRunItem,
    CommentItem,
    CommitItem,
    CommitStatusItem,
    TimelineItem,
)
from metrics_sync.store.lists import KINDS, MODELS
from tests.conftest import MANAGE, wait_until
from tests.factories import TrackedRepositoryFactory

REPOSITORY = "acme/anvil"
SEED = 20260302
#: On PostgreSQL the kills are what matters, and a fifth has them all the same.
COUNT = 5_000 if connection.vendor == "sqlite" else 1_000
#: It takes a minute or two on two cores that have nothing else to do.
PATIENCE = 1_800
#: In the order of the sections.
ITEMS: dict[Section, Any] = dict(
    zip(
        Section,
        (
            *(CommitItem, FileItem, CheckRunItem, CommentItem, CommentItem, ReviewItem),
            *(TimelineItem, CommitStatusItem),
        ),
        strict=True,
    )
)
COMMAND = [*MANAGE, "backfill", REPOSITORY, "--since", "2026-01-01", "--json"]


def count_complete() -> int:
    return PullRequest.objects.filter(sync_status="complete").count()


def run_and_kill(environment: dict[str, str], *, at: int) -> None:
    """Run the command until so many are complete, and end it without a word."""
    with subprocess.Popen(COMMAND, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: count_complete() >= at or process.poll() is not None, patience=PATIENCE)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def run(environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, check=True, timeout=PATIENCE
    )
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def read_points_used(sandbox: SandboxServer) -> int:
    """Ask GitHub how many points the token has used."""
    headers = {"Authorization": f"Bearer {DEFAULT_TOKEN}"}
    with urlopen(Request(f"{sandbox.url}/rate_limit", headers=headers)) as answer:  # noqa: S310
        return int(json.load(answer)["resources"]["graphql"]["used"])


def flatten(item: Item) -> tuple[Any, ...]:
    values = (getattr(item, field.name) for field in fields(item))
    return tuple(value.github_id if isinstance(value, Account) else value for value in values)


def list_truth(recordings: list[Recording], section: Section) -> Iterator[tuple[Any, ...]]:
    """Yield every item of a section as GitHub has it, each after its pull request's number."""
    for recording in recordings:
        for item in read_items(section, getattr(recording, section)):
            yield recording.number, *flatten(item)


def list_stored(section: Section) -> Iterator[tuple[Any, ...]]:
    roles = {"author", "reviewer", "actor"}
    names = [field.name for field in fields(ITEMS[section])]
    columns = [f"{name}__github_id" if name in roles else name for name in names]
    rows = MODELS[section].objects.filter(**KINDS.get(section, {}))
    for row in rows.values_list("pull_request__github_pr_number", *columns).iterator():
        yield tuple(tuple(value) if isinstance(value, list) else value for value in row)


@pytest.mark.long(seconds=120)
@pytest.mark.django_db(transaction=True)
def test_killed_backfill_is_whole_and_cheap_in_the_end(
    sandbox: SandboxServer, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing lost, nothing doubled, nothing paid for twice but what was under way."""
    chance = random.Random(SEED)
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    TrackedRepositoryFactory(full_name=REPOSITORY, **token)
    recordings = [
        sandbox.world.add(
            make_recording(REPOSITORY, number, files=chance.randint(1, 8), statuses=number % 2)
        )
        for number in range(1, COUNT + 1)
    ]
    began_at = time.monotonic()

    run_and_kill(environment, at=chance.randint(COUNT // 50, COUNT // 3))
    run_and_kill(environment, at=chance.randint(COUNT // 2, COUNT * 9 // 10))
    printed = run(environment)
    seconds = time.monotonic() - began_at

    points = read_points_used(sandbox)
    assert points <= COUNT // 2
    assert (printed["found"], printed["queued"], printed["busy"]) == (COUNT, 0, 0)
    assert count_complete() == PullRequest.objects.count() == COUNT
    assert FetchRun.objects.filter(status="complete").count() == COUNT
    for section in Section:
        truth = sorted(list_truth(recordings, section), key=lambda row: row[:2])
        assert sorted(list_stored(section), key=lambda row: row[:2]) == truth
    with capsys.disabled():
        print(  # noqa: T201  (says what was measured)
            f"\nBackfilled {COUNT} in {seconds:.0f} s ({COUNT / seconds:.0f}/s), killed twice, "
            f"for {points} points ({points / COUNT:.3f} each)"
        )
