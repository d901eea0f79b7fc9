"""The cost of a fetch over TLS, with HTTP/2 beside HTTP/1.1."""

import asyncio
import os
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
from django.utils import timezone

from metrics_sync.github import GitHub, fetch_snapshot, transport
from metrics_sync.sandbox import DEFAULT_TOKEN, Recording
from metrics_sync.snapshot import Known
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage, wait_for

ROUNDS = 15
PROTOCOLS = {"HTTP/2": ("h2", "http/1.1"), "HTTP/1.1": ("http/1.1",)}


class Cost(NamedTuple):
    cpu_ms: float
    wall_ms: float
    connections: int


def measure(stage: Stage) -> list[Figure]:
    """Alternate between both, each with a server that accepts only this version."""
    costs = defaultdict(list)
    with ExitStack() as stack:
        folders = {name: _start(stage, stack, name) for name in PROTOCOLS}
        for recording in stage.take(ROUNDS):
            for name, folder in folders.items():
                _trust(folder / "certificate.pem")
                url = (folder / "url").read_text()
                costs[name].append(asyncio.run(_fetch(url, recording)))
    ours, rival = (Cost(*map(median, zip(*costs[name][2:], strict=True))) for name in PROTOCOLS)
    return [
        Figure(f"{what} of a fetch over TLS, HTTP/2", mine, unit, "HTTP/1.1", other)
        for what, unit, mine, other in zip(
            ("CPU", "time", "connections"), ("ms", "ms", ""), ours, rival, strict=True
        )
    ]


def _start(stage: Stage, stack: ExitStack, name: str) -> Path:
    """Start a server; return the folder with its certificate and its address."""
    folder = stage.folder / name.replace("/", "-")
    folder.mkdir()
    command = (sys.executable, "-m", "tests.benchmarks.front", stage.api_url, str(folder))
    stack.enter_context(stage.run(*command, *PROTOCOLS[name]))
    wait_for((folder / "url").exists, f"{name} to be served")
    return folder


def _trust(certificate: Path) -> None:
    os.environ["SSL_CERT_FILE"] = str(certificate)
    transport._tls_context.cache_clear()
    transport._tls_context()


async def _fetch(url: str, recording: Recording) -> Cost:
    started, cpu_started = time.perf_counter(), time.process_time()
    async with GitHub(api_url=url, token=DEFAULT_TOKEN) as github:
        snapshot = await fetch_snapshot(
            github,
            recording.repo,
            recording.number,
            merged_at=None,
            known=Known(),
            now=timezone.now(),
        )
        assert not snapshot.errors, snapshot.errors
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
        port = urlsplit(url).port
        opened = psutil.Process().net_connections()
        connections = sum(bool(each.raddr) and each.raddr.port == port for each in opened)
    return Cost(cpu * 1000, wall * 1000, connections)
