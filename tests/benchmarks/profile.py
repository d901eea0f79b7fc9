"""The processor time and the queries of one ordinary pull request, by kind of work."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from cProfile import Profile
from dataclasses import dataclass
from pathlib import Path
from pstats import Stats
from typing import Any

from django.db import connection

from metrics_sync.github import prepare_api
from metrics_sync.jobs import fetch_pr_complete_data
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage

ROUNDS = 20
#: Packages by their purpose; the rest counts as "other".
PARTS = {
    "HTTP (httpx2, httpcore2, h11, anyio)": ("httpx2", "httpcore2", "h11", "anyio"),
    "ghapi and what it stands on": ("ghapi", "fastcore", "fastspec", "fasttransport"),
    "retries (stamina, tenacity)": ("stamina", "tenacity"),
    "event loop (asyncio, sockets)": ("asyncio", "selectors.py", "socket.py"),
    "Django": ("django",),
    "database driver": ("psycopg", "psycopg_binary", "sqlite3"),
    "metrics_sync": ("metrics_sync",),
    "JSON": ("json",),
}
#: Calls into C have no file, so their names decide.
BUILT_IN = {
    "socket": "event loop (asyncio, sockets)",
    "epoll": "event loop (asyncio, sockets)",
    "asyncio": "event loop (asyncio, sockets)",
    "sqlite": "database driver",
    "psycopg": "database driver",
    "json": "JSON",
    "scan_once": "JSON",
}
#: Functions in which a thread only waits.
WAITING = ("poll", "acquire", "start_new_thread")


def measure(stage: Stage) -> list[Figure]:
    """Fetch in this process, which has everything loaded; the cost of a fork is not included."""
    prepare_api(stage.api_url)
    _fetch(stage, 3)
    watched = Watched()
    started, cpu_started = time.perf_counter(), time.process_time()
    with connection.execute_wrapper(watched):
        _fetch(stage, ROUNDS)
    cpu, wall = time.process_time() - cpu_started, time.perf_counter() - started
    shares = _share_out(_profile(stage))
    total = sum(shares.values())
    spent = [Figure(f"CPU: {part}", 100 * share / total, "%") for part, share in shares.items()]
    wall_ms = wall * 1000 / ROUNDS
    return [
        Figure("CPU of a fetch, warm", cpu * 1000 / ROUNDS, "ms", "by the clock", wall_ms),
        Figure("database's part, by the clock", watched.seconds * 1000 / ROUNDS, "ms"),
        Figure("queries of a fetch, all of them", watched.queries / ROUNDS, ""),
        *sorted(spent, key=lambda figure: -(figure.measured or 0)),
    ]


@dataclass(slots=True)
class Watched:
    """Counts the queries that are executed through it, and their seconds."""

    seconds: float = 0
    queries: int = 0

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.seconds += time.perf_counter() - started
            self.queries += 1


def _fetch(stage: Stage, amount: int) -> None:
    for recording in stage.take(amount):
        fetch_pr_complete_data(stage.add_row(recording).pk)


def _profile(stage: Stage) -> Stats:
    """Profile fetches in this thread and in the threads that run their event loop."""
    profiles = [Profile()]

    def join(*_: Any) -> None:
        profiles.append(Profile())
        profiles[-1].enable()

    threading.setprofile(join)
    profiles[0].enable()
    try:
        _fetch(stage, ROUNDS)
    finally:
        profiles[0].disable()
        threading.setprofile(None)
    return Stats(*profiles)


def _share_out(stats: Stats) -> Counter[str]:
    """Sum the seconds that functions spent in themselves, by their package's purpose."""
    shares: Counter[str] = Counter()
    for (file, _, name), values in stats.stats.items():  # type: ignore[attr-defined]
        if any(word in name for word in WAITING):
            continue
        shares[_find_part(file, name)] += values[2]
    return shares


def _find_part(file: str, name: str) -> str:
    names = set(Path(file).parts)
    for part, packages in PARTS.items():
        if names & set(packages):
            return part
    return next((part for word, part in BUILT_IN.items() if word in name), "other, C and Python")
