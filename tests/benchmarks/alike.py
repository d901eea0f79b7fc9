"""Serves a GitHub of pull requests that differ in ids, numbers and heads alone, so that all fit.

`python -m tests.benchmarks.alike PORT AMOUNT`.
"""

import signal
import sys
from dataclasses import replace

from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token, World, make_recording
from metrics_sync.sandbox.shapes import make_sha

REPOSITORY = "bench/growth"


def serve(port: int, amount: int) -> None:
    """Serve until the process is ended."""
    world = World(tokens=[Token(DEFAULT_TOKEN, limit_per_window=10**6)])
    one = make_recording(REPOSITORY, 1)
    *earlier, last = one.commits
    for number in range(1, amount + 1):
        # With one head for all, this server would search all of them for the checks of each.
        head = {"sha": make_sha(REPOSITORY, number)}
        changes = {"number": number, "id": 10**9 + number, "head": one.pull["head"] | head}
        commits = [*earlier, last | head]
        world.add(replace(one, number=number, pull=one.pull | changes, commits=commits))
    SandboxServer(world, port=port).start()
    signal.pause()


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
