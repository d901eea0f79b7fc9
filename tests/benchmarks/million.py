"""What a million older pull requests, with all their lists, cost the work on those of this year."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import DateTimeField, Model
from django.test import Client, override_settings

from metrics_sync.heal.finding import Scope, find_dropped
from metrics_sync.heal.retention import prune
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import FetchRun, PullRequest
from project.databases import find_patience
from tests.benchmarks.figures import Figure
from tests.benchmarks.pages import list_pages
from tests.benchmarks.stage import Stage, connect, open_database
from tests.farm import fill

#: The pull requests of this year, and the years before, to which the complete ones are copied.
RECENT, YEARS = 50_000, 20
OLDER = RECENT * YEARS
ROUNDS = 3
#: Ids of the copies of one year; far more than there are rows.
STEP = 1_000_000_000
#: An index of twenty times as many rows is one level deeper.
MOST_BLOCKS = 1.5
#: Pages whose numbers concern the older ones, too.
OF_ALL = {"dashboard of a year", "list", "search", "reviewers", "reviewers of a year"}


@dataclass(frozen=True, slots=True)
class Cost:
    milliseconds: float
    #: Blocks of 8 KiB that the database touched, in memory or on the disk.
    blocks: float


def measure(stage: Stage) -> list[Figure]:
    """Return the time and the database's blocks of each piece of work, before and after.

    Blocks do not depend on what else the machine does. Takes half an hour and 20 GB.
    """
    if not stage.is_postgresql:
        return [Figure("a million older PRs", None, "ms", note="needs PostgreSQL")]
    with open_database(stage.folder, "million"):
        large = fill(RECENT)
        _add_fetch_runs()
        work = list(_list_work(replace(stage, integration=connect()), large))
        before = {what: _measure(do) for what, do in work}
        children = _add_older()
        after = {what: _measure(do) for what, do in work}
        older = PullRequest.objects.filter(pk__gt=STEP).count()
        size = _read("SELECT pg_database_size(current_database())") / 2**30
    return [
        Figure("older PRs", older, ""),
        Figure("rows in other tables", children, ""),
        Figure("size of the database", size, "GiB"),
        *_compare(before, after),
    ]


def _compare(before: dict[str, Cost], after: dict[str, Cost]) -> Iterator[Figure]:
    beside = f"with {RECENT:,} in all"
    for what, small in before.items():
        large = after[what]
        yield Figure(what, large.milliseconds, "ms", beside, small.milliseconds)
        most = None if what in OF_ALL else small.blocks * MOST_BLOCKS
        yield Figure(f"{what}, blocks", large.blocks, "", beside, small.blocks, at_most=most)


def _list_work(stage: Stage, large: PullRequest) -> Iterator[tuple[str, Callable[[], Any]]]:
    client = Client()
    client.force_login(User.objects.create_superuser("bench"))
    for name, url in list_pages(large).items():
        yield name, partial(client.get, url)
    yield "reconcile's scan", partial(find_dropped, Scope())
    yield "prune of a night", prune
    yield "one fetch", partial(_fetch, stage)


def _fetch(stage: Stage) -> None:
    [recording] = stage.take(1)
    row = stage.add_row(recording)
    fetch_pr_complete_data(row.pk)
    row.refresh_from_db()
    assert row.sync_status == "complete", row.sync_error


def _measure(do: Callable[[], Any]) -> Cost:
    """Return the medians of some rounds without the first."""
    do()
    times, blocks = [], []
    for _ in range(ROUNDS):
        touched, started = _count_blocks(), time.perf_counter()
        do()
        times.append((time.perf_counter() - started) * 1000)
        blocks.append(_count_blocks() - touched)
    return Cost(median(times), median(blocks))


def _count_blocks() -> int:
    """Return the blocks touched so far, after the server has added up those of this session."""
    _read("SELECT pg_stat_force_next_flush()")
    _read("SELECT pg_stat_clear_snapshot()")
    return _read(
        "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
    )


def _read(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def _add_fetch_runs() -> None:
    """Write the last fetch run of each merge, which is kept however old."""
    merged = PullRequest.objects.filter(state="merged", completed_at__isnull=False)
    FetchRun.objects.bulk_create(
        (
            FetchRun(team_id=team, pull_request_id=pk, started_at=at, finished_at=at)
            for pk, team, at in merged.values_list("pk", "team", "completed_at").iterator()
        ),
        batch_size=5_000,
    )


def _add_older() -> int:
    """Copy each complete merge and its lists once for each year; return the number of list rows."""
    lists = [relation.related_model for relation in PullRequest._meta.related_objects]
    with _in_peace():
        for year in range(1, YEARS + 1):
            print(f"  year {year} of {YEARS}", end="\r", flush=True)  # noqa: T201
            _copy(PullRequest, year)
            for model in lists:
                _copy(model, year)
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    return sum(model.objects.count() for model in lists)


@contextmanager
def _in_peace() -> Iterator[None]:
    """Trust what is copied, and let a statement take its time."""
    connection.close()
    with override_settings(DATABASE_PATIENCE=find_patience("migrate", statement_seconds=0)):
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("SET synchronous_commit = off")
            cursor.execute("SET statement_timeout = 0")
        yield
    connection.close()


def _copy(model: type[Model], year: int) -> None:
    """Insert the rows that belong to complete merges again, so many years earlier."""
    fields = model._meta.concrete_fields
    row = "row.id" if model is PullRequest else "row.pull_request_id"
    shifts = {"pull_request_id": f" + {year * STEP}", "github_pr_id": f" + {year * STEP}"}
    shifts["github_pr_number"] = f" + {year * OLDER}"
    if model is PullRequest:
        shifts["id"] = f" + {year * STEP}"
    columns = [field for field in fields if field.column != "id" or model is PullRequest]
    values = [
        f"row.{field.column} - interval '1 year' * {year}"
        if isinstance(field, DateTimeField)
        else f"row.{field.column}{shifts.get(field.column, '')}"
        for field in columns
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model._meta.db_table} ({', '.join(f.column for f in columns)})"  # noqa: S608
            f" SELECT {', '.join(values)} FROM {model._meta.db_table} AS row"
            f" JOIN {PullRequest._meta.db_table} AS pull ON pull.id = {row}"
            f" WHERE pull.id < {STEP} AND pull.sync_status = 'complete'"
        )
