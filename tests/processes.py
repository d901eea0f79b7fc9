"""Processes that begin with the libraries loaded, which takes two thirds of what a start costs.

A server, which has loaded what others wrote and nothing of ours, forks for each of them. What it
starts has a memory, an environment and an end of its own, as on a command line.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: What can be loaded without settings.
LIBRARIES = [
    "aiohttp.web",
    "cryptography.fernet",
    "cryptography.hazmat.primitives.serialization",
    "csp.constants",
    "django.core.management",
    "django.core.servers.basehttp",
    "django.db.backends.sqlite3.base",
    "django.forms",
    "django.test",
    "django.views.generic",
    "environ",
    "ghapi.core",
    "graphql",
    "httpx2",
    "jwt",
    "logging.config",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "rich.console",
    "rich.table",
    "rq.scheduler",
    "sentry_sdk",
    "stamina",
]

_lock = threading.Lock()


def run_manage(
    *arguments: str, environment: Mapping[str, str], timeout: float
) -> "subprocess.CompletedProcess[str]":
    """Run `manage.py` until it ends."""
    return run_program(ROOT / "manage.py", arguments, environment=environment, timeout=timeout)


def run_program(
    program: Path,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,
    folder: Path = ROOT,
    warnings_are: str = "default",
) -> "subprocess.CompletedProcess[str]":
    """Run a file of Python until it ends, in a folder whose modules come before all others.

    Raises TimeoutExpired, and ends the program, when that takes too long.
    """
    with TemporaryDirectory() as outputs:
        order = {
            "program": str(program),
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "warnings": warnings_are,
            "outputs": outputs,
        }
        status = give(order, timeout)
        out, err = (Path(outputs, name).read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess([str(program), *arguments], status, out, err)


def give(order: dict[str, Any], timeout: float) -> int:
    """Have the server run a program, and return how it ended."""
    with _lock:
        server = start_server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        if select.select([server.stdout], [], [], timeout)[0]:
            return int(server.stdout.readline())
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()
        start_server.cache_clear()
        raise subprocess.TimeoutExpired(order["program"], timeout)


@cache
def start_server() -> "subprocess.Popen[str]":
    """Start the server of this process, which ends with it."""
    environment = {n: v for n, v in os.environ.items() if n != "DJANGO_SETTINGS_MODULE"}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.processes"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # It ends with its input.
    atexit.register(server.communicate)
    return server


def serve() -> None:
    """Fork for each order; what is forked does as it says, and ends as its program does."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        if not (pid := os.fork()):
            become(json.loads(line))
            return
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def become(order: dict[str, Any]) -> None:
    """Be the process that was ordered."""
    outputs = Path(order["outputs"])
    for number, path in enumerate((Path(os.devnull), outputs / "stdout", outputs / "stderr")):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = [order["program"], *order["arguments"]]
    sys.path[0] = order["folder"]
    warnings.simplefilter(order["warnings"])
    runpy.run_path(order["program"], run_name="__main__")


if __name__ == "__main__":
    serve()
