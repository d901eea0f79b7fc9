"""Rehearses the loss of database and Redis: `make rehearse`.

A pretend GitHub merges pull requests before, during and after a backup; then everything is killed
and both stores are thrown away. From the backup, the keys and `reconcile --discover` alone, every
pull request has to come back as GitHub has it. The real processes run, and the scripts beside this
one make the copy. With DATABASE_URL a database of its own is made on that server.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django
import psutil
import psycopg
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "docs" / "deploy"
MANAGE = [sys.executable, str(ROOT / "manage.py")]
REPOSITORIES = ("acme/anvil", "acme/hammer")


class Database:
    """A database that can be lost; its URL stays."""

    def __init__(self, configured: str, folder: Path) -> None:
        self.file = folder / "rehearsal.sqlite3"
        self.server = "" if configured.startswith("sqlite") else configured
        self.name = f"rehearsal_{secrets.token_hex(6)}"
        self.url = f"sqlite:///{self.file}"
        if self.server:
            self.url = urlsplit(configured)._replace(path=f"/{self.name}").geturl()

    def create(self) -> None:
        self.drop()
        if self.server:
            self._execute(f'CREATE DATABASE "{self.name}"')

    def drop(self) -> None:
        if self.server:
            self._execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
        for path in self.file.parent.glob(f"{self.file.name}*"):
            path.unlink()

    def lose(self) -> None:
        """Lose it; of SQLite the -wal with the last writes stays behind, as after a crash."""
        rest = self.file.with_name(f"{self.file.name}-wal")
        writes = b"" if self.server else rest.read_bytes()
        # The last connection takes that file with it when it closes.
        connections.close_all()
        self.create()
        if not self.server:
            rest.write_bytes(writes)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(statement)


FOLDER = tempfile.TemporaryDirectory(prefix="rehearsal-")
DATABASE = Database(os.environ.get("DATABASE_URL", "sqlite"), Path(FOLDER.name))
os.environ |= {
    "DATABASE_URL": DATABASE.url,
    "DJANGO_SETTINGS_MODULE": "project.settings",
    "DEBUG": "0",
    "ALLOWED_HOSTS": "127.0.0.1",
    # What a backup does not hold, and what has to be kept apart from it.
    "SECRET_KEY": secrets.token_urlsafe(50),
    "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
}
sys.path.insert(0, str(ROOT))
django.setup()

from django.db import connections

from metrics_sync.models import PullRequest
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Recording,
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from metrics_sync.sandbox.broker import open_broker
from project.demo.stage import PATIENCE_SECONDS, DemoError, kill, wait_for


class Service:
    """The processes of the Procfile, and the commands of an operator."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.environment, self.log = environment, log
        self.processes: list[psutil.Popen] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment |= {"PORT": str(self.port), "BIND": "127.0.0.1"}

    def start(self, *names: str) -> None:
        web = ["-m", "gunicorn", "project.asgi", "--config", "python:project.serving"]
        commands = {
            "web": [sys.executable, *web],
            "worker": [*MANAGE, "rqworker-pool", "pr-data", "pr-data-bulk", "--num-workers", "2"],
        }
        with self.log.open("a") as log:
            self.processes += [
                psutil.Popen(commands[name], env=self.environment, stdout=log, stderr=log, cwd=ROOT)
                for name in names
            ]
        wait_for(self._is_ready, "the web server")

    def _is_ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """End everything at once, as a power cut does."""
        family = [child for process in self.processes for child in process.children(recursive=True)]
        # Parents first: gunicorn would start another child, which keeps the port for a moment.
        for process in self.processes:
            kill(process)
        psutil.wait_procs([*self.processes, *family])
        self.processes.clear()

    def manage(self, *arguments: str, text: str = "") -> str:
        return self.run([*MANAGE, *arguments], text=text)

    def expect_refusal(self, command: list[str]) -> None:
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False)
        if not done.returncode:
            sys.exit(f"{' '.join(command)} did not refuse what is left of the lost database.")
        say(done.stderr.decode().strip())

    def run(self, command: list[str], *, text: str = "") -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return done.stdout


class Rehearsal:
    """What happens, in the order in which it does."""

    def __init__(self, database: Database, service: Service, sandbox: SandboxServer) -> None:
        self.database, self.service, self.sandbox = database, service, sandbox
        self.hooks: dict[str, tuple[str, str]] = {}
        self.number = 0

    def connect(self) -> None:
        for full_name in REPOSITORIES:
            self.sandbox.world.add_repository(full_name)
            printed = self.service.manage(
                "connect", full_name, "--team", "platform", "--token-stdin", "--json",
                "--base-url", self.service.url, text=DEFAULT_TOKEN,
            )  # fmt: skip
            made = json.loads(printed)
            self.hooks[full_name] = (made["webhook_url"], made["webhook_secret"])

    def merge(self, count: int, *, is_told: bool = True) -> None:
        """Merge pull requests at GitHub now, and post their webhooks unless those are lost."""
        for _ in range(count):
            self.number += 1
            full_name = REPOSITORIES[self.number % len(REPOSITORIES)]
            recording = make_recording(full_name, self.number, seed=self.number)
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            recording.pull |= {"merged_at": now, "updated_at": now}
            self.sandbox.world.add(recording)
            if is_told:
                url, secret = self.hooks[full_name]
                payload = build_pull_request_event(recording, "closed")
                answer = deliver(
                    url,
                    event="pull_request",
                    payload=payload,
                    secret=secret,
                    timeout_seconds=PATIENCE_SECONDS,
                )
                if answer.status != 202:
                    sys.exit(f"The webhook of {full_name}#{self.number} was not taken.")

    def comment(self) -> None:
        """Say something under the first pull request, which nobody tells us."""
        full_name, now = REPOSITORIES[1], f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        self.sandbox.world.add_comment(full_name, 1, body="Late.", created_at=now)
        with self.sandbox.world.editing(full_name, 1) as recording:
            recording.pull["updated_at"] = now

    def wait_for_complete(self, count: int) -> None:
        rows = PullRequest.objects.filter(sync_status="complete")
        wait_for(lambda: rows.count() >= count, f"{count} complete pull requests")

    def let_time_pass(self) -> None:
        """Let ten minutes pass: rows without a job are stuck then, and news is looked at."""
        now = datetime.now(UTC)
        passed = now - timedelta(minutes=11)
        PullRequest.objects.filter(sync_status="queued").update(queued_at=passed)
        news = PullRequest.objects.filter(refetch_at__lt=now + timedelta(minutes=2))
        news.update(refetch_at=passed)

    def find_losses(self) -> list[str]:
        """Compare each row with what GitHub has; return what is not the same."""
        rows = {(row.github_repo, row.github_pr_number): row for row in PullRequest.objects.all()}
        losses = []
        for recording in self.sandbox.world.recordings():
            row = rows.pop((recording.repo, recording.number), None)
            if row is None:
                losses.append(f"{recording.repo}#{recording.number} is not there")
            elif row.sync_status != "complete" or read_row(row) != read_recording(recording):
                losses.append(f"{row} ({row.sync_status}) is not as GitHub has it")
        return [*losses, *(f"{row} is there and should not be" for row in rows.values())]


def read_row(row: PullRequest) -> dict[str, list[Any]]:
    return {
        "commits": sorted(row.commits.values_list("github_sha", flat=True)),
        "files": sorted(row.files.values_list("filename", flat=True)),
        "check_runs": sorted(row.check_runs.values_list("github_check_run_id", flat=True)),
        "reviews": sorted(row.reviews.values_list("github_review_id", flat=True)),
        "comments": sorted(row.comments.values_list("github_comment_id", flat=True)),
    }


def read_recording(recording: Recording) -> dict[str, list[Any]]:
    comments = [*recording.issue_comments, *recording.review_comments]
    return {
        "commits": sorted(item["sha"] for item in recording.commits),
        "files": sorted(item["filename"] for item in recording.files),
        "check_runs": sorted(item["id"] for item in recording.check_runs),
        "reviews": sorted(item["id"] for item in recording.reviews),
        "comments": sorted(item["id"] for item in comments),
    }


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def rehearse(rehearsal: Rehearsal, folder: Path) -> None:
    """Lose everything but a backup and the keys, and get it all back. Exits with 1 if not."""
    database, service, copy = rehearsal.database, rehearsal.service, str(folder / "backup")
    with open_redis(service):
        service.manage("migrate", "--noinput")
        service.start("web", "worker")
        rehearsal.connect()
        rehearsal.merge(12)
        rehearsal.wait_for_complete(12)
        service.kill()
        service.start("web")
        rehearsal.merge(6)
        service.run([str(HERE / "backup.sh"), copy])
        say("12 pull requests are complete and 6 queued; a backup is made.")
        service.start("worker")
        rehearsal.merge(9)
        rehearsal.wait_for_complete(27)
        say("9 more merge, and all 27 are complete.")
        service.kill()
    database.lose()
    rehearsal.merge(5, is_told=False)
    rehearsal.comment()
    say("Database and Redis are lost; 5 more merge, and 1 is commented, while nobody listens.")
    with open_redis(service):
        if not database.server:
            service.expect_refusal([str(HERE / "restore.sh"), copy])
            database.drop()
        service.run([str(HERE / "restore.sh"), copy])
        service.manage("migrate", "--noinput")
        say(f"Restored: {PullRequest.objects.count()} of {rehearsal.number} are known.")
        service.start("web", "worker")
        rehearsal.let_time_pass()
        report = json.loads(service.manage("reconcile", "--discover", "--json"))
        say(f"reconcile --discover: {report['discovered']} found, {report['requeued']} queued.")
        rehearsal.merge(2)
        rehearsal.wait_for_complete(rehearsal.number)
        rehearsal.let_time_pass()
        service.manage("reconcile")
        with suppress(DemoError):
            wait_for(
                lambda: not rehearsal.find_losses(), "every pull request to be as GitHub has it"
            )
        losses = rehearsal.find_losses()
        service.kill()
    if losses:
        sys.exit("Lost:\n" + "\n".join(losses))
    say(f"All {rehearsal.number} pull requests are complete and as GitHub has them.")


@contextmanager
def open_redis(service: Service) -> Iterator[None]:
    """Run an empty Redis until the end of the block."""
    with open_broker() as url:
        service.environment["REDIS_URL"] = url
        try:
            yield
        finally:
            service.kill()


def main() -> None:
    folder = Path(FOLDER.name)
    log = folder / "log"
    with FOLDER, SandboxServer() as sandbox:
        service = Service({**os.environ, "GITHUB_API_URL": sandbox.url}, log)
        DATABASE.create()
        try:
            rehearse(Rehearsal(DATABASE, service, sandbox), folder)
        except BaseException:
            sys.stderr.write(log.read_text()[-5000:] if log.exists() else "")
            raise
        finally:
            connections.close_all()
            DATABASE.drop()


if __name__ == "__main__":
    main()
