"""Starts what the demo needs: a database, Redis, a pretend GitHub and the Procfile's processes."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

import psutil
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection

from metrics_sync.sandbox import SandboxServer
from metrics_sync.sandbox.broker import open_broker

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]
USERNAME = "demo"
#: About as long as the real GitHub takes to answer.
LATENCY_MS = 80
PATIENCE_SECONDS = 120


class DemoError(Exception):
    """The demo failed; the message says at which step."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The running parts of the demo, and how to reach them."""

    sandbox: SandboxServer
    web_url: str
    password: str
    log_path: Path
    environment: dict[str, str]

    def manage(self, *arguments: str, text: str = "") -> str:
        """Run one of our commands as an operator would, and return what it printed.

        Raises DemoError with its error output when it fails.
        """
        done = subprocess.run(  # noqa: S603  (our own commands)
            [*MANAGE, *arguments],
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise DemoError(f"manage.py {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Start everything; stop and remove all of it after the block.

    If DATABASE_URL or REDIS_URL is set, an unused database of that server is used.
    Raises DemoError when something does not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="metrics_sync-")))
        redis_url = stack.enter_context(open_broker(os.environ.get("REDIS_URL", "")))
        database_url = stack.enter_context(_open_database(folder))
        sandbox = stack.enter_context(SandboxServer(latency_ms=LATENCY_MS))
        _point_settings(redis_url=redis_url, api_url=sandbox.url)
        port = _find_port()
        log_path = settings.VAR_DIR / "demo.log"
        log_path.parent.mkdir(exist_ok=True)
        opened = Stage(
            sandbox=sandbox,
            web_url=f"http://127.0.0.1:{port}",
            password=secrets.token_urlsafe(9),
            log_path=log_path,
            environment={
                **os.environ,
                "DATABASE_URL": database_url,
                "REDIS_URL": redis_url,
                "GITHUB_API_URL": sandbox.url,
                "DEBUG": "1",
                "PYTHONUNBUFFERED": "1",
            },
        )
        get_user_model().objects.create_superuser(USERNAME, password=opened.password)
        log = stack.enter_context(log_path.open("w"))
        stack.enter_context(_run_processes(port, opened.environment, log))
        wait_for(lambda: _is_ready(opened.web_url), f"the web server to answer (see {log_path})")
        yield opened


def wait_for(is_true: Callable[[], bool], what: str) -> None:
    """Check five times a second whether another process has done its part.

    Raises DemoError after two minutes.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise DemoError(f"Waited {PATIENCE_SECONDS} s in vain for {what}.")
        time.sleep(0.2)


def _point_settings(*, redis_url: str, api_url: str) -> None:
    """Let this process use the same Redis and GitHub as the others, by its settings."""
    settings.METRICS_SYNC_GITHUB_API_URL = api_url
    for queue in settings.RQ_QUEUES.values():
        queue["URL"] = redis_url


@contextmanager
def _open_database(folder: Path) -> Iterator[str]:
    """Create an empty, migrated database next to the configured one, and yield its URL."""
    is_sqlite = connection.vendor == "sqlite"
    before = str(connection.settings_dict["NAME"])
    # A new name, because an existing database is not ours to empty.
    name = str(folder / "demo.sqlite3") if is_sqlite else f"{before}_demo_{secrets.token_hex(4)}"
    connection.settings_dict["TEST"]["NAME"] = name
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        if is_sqlite:
            yield f"sqlite:///{name}"
        else:
            yield urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}").geturl()
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


def _find_port() -> int:
    """Return PORT (8000) if nobody listens there, else any free port."""
    for port in (int(os.environ.get("PORT", "8000")), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise DemoError("There is no free port on 127.0.0.1.")


@contextmanager
def _run_processes(port: int, environment: dict[str, str], log: IO[str]) -> Iterator[None]:
    """Run the Procfile's processes during the block; then end them and their children."""
    web = [sys.executable, "-m", "gunicorn", "project.asgi", "--config", "python:project.serving"]
    environment = {**environment, "PORT": str(port), "BIND": "127.0.0.1", "WEB_CONCURRENCY": "1"}
    commands = [
        web,
        [*MANAGE, "rqworker-pool", "pr-data", "--num-workers", "2"],
        [*MANAGE, "rqworker-pool", "pr-data", "pr-data-bulk", "--num-workers", "1"],
        [*MANAGE, "rqcron", "metrics_sync.cron"],
    ]
    processes = [
        psutil.Popen(command, env=environment, stdout=log, stderr=log, cwd=settings.BASE_DIR)
        for command in commands
    ]
    try:
        yield
    finally:
        family = [child for parent in processes for child in _list_children(parent)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs([*processes, *family], timeout=5)
        for survivor in alive:
            with suppress(psutil.NoSuchProcess):
                survivor.kill()
        psutil.wait_procs(processes, timeout=5)


def kill(process: psutil.Process) -> None:
    """End a process and its children with SIGKILL, as a machine that runs out of memory does."""
    for member in [process, *_list_children(process)]:
        with suppress(psutil.NoSuchProcess):
            member.kill()


def _list_children(process: psutil.Process) -> list[psutil.Process]:
    try:
        children: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return children


def _is_ready(web_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{web_url}/readyz", timeout=5) as response:  # noqa: S310
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
