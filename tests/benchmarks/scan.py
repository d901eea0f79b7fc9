"""Reconcile's scan of a million pull requests, beside the same scan without indexes."""

import time
from statistics import median

from django.db import connection
from django.utils import timezone

from metrics_sync.heal.finding import Reason, Scope, _select, find_dropped, narrow
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.snapshot import Section
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage, open_database
from tests.factories import PRCheckRunFactory, PullRequestFactory, TrackedRepositoryFactory

ROWS = 1_000_000
ROUNDS = 3
BUDGET_MS = 1000

#: The columns that differ between rows, as SQL of the row's number. The scan must find 1 in 500.
VARYING = {
    "github_pr_id": "n",
    "github_pr_number": "CASE WHEN n % 20000 = 0 THEN NULL ELSE n END",
    "merged_at": "CASE WHEN n % 10 = 0 THEN NULL ELSE now() - n * interval '1 minute' END",
    "state": "CASE WHEN n % 10 = 0 THEN 'open' ELSE 'merged' END",
    "queued_at": "now() - interval '1 day'",
    "fetch_started_at": "now() - interval '1 day'",
    "refetch_at": "CASE WHEN n % 5000 = 7 THEN now() ELSE now() + interval '1 day' END",
    "sync_status": """CASE WHEN n % 10 = 0 THEN 'idle'
        WHEN n % 2000 = 1 THEN 'failed' WHEN n % 2000 = 2 THEN 'partial'
        WHEN n % 5000 = 3 THEN 'pending' WHEN n % 5000 = 4 THEN 'untracked'
        WHEN n % 20000 = 5 THEN 'queued' WHEN n % 20000 = 6 THEN 'running'
        ELSE 'complete' END""",
}
RUNNING = "CASE WHEN n % 10000 = 9 THEN 'in_progress' ELSE 'completed' END"


def measure(stage: Stage) -> list[Figure]:
    name = "reconcile's scan of 1,000,000 PRs"
    if not stage.is_postgresql:
        return [Figure(name, None, "ms", at_most=BUDGET_MS, note="needs PostgreSQL")]
    with open_database(stage.folder, "scan"):
        _fill()
        return _measure(name)


def _measure(name: str) -> list[Figure]:
    ours, floor, bare = [], [], {reason: [] for reason in Reason}
    for _ in range(ROUNDS):
        ours.append(_time(Scope()))
        with connection.cursor() as cursor:
            cursor.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
            cursor.execute("SET enable_indexonlyscan = off")
            floor.append(_time(Scope()))
            cursor.execute("RESET ALL")
        for reason in Reason:
            bare[reason].append(_time(Scope(only=[reason])))
    found = len(find_dropped(Scope()))
    return [
        Figure(
            f"{name}: {found:,} found", median(ours), "ms",
            "without indexes", median(floor), at_most=BUDGET_MS,
        ),
        *(Figure(f"of which {reason}", median(times), "ms") for reason, times in bare.items()),
        Figure("disk of a PR's own row and its indexes", _measure_row() / 1024, "KiB"),
        Figure("tables of a million rows read whole", _count_whole_reads(), "", at_most=0),
    ]  # fmt: skip


def _fill() -> None:
    """Write a complete pull request with its check run, and a million copies of it."""
    repository = TrackedRepositoryFactory(full_name="bench/load")
    receipt = {section: {"stated": 3, "stored": 3, "result": "verified"} for section in Section}
    page = ["https://api.github.com/repositories/100000/pulls/1/commits?per_page=100", "0" * 64]
    row = PullRequestFactory(
        team=repository.team,
        github_repo="bench/load",
        receipt=receipt,
        etags={section: [page] for section in Section},
        github_pr_number=2 * ROWS,
    )
    check_run = PRCheckRunFactory(pull_request=row)
    with connection.cursor() as cursor:
        for made, varying in (
            (row, {**VARYING, "id": "n + 1000000"}),
            (check_run, {"pull_request_id": "n + 1000000", "status": RUNNING}),
        ):
            table = made._meta.db_table
            columns = [f.column for f in made._meta.concrete_fields if f.column != "id"]
            columns += ["id"] if "id" in varying else []
            values = [varying.get(column, f"made.{column}") for column in columns]
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "  # noqa: S608
                f"FROM {table} AS made, generate_series(1, {ROWS}) AS n WHERE made.id = {made.pk}"
            )
            cursor.execute(f"VACUUM ANALYZE {table}")


def _time(scope: Scope) -> float:
    started = time.perf_counter()
    find_dropped(scope)
    return (time.perf_counter() - started) * 1000


def _measure_row() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('metrics_sync_pullrequest')")
        return float(cursor.fetchone()[0]) / ROWS


def _count_whole_reads() -> int:
    """Count the sequential scans of large tables in the plans of all searches."""
    plans = []
    for reason in Reason:
        rows = _select(Scope(), reason)
        if isinstance(rows, PullRequestQuerySet):
            plans.append(rows.explain())
    moment = timezone.now()
    plans += [narrow(Scope()).silent_since(moment).explain()]
    plans += [narrow(Scope()).queued_before(moment).explain()]
    return sum(
        plan.count(f"Seq Scan on metrics_sync_{table}")
        for plan in plans
        for table in ("pullrequest", "prcheckrun")
    )
