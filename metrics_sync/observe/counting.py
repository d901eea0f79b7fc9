"""Counts what happens in this process, until `queueing.save_counts` adds it up in Redis.

RQ forks a process for each job and gunicorn runs several, so what one process counts is only a
part, and is gone with it. Counting itself asks nobody and waits for nobody.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

#: A name and its labels, sorted: what is counted apart.
Series = tuple[str, tuple[tuple[str, str], ...]]

#: Upper bounds of the times until a pull request is complete, in seconds: the budgets of a
#: minute and five minutes, a lost webhook's hour, and a day.
SECONDS: Final[Sequence[float]] = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 86400)

_lock = threading.Lock()
_counts: defaultdict[Series, float] = defaultdict(float)


def count(name: str, amount: float = 1, /, **labels: str) -> None:
    """Add to a counter. Labels must have few values: each combination is kept for good."""
    with _lock:
        _counts[name, tuple(sorted(labels.items()))] += amount


def observe(name: str, seconds: float, /, **labels: str) -> None:
    """Add a duration to a histogram: to its sum, and to the first of SECONDS that it fits."""
    bound = next((bound for bound in SECONDS if seconds <= bound), "+Inf")
    count(name, le=str(bound), **labels)
    count(f"{name}_sum", seconds, **labels)


def take() -> dict[Series, float]:
    """Return what was counted since the last time, and begin anew."""
    global _counts
    with _lock:
        taken, _counts = _counts, defaultdict(float)
    return taken


def put_back(counts: Mapping[Series, float]) -> None:
    """Keep what could not be saved for the next time."""
    with _lock:
        for series, amount in counts.items():
            _counts[series] += amount


def _forget() -> None:
    """Let a forked process begin at nothing: its parent saves what it has counted itself."""
    global _lock, _counts
    _lock, _counts = threading.Lock(), defaultdict(float)


os.register_at_fork(after_in_child=_forget)
