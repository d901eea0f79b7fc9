"""Counts what happens in this process, until `counts.save_counts` adds it up in Redis.

Workers fork processes for jobs and gunicorn runs several, so each process counts only a part, and
its counts are lost when it ends. Counting itself sends nothing and waits for nothing.

The counters of prometheus_client cannot do this. Its multiprocess mode keeps a file for each
process in one directory: web and workers may be on different machines, and a file for each job
would have to be kept, and read at each scrape, for ever.
https://prometheus.github.io/client_python/multiprocess/
"""

import os
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

#: A counter's name and its labels, sorted.
Series = tuple[str, tuple[tuple[str, str], ...]]

#: Upper bounds of the times until a pull request is complete, in seconds: the budgets of a
#: minute and five minutes, a lost webhook's hour, and a day.
SECONDS: Final[Sequence[float]] = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 86400)

_lock = threading.Lock()
_counts: defaultdict[Series, float] = defaultdict(float)


def count(name: str, amount: float = 1, /, **labels: str) -> None:
    """Add to a counter. Labels must have few values: each combination is kept for ever."""
    with _lock:
        _counts[name, tuple(sorted(labels.items()))] += amount


def observe(name: str, seconds: float, /, **labels: str) -> None:
    """Add a duration to a histogram: to its sum, and to the first of SECONDS that it fits."""
    bound = next((bound for bound in SECONDS if seconds <= bound), "+Inf")
    count(name, le=str(bound), **labels)
    count(f"{name}_sum", seconds, **labels)


def take() -> dict[Series, float]:
    """Return what was counted since the last call, and start again from zero."""
    global _counts
    with _lock:
        taken, _counts = _counts, defaultdict(float)
    return taken


def put_back(counts: Mapping[Series, float]) -> None:
    """Return counts that could not be saved, so that the next `take` includes them."""
    with _lock:
        for series, amount in counts.items():
            _counts[series] += amount


def _forget() -> None:
    """Start a forked process from zero: the parent saves its own counts."""
    global _lock, _counts
    _lock, _counts = threading.Lock(), defaultdict(float)


os.register_at_fork(after_in_child=_forget)
