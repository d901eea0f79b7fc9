"""The worker of the benchmarks: the real one, which also notes times and its process's memory."""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from django.db import connections
from rq.job import Job
from rq.queue import Queue

from metrics_sync.jobs import running
from metrics_sync.work import horses
from metrics_sync.work.horses import measure_peak
from metrics_sync.work.workers import FetchWorker

#: The file to which it appends a line of JSON for each job.
NOTES = Path(os.environ.get("BENCH_NOTES", os.devnull))
# With 1, each job has its own process, whose memory is the job's.
horses.MOST_JOBS = int(os.environ.get("BENCH_MOST_JOBS", horses.MOST_JOBS))


class MeasuredWorker(FetchWorker):
    """Notes the wall-clock time when a job is taken, begun, fetched, saved and done."""

    marks: dict[str, float]

    def execute_job(self, job: Job, queue: Queue) -> None:
        self._note(taken=time.time())
        super().execute_job(job, queue)

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        self.known_modules = set(sys.modules)
        self.cpu_seconds = time.process_time()
        opened = connections.all(initialized_only=True)
        self._note(inherited=sum(each.connection is not None for each in opened))
        for name in ("run", "save"):
            setattr(running, name, self._mark(name, getattr(running, name)))
        running._fetch = self._mark_fetch(running._fetch)
        super().main_work_horse(job, queue)

    def perform_job(self, *args: Any) -> bool:
        self.marks = {"begun": time.time()}
        done = super().perform_job(*args)
        self.marks["done"] = time.time()
        imported = sorted(set(sys.modules) - self.known_modules)
        self.known_modules |= set(imported)
        before, self.cpu_seconds = self.cpu_seconds, time.process_time()
        self._note(
            marks=self.marks,
            imported=imported,
            cpu_seconds=self.cpu_seconds - before,
            max_rss_mb=measure_peak(),
        )
        return done

    def _mark(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def marked(*args: Any, **options: Any) -> Any:
            self.marks[f"{name} begins"] = time.time()
            try:
                return function(*args, **options)
            finally:
                self.marks[f"{name} ends"] = time.time()

        return marked

    def _mark_fetch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def marked(*args: Any, **options: Any) -> Any:
            self.marks["fetch begins"] = time.time()
            try:
                return await function(*args, **options)
            finally:
                self.marks["fetch ends"] = time.time()

        return marked

    def _note(self, **values: Any) -> None:
        with NOTES.open("a") as notes:
            notes.write(json.dumps(values) + "\n")


def read_notes(path: Path, kind: str) -> list[Any]:
    """Return all values that were noted under a name, oldest first."""
    notes = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [note[kind] for note in notes if kind in note]
