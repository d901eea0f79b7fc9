"""The queries, time and memory that storing takes, for pull requests of every size."""

from collections import defaultdict
from functools import partial
from statistics import median

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.github import GitHub, fetch_snapshot
from metrics_sync.models import PullRequest
from metrics_sync.snapshot import Known, Receipt, Snapshot
from metrics_sync.work.queueing import MERGES, enqueue_fetch
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import SIZES, Stage, wait_for
from tests.benchmarks.worker import read_notes

ROUNDS = 5
QUERIES = 25
MEMORY_MB = 150
#: Three sizes; the third must not take more than the first two predict by linear growth.
GROWING = {300: "300 files", 1000: "1,000 files", 3000: "3,000 files"}
#: The difference in memory between two forks that do the same.
TOLERANCE = 1.05
#: The sizes that have figures of their own.
KINDS = ("ordinary", "large", "capped")


def measure(stage: Stage) -> list[Figure]:
    figures = [_count_queries(stage, name) for name in KINDS]
    seconds, memory = _run(stage)
    figures += [
        Figure(
            f"work-horse's memory, {name} PR", median(memory[name]), "MB",
            "ordinary PR", median(memory["ordinary"]), at_most=MEMORY_MB,
        )
        for name in KINDS
    ]  # fmt: skip
    times = {name: median(values) * 1000 for name, values in seconds.items()}
    tenfold = 10 * times["300 files"]
    figures += [
        Figure("job's time, 300 files", times["300 files"], "ms", "30 files", times["30 files"]),
        Figure(
            "job's time, 3,000 files", times["3,000 files"], "ms",
            "ten times 300 files", tenfold, at_most=tenfold,
        ),
    ]  # fmt: skip
    line = extend({files: median(memory[name]) for files, name in GROWING.items()})
    figures.append(
        Figure(
            "work-horse's memory, 3,000 files", median(memory["3,000 files"]), "MB",
            "by the line through 300 and 1,000", line, at_most=line * TOLERANCE,
        )
    )  # fmt: skip
    return figures


def extend(values: dict[int, float]) -> float:
    """Return the value for 3,000 files on the line through those for 300 and 1,000.

    Between smaller sizes, memory differs no more than between two equal forks.
    """
    slope = (values[1000] - values[300]) / 700
    return values[1000] + slope * 2000


def _count_queries(stage: Stage, name: str) -> Figure:
    """Count the queries that write a snapshot, count its rows and measure it."""
    row = stage.add_row(stage.sizes[name])
    token = stage.integration.credential.access_token
    snapshot = Access(stage.api_url, token).ask(partial(_fetch, row))
    with CaptureQueriesContext(connection) as queries:
        names, _ = store.save_snapshot(row, snapshot)
        receipt = Receipt.from_json(row.receipt)
        row.receipt = receipt.merge(snapshot.sections, stored=store.count_rows(row)).to_json()
        store.measure_rows(row)
        row.save(update_fields=[*names, "receipt"])
    # SQLite takes a thousand parameters at most, so Django splits long lists there.
    budget = QUERIES if stage.is_postgresql or name == "ordinary" else None
    return Figure(f"queries to store, {name} PR", len(queries), "", at_most=budget)


async def _fetch(row: PullRequest, github: GitHub) -> Snapshot:
    return await fetch_snapshot(
        github,
        row.github_repo,
        row.github_pr_number or 0,
        merged_at=row.merged_at,
        known=Known(),
        now=timezone.now(),
    )


def _run(stage: Stage) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Let a worker fetch each size in turn; return each one's seconds and megabytes."""
    notes = stage.folder / "storing"
    names = []
    with stage.run_worker(notes=notes, most_jobs=1):
        for name in list(SIZES) * ROUNDS:
            row = stage.add_row(stage.sizes[name])
            enqueue_fetch(row, queue_name=MERGES)
            rows = PullRequest.objects.filter(pk=row.pk, sync_status="complete")
            wait_for(rows.exists, f"{name} to be complete")
            stage.wait_until_idle()
            names.append(name)
    seconds, memory = defaultdict(list), defaultdict(list)
    taken = read_notes(notes, "taken")
    for name, moment, marks in zip(names, taken, read_notes(notes, "marks"), strict=True):
        seconds[name].append(marks["save ends"] - moment)
    for name, megabytes in zip(names, read_notes(notes, "max_rss_mb"), strict=True):
        memory[name].append(megabytes)
    return seconds, memory
