"""Shows the progress of a long command: a bar on a terminal, else a log line every ten seconds."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TypeVar, cast

from django.core.management.base import OutputWrapper
from django.utils import timezone
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

INTERVAL_SECONDS = 10

#: Loggers that write one line for each row, which is too much for a long command.
LOGGERS_OF_ROWS = (
    "metrics_sync.jobs",
    "metrics_sync.work.queueing",
    "metrics_sync.heal.reconcile",
)


class Meter:
    """Counts and shows the steps of one command, which may have several kinds of steps in turn."""

    def __init__(self, bars: Progress, *, clock: Callable[[], float]) -> None:
        self._bars, self._clock = bars, clock
        self._logged_at = clock()
        self._task: Task | None = None

    def begin(self, what: str, *, total: int | None = None) -> None:
        """Begin to count `what` ("Fetching"), of `total` steps if that is known."""
        task_id = self._bars.add_task(what, total=total, note="")
        self._task = next(task for task in self._bars.tasks if task.id == task_id)

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Count steps; `note` says what else to show ("12 points")."""
        if self._task is None:
            raise ValueError("Call begin() first.")
        self._bars.update(self._task.id, advance=steps, note=note)
        now = self._clock()
        if self._bars.disable and now >= self._logged_at + INTERVAL_SECONDS:
            self._logged_at = now
            logger.info("%s", describe(self._task))

    def track(
        self, items: Iterable[Item], what: str, *, total: int | None = None
    ) -> Iterator[Item]:
        """Yield the items; count each one when the caller asks for the next."""
        self.begin(what, total=total)
        for item in items:
            yield item
            self.advance()


def describe(task: Task) -> str:
    """Describe progress, rate and expected end: `Fetching: 1200 of 5000 (24 %), 120/s, ...`."""
    done = f"{task.completed:.0f}"
    if task.total:
        done += f" of {task.total:.0f} ({task.percentage:.0f} %)"
    parts = [f"{task.description}: {done}"]
    if rate := find_rate(task):
        parts.append(_describe_rate(task))
        if task.remaining:
            until = timezone.now() + timedelta(seconds=task.remaining / rate)
            parts.append(f"until about {until:%Y-%m-%d %H:%M} UTC")
    return ", ".join([*parts, *filter(None, [task.fields.get("note")])])


def find_rate(task: Task) -> float | None:
    """Return steps per second: over the last half minute, or over all if a step takes longer."""
    return task.speed or (task.completed / task.elapsed if task.elapsed else None)


def _describe_rate(task: Task) -> str:
    rate = find_rate(task)
    if not rate:
        return ""
    return f"{rate:.0f}/s" if rate >= 1 else f"{rate * 60:.1f}/min"


class RateColumn(ProgressColumn):
    """Shows the steps per second."""

    def render(self, task: Task) -> Text:
        return Text(_describe_rate(task))


@contextmanager
def show_progress(
    stderr: OutputWrapper, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Meter]:
    """Show the steps of a long command on stderr, in place of a log line for each row."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    loggers = [logging.getLogger(name) for name in LOGGERS_OF_ROWS]
    levels = [row_logger.level for row_logger in loggers]
    for row_logger in loggers:
        row_logger.setLevel(logging.WARNING)
    bars = Progress(
        *columns,
        console=Console(file=cast(IO[str], stderr)),
        disable=not sys.stderr.isatty(),
        get_time=clock,
    )
    try:
        with bars:
            yield Meter(bars, clock=clock)
    finally:
        for row_logger, level in zip(loggers, levels, strict=True):
            row_logger.setLevel(level)
