"""Starts what benchmarks need: a database, Redis, a pretend GitHub, the Procfile's processes."""

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit

import psutil
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from redis import Redis

from metrics_sync.models import GitHubIntegration, PullRequest
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Recording,
    build_pull_request_event,
    make_recording,
    shapes,
)
from metrics_sync.sandbox.broker import find_free_port, open_broker
from metrics_sync.work.counts import save_counts
from metrics_sync.work.horses import MOST_JOBS

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]
REPOSITORY = "bench/load"
PATIENCE_SECONDS = 60
#: Pull requests of other sizes, by their names in the figures.
SIZES: dict[str, dict[str, int]] = {
    "ordinary": {},
    "30 files": {"files": 30},
    "300 files": {"files": 300},
    "1,000 files": {"files": 1000},
    "3,000 files": {"files": 3000},
    "large": {"files": 3000, "issue_comments": 500, "review_comments": 500},
    "capped": {"files": 3050, "commits": 275, "issue_comments": 500, "review_comments": 500},
}
#: How many ordinary pull requests the pretend GitHub has.
ORDINARY = 600


@dataclass(slots=True)
class Stage:
    """The running servers, and how to reach and control them."""

    environment: dict[str, str]
    api_url: str
    broker_url: str
    folder: Path
    log: IO[str]
    integration: GitHubIntegration
    sizes: dict[str, Recording]
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, ORDINARY + 1)))

    @property
    def is_postgresql(self) -> bool:
        return connection.vendor == "postgresql"

    def take(self, amount: int) -> list[Recording]:
        """Return ordinary pull requests that no benchmark has used."""
        return [make_recording(REPOSITORY, next(self.numbers)) for _ in range(amount)]

    def add_row(self, recording: Recording) -> PullRequest:
        """Make the row of a merge as a webhook does, new each time, without queueing a job."""
        PullRequest.objects.filter(github_pr_id=recording.pull["id"]).delete()
        row = PullRequest(
            team=self.integration.team,
            repository=self.integration.repositories.get(),
            github_repo=recording.repo,
            github_pr_id=recording.pull["id"],
            github_pr_number=recording.number,
            state=PullRequest.State.MERGED,
            sync_status=PullRequest.SyncStatus.PENDING,
            merged_at=recording.pull["merged_at"],
        )
        PullRequest.objects.bulk_create([row])
        return PullRequest.objects.get(pk=row.pk)

    def set_latency(self, milliseconds: float) -> None:
        """Delay every further answer of GitHub by so much."""
        self.ask_github("/_sandbox/faults", method="DELETE")
        if milliseconds:
            fault = {"kind": "slow", "seconds": milliseconds / 1000}
            self.ask_github("/_sandbox/faults", method="POST", body=fault)

    def count_points(self) -> int:
        """Return how many requests GitHub has counted against the token."""
        limits = json.loads(self.ask_github("/rate_limit"))
        return int(limits["resources"]["core"]["used"])

    def ask_github(self, path: str, *, method: str = "GET", body: Any = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310  (our own address)
            f"{self.api_url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {DEFAULT_TOKEN}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
            return bytes(answer.read())

    def open_redis(self) -> "Redis[Any]":
        return Redis.from_url(self.broker_url)

    @contextmanager
    def run(self, *command: str, **environment: str) -> Iterator[psutil.Popen]:
        """Run a process until the end of the block, then end it and its children."""
        with _run(command, {**self.environment, **environment}, self.log) as process:
            yield process

    @contextmanager
    def run_worker(
        self, *, notes: Path | None = None, most_jobs: int = MOST_JOBS
    ) -> Iterator[psutil.Popen]:
        """Run one worker as the Procfile does until the end of the block; it is idle at first.

        With a file for its notes, it measures itself and forks a new process after so many jobs.
        """
        command = [*MANAGE, "rqworker-pool", "pr-data", "pr-data-bulk", "--num-workers", "1"]
        if notes:
            command += ["--worker-class", "tests.benchmarks.worker.MeasuredWorker"]
        environment = {"BENCH_NOTES": str(notes or os.devnull), "BENCH_MOST_JOBS": str(most_jobs)}
        with self.run(*command, **environment) as process:
            self.wait_until_idle()
            yield process

    def wait_until_idle(self) -> None:
        """Wait until the only worker is idle."""
        with self.open_redis() as redis:
            wait_for(
                lambda: (
                    [redis.hget(key, "state") for key in redis.smembers("rq:workers")] == [b"idle"]
                ),
                "the worker to be idle",
            )

    @contextmanager
    def run_web(self, **environment: str) -> Iterator[tuple[str, psutil.Popen]]:
        """Run gunicorn as the Procfile does and yield its address and its process."""
        port = find_free_port()
        url = f"http://127.0.0.1:{port}"
        config = ("--config", "python:project.serving")
        command = (sys.executable, "-m", "gunicorn", "project.asgi", *config)
        environment |= {"PORT": str(port), "BIND": "127.0.0.1"}
        with self.run(*command, **environment) as process:
            wait_for(lambda: answers(f"{url}/readyz"), "gunicorn to answer")
            yield url, process


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Start all servers that benchmarks need, and remove them after the block.

    If DATABASE_URL or REDIS_URL is set, an unused database of that server is taken. The pretend
    GitHub is a separate process.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="metrics_sync-")))
        settings.VAR_DIR.mkdir(exist_ok=True)
        log = stack.enter_context((settings.VAR_DIR / "bench.log").open("w"))
        broker_url = stack.enter_context(open_broker(os.environ.get("REDIS_URL", "")))
        # Else this process saves them as it ends, into a database that was left empty.
        stack.callback(save_counts)
        database_url = stack.enter_context(open_database(folder, "bench"))
        ordinary = (make_recording(REPOSITORY, number) for number in range(1, ORDINARY + 1))
        sizes = {
            name: make_recording(REPOSITORY, number, **size)
            for number, (name, size) in enumerate(SIZES.items(), ORDINARY + 1)
        }
        api_url = stack.enter_context(_serve_github(folder, [*ordinary, *sizes.values()], log))
        settings.METRICS_SYNC_GITHUB_API_URL = api_url
        for queue in settings.RQ_QUEUES.values():
            queue["URL"] = broker_url
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": database_url,
            "REDIS_URL": broker_url,
            "GITHUB_API_URL": api_url,
        }
        integration = connect()
        yield Stage(environment, api_url, broker_url, folder, log, integration, sizes)


def connect() -> GitHubIntegration:
    """Connect the repository of the pretend GitHub in the database in use."""
    os.environ["GITHUB_TOKEN"] = DEFAULT_TOKEN
    with Path(os.devnull).open("w") as nowhere:
        call_command("connect", REPOSITORY, team="bench", stdout=nowhere)
    del os.environ["GITHUB_TOKEN"]
    return GitHubIntegration.objects.get(team__slug="bench")


@contextmanager
def open_database(folder: Path, name: str) -> Iterator[str]:
    """Make an empty migrated database beside the configured one, and yield its URL."""
    is_sqlite = connection.vendor == "sqlite"
    before = str(connection.settings_dict["NAME"])
    made = str(folder / f"{name}.sqlite3") if is_sqlite else f"{before}_{name}"
    test_settings = connection.settings_dict["TEST"]
    usual, test_settings["NAME"] = test_settings["NAME"], made
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    # A test database that is made meanwhile must not get this name.
    test_settings["NAME"] = usual
    try:
        if is_sqlite:
            yield f"sqlite:///{made}"
        else:
            yield urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(made)}").geturl()
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


@contextmanager
def _serve_github(folder: Path, recordings: Iterable[Recording], log: IO[str]) -> Iterator[str]:
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    world = folder / "world"
    world.mkdir()
    for recording in recordings:
        # PyGithub follows the URLs in GitHub's answers.
        text = json.dumps(recording.to_json()).replace(shapes.API, url)
        (world / f"{recording.number}.json").write_text(text)
    command = [sys.executable, "-m", "metrics_sync.sandbox", "--load", str(world)]
    command += ["--port", str(port), "--limit", "1000000"]
    with _run(command, dict(os.environ), log):
        wait_for(lambda: answers(f"{url}/_sandbox/"), "the pretend GitHub to answer")
        yield url


@contextmanager
def _run(
    command: Iterable[str], environment: dict[str, str], log: IO[str]
) -> Iterator[psutil.Popen]:
    process = psutil.Popen(command, env=environment, stdout=log, stderr=log, cwd=settings.BASE_DIR)
    try:
        yield process
    finally:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        with suppress(psutil.NoSuchProcess):
            process.terminate()
        _, alive = psutil.wait_procs(family, timeout=5)
        for survivor in alive:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
        psutil.wait_procs(alive, timeout=5)


def tell(stage: Stage, recording: Recording) -> dict[str, Any]:
    """Return the arguments of `sandbox.deliver` that post the merge of a pull request."""
    return {
        "event": "pull_request",
        "payload": build_pull_request_event(recording, "closed"),
        "secret": stage.integration.webhook_secret,
    }


def count_cpu_seconds(process: psutil.Process) -> float:
    """Return the processor seconds that a process and its children have used so far."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_for(is_true: Callable[[], bool], what: str, *, pause: float = 0.05) -> None:
    """Check until the condition holds. Raises TimeoutError after a minute."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"Waited {PATIENCE_SECONDS} s in vain for {what}; see var/bench.log."
            )
        time.sleep(pause)
