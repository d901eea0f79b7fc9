"""Plays the demo: merges, and the failures by which other tools lose data."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import django_rq
import psutil
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rq import Worker

from metrics_sync.models import PullRequest
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    Recording,
    build_pull_request_event,
    deliver,
    make_samples,
)
from project.demo.open_pull_requests import PULL_REQUESTS, list_deliveries
from project.demo.stage import DemoError, Stage, kill, wait_for

TEAM = "demo"
PARKED_SECONDS = 3
#: The repository whose open pull requests wait.
WAITING_IN = "octo-labs/shop"

#: Which pull request meets which failure, and what the table says about it.
TWICE = ("octo-labs/hello#1", "its webhook came twice")
BAD_GATEWAY = ("octo-labs/hello#2", "GitHub answered 502 once; asked again at once")
RATE_LIMIT = ("octo-labs/hello#4", "rate limit used up; waited for the reset")
OUTAGE = ("octo-labs/shop#101", "reviews answered 502 throughout; reconciled")
KILLED = ("octo-labs/shop#102", "its worker was killed; reconciled")
LOST = ("north-wind/engine#7", "its webhook was lost; discovered")
ACCIDENTS = dict([TWICE, BAD_GATEWAY, RATE_LIMIT, OUTAGE, KILLED, LOST])


@dataclass(slots=True)
class Merge:
    """One pull request of the demo; `told_at` is when its webhook was posted."""

    recording: Recording
    told_at: datetime | None = None

    @property
    def name(self) -> str:
        return f"{self.recording.repo}#{self.recording.number}"

    @property
    def row(self) -> PullRequest | None:
        rows = PullRequest.objects.filter(github_repo=self.recording.repo)
        return rows.filter(github_pr_number=self.recording.number).first()

    def has_status(self, *statuses: SyncStatus) -> bool:
        row = self.row
        return row is not None and row.sync_status in statuses


@dataclass(slots=True)
class Hooks:
    """Where each repository's deliveries are sent, as `connect` printed it."""

    stage: Stage
    endpoints: dict[str, tuple[str, str]] = field(default_factory=dict)

    def connect(self, full_name: str) -> None:
        printed = self.stage.manage(
            "connect", full_name, "--team", TEAM, "--token-stdin", "--json",
            "--base-url", self.stage.web_url, text=DEFAULT_TOKEN,
        )  # fmt: skip
        made = json.loads(printed)
        self.endpoints[full_name] = (made["webhook_url"], made["webhook_secret"])

    def tell(self, merge: Merge, *, times: int = 1) -> None:
        """Post the webhook of a merge `times` times, always with the same GUID."""
        payload = build_pull_request_event(merge.recording, "closed")
        guid = str(uuid4())
        merge.told_at = timezone.now()
        for _ in range(times):
            self.post(merge.recording, "pull_request", payload, guid)

    def post(self, recording: Recording, event: str, payload: Any, guid: str) -> None:
        """Post one webhook. Raises DemoError if it is not accepted."""
        url, secret = self.endpoints[recording.repo]
        answer = deliver(url, event=event, payload=payload, secret=secret, guid=guid)
        if answer.status != 202:
            name = f"{recording.repo}#{recording.number}"
            raise DemoError(f"The webhook of {name} was answered {answer.status}.")


def play(stage: Stage, console: Console) -> None:
    """Play all merges and failures, reconcile, and print the outcome of each pull request.

    Raises DemoError when one of them is not complete at the end.
    """
    hooks = Hooks(stage)
    merges = {merge.name: merge for merge in map(Merge, make_samples())}
    for full_name in sorted({merge.recording.repo for merge in merges.values()}):
        stage.sandbox.world.add_repository(full_name)
        hooks.connect(full_name)
        console.print(f"Connected {full_name}.")
    _open_some(stage, hooks, console)
    _merge_undisturbed(stage, hooks, merges, console)
    _merge_with_accidents(stage, hooks, merges, console)
    console.print("GitHub is well again; manage.py reconcile --discover ...")
    stage.sandbox.faults.clear()
    report = json.loads(stage.manage("reconcile", "--discover", "--json"))
    console.print(f"  queued {report['requeued']}, discovered {report['discovered']}.")
    _wait_for_all(merges.values())
    console.print(_draw(merges.values()))


def _open_some(stage: Stage, hooks: Hooks, console: Console) -> None:
    """Open pull requests that wait: for a review, for their merge, or for their author."""
    console.print(f"{len(PULL_REQUESTS)} pull requests are open and wait ...")
    now = timezone.now().replace(microsecond=0)
    for recording, deliveries in list_deliveries(WAITING_IN, now):
        stage.sandbox.world.add(recording)
        for event, payload in deliveries:
            hooks.post(recording, event, payload, str(uuid4()))


def _merge_undisturbed(
    stage: Stage, hooks: Hooks, merges: dict[str, Merge], console: Console
) -> None:
    calm = [merge for name, merge in merges.items() if name not in ACCIDENTS]
    console.print(f"{len(calm)} pull requests merge ...")
    for merge in calm:
        _merge_now(stage, merge)
        hooks.tell(merge)
    _wait_for_all(calm)


def _merge_with_accidents(
    stage: Stage, hooks: Hooks, merges: dict[str, Merge], console: Console
) -> None:
    console.print(f"{len(ACCIDENTS)} more merge, each with an accident ...")
    for name in ACCIDENTS:
        _merge_now(stage, merges[name])
    _break_github(stage)
    for name, times in ((BAD_GATEWAY[0], 1), (TWICE[0], 2), (RATE_LIMIT[0], 1)):
        hooks.tell(merges[name], times=times)
    _wait_for_all(merges[name] for name in (BAD_GATEWAY[0], TWICE[0], RATE_LIMIT[0]))
    for name in (OUTAGE[0], KILLED[0]):
        hooks.tell(merges[name])
    wait_for(lambda: merges[OUTAGE[0]].has_status(SyncStatus.PARTIAL), "the outage to be noted")
    _kill_worker_of(merges[KILLED[0]])


def _break_github(stage: Stage) -> None:
    def add(kind: FaultKind, name: str, section: str, **more: int) -> None:
        repo, _, number = name.partition("#")
        path = f"/repos/{repo}/pulls/{number}/{section}$"
        stage.sandbox.faults.add(Fault(kind, path=path, **more))  # type: ignore[arg-type]

    add(FaultKind.STATUS, BAD_GATEWAY[0], "commits", status=502, times=1)
    add(FaultKind.PRIMARY_LIMIT, RATE_LIMIT[0], "reviews", retry_after=PARKED_SECONDS, times=1)
    add(FaultKind.STATUS, OUTAGE[0], "reviews", status=502)
    add(FaultKind.SLOW, KILLED[0], "files", seconds=600, times=1)


def _merge_now(stage: Stage, merge: Merge) -> None:
    """Make a pull request look as if it merged just now, by moving its whole history in time."""
    created_at = _read_time(merge.recording.pull["created_at"])
    ended_at = merge.recording.pull["merged_at"]
    now = timezone.now().replace(microsecond=0)
    shift = now - (_read_time(ended_at) if ended_at else created_at)

    def move(match: re.Match[str]) -> str:
        return f"{_read_time(match[0]) + shift:%Y-%m-%dT%H:%M:%SZ}"

    text = json.dumps(merge.recording.to_json())
    moved = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", move, text)
    merge.recording = stage.sandbox.world.add(Recording.from_json(json.loads(moved)))
    if not ended_at:
        merged_at = f"{now:%Y-%m-%dT%H:%M:%SZ}"
        stage.sandbox.world.merge(merge.recording.repo, merge.recording.number, merged_at=merged_at)


def _read_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _kill_worker_of(merge: Merge) -> None:
    """End the worker that fetches a pull request with SIGKILL, and let two minutes pass.

    A silent row counts as stuck after two minutes. In place of waiting, this moves the row's start
    back by two minutes.
    """
    wait_for(lambda: merge.has_status(SyncStatus.RUNNING), f"a worker to take {merge.name}")
    row = merge.row
    assert row is not None  # noqa: S101  (it has a status)
    workers = Worker.all(connection=django_rq.get_connection("pr-data"))
    busy = [worker for worker in workers if worker.get_current_job_id() == row.sync_job_id]
    for worker in busy:
        kill(psutil.Process(worker.pid))
    passed = timezone.now() - STUCK_AFTER
    PullRequest.objects.filter(pk=row.pk).update(fetch_started_at=passed)


def _wait_for_all(merges: Iterable[Merge]) -> None:
    for merge in merges:
        wait_for(lambda m=merge: m.has_status(SyncStatus.COMPLETE), f"{merge.name} to be complete")  # type: ignore[misc]


def _draw(merges: Iterable[Merge]) -> Table:
    table = Table(title="What arrived, and how fast")
    table.add_column("pull request", no_wrap=True)
    for heading in ("what happened", "status"):
        table.add_column(heading)
    for heading in ("rows", "rounds", "seconds"):
        table.add_column(heading, justify="right")
    for merge in merges:
        row = merge.row
        if row is None or row.completed_at is None or row.merged_at is None:
            raise DemoError(f"{merge.name} is not complete.")
        seconds = (row.completed_at - (merge.told_at or row.merged_at)).total_seconds()
        capped = f" (GitHub cut off {' and '.join(row.truncated)})" if row.truncated else ""
        table.add_row(
            merge.name,
            ACCIDENTS.get(merge.name, ""),
            f"{row.sync_status}{capped}",
            str(sum(entry["stored"] for entry in row.receipt.values())),
            "-" if row.review_rounds is None else str(row.review_rounds),
            f"{seconds:.1f}",
        )
    return table
