"""The time, size and queries of the pages with 2,000 and with 50,000 pull requests."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from metrics_sync.models import PullRequest
from tests.benchmarks.figures import Figure
from tests.farm import fill

SIZES = (2_000, 50_000)
ROUNDS = 7
#: The budget of a page: milliseconds and bytes.
USUAL = (300, 250_000)
LARGE = (500, 300_000)
#: The smallest page with the theme; no page can be faster.
FLOOR = "a form of the same site"


@dataclass(frozen=True, slots=True)
class Cost:
    milliseconds: float
    size: int
    queries: int


def measure(stage: Any) -> list[Figure]:
    """Return the server's time, bytes and queries of each page for a superuser.

    The time is that of the whole answer, with database and templates and without the network; the
    smallest page with the same theme is its lower bound.
    """
    if not stage.is_postgresql:
        return [Figure("pages", None, "ms", note="needs PostgreSQL")]
    costs = {rows: _measure_at(rows) for rows in SIZES}
    return [figure for rows, found in costs.items() for figure in _judge(rows, found, costs)]


def _measure_at(rows: int) -> dict[str, Cost]:
    with _open_scratch_database():
        large = fill(rows)
        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        return {name: _measure(client, url) for name, url in list_pages(large).items()}


def list_pages(large: PullRequest) -> dict[str, str]:
    rows = reverse("admin:metrics_sync_pullrequest_changelist")
    return {
        FLOOR: reverse("admin:password_change"),
        "dashboard": reverse("admin:index"),
        "dashboard of a year": f"{reverse('admin:index')}?weeks=52",
        "dashboard by author": f"{reverse('admin:index')}?by=author",
        "dashboard by reviewer": f"{reverse('admin:index')}?by=reviewer",
        # A poll after a change; one that finds none is answered without content.
        "poll of the dashboard": reverse("metrics_sync:dashboard-live"),
        "waiting": reverse("metrics_sync:waiting"),
        "reviewers": reverse("metrics_sync:reviewers"),
        "reviewers of a year": f"{reverse('metrics_sync:reviewers')}?weeks=52",
        "list": rows,
        "search": f"{rows}?q=invoice",
        "search without a match": f"{rows}?q=zzqqxx",
        "search for a number": f"{rows}?q=%23123",
        "large pull request": reverse("admin:metrics_sync_pullrequest_change", args=[large.pk]),
    }


def _measure(client: Client, url: str) -> Cost:
    """Return the median of some requests without the first."""
    client.get(url)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        response = client.get(url)
        times.append((time.perf_counter() - started) * 1000)
        assert response.status_code == 200, response.status_code
    with CaptureQueriesContext(connection) as queries:
        client.get(url)
    return Cost(median(times), len(response.content), len(queries))


def _judge(
    rows: int, costs: dict[str, Cost], all_costs: dict[int, dict[str, Cost]]
) -> Iterator[Figure]:
    floor = costs[FLOOR]
    for name, cost in costs.items():
        if name == FLOOR:
            continue
        what = f"{name}, {rows:,} rows"
        most_ms, most_bytes = LARGE if name.startswith("large") else USUAL
        yield Figure(what, cost.milliseconds, "ms", FLOOR, floor.milliseconds, at_most=most_ms)
        yield Figure(
            what, cost.size / 1000, "KB", FLOOR, floor.size / 1000, at_most=most_bytes / 1000
        )
        fewest = all_costs[SIZES[0]][name].queries
        yield Figure(f"{what}, queries", cost.queries, "", at_most=fewest)


@contextmanager
def _open_scratch_database() -> Iterator[None]:
    before = str(connection.settings_dict["NAME"])
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)
