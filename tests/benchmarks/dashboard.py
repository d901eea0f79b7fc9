"""The dashboard over 100,000 pull requests: `python -m tests.benchmarks.dashboard`."""

import html
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from statistics import median
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402  (after the set-up)
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.urls import reverse  # noqa: E402
from django.utils import timezone  # noqa: E402

from metrics_sync.models import PullRequest, Team, TrackedRepository  # noqa: E402
from metrics_sync.snapshot import Section  # noqa: E402
from tests.factories import TrackedRepositoryFactory  # noqa: E402

ROWS = 100_000
TEAMS = 10
#: All of them within the longest period that can be chosen.
SPREAD = timedelta(weeks=50)
ROUNDS = 7
#: What the open page asks with.
POLLED = re.compile(r'/dashboard/live/\?([^"]*seen=\w+)')


def measure() -> dict[str, Any]:
    """Fill a scratch database and read the dashboard several times.

    For each period, in weeks: median milliseconds of the whole page and number of queries, and
    the same for what an open page asks for every three seconds, which is nothing new. The queries
    of an empty database stand beside them.
    """
    with _open_scratch_database():
        client = Client()
        client.force_login(User.objects.create_superuser("bench"))
        index, live = reverse("admin:index"), reverse("metrics_sync:dashboard-live")
        figures = {"vendor": connection.vendor, "queries_without_rows": _measure(client, index)[1]}
        _fill()
        for weeks in (12, 52):
            taken, queries = _measure(client, f"{index}?weeks={weeks}")
            figures[f"weeks_{weeks}"] = {"page_ms": taken, "queries": queries}
            page = client.get(f"{index}?weeks={weeks}").content.decode()
            polled, queries = _measure(client, f"{live}?{html.unescape(POLLED.search(page)[1])}")  # type: ignore[index]
            figures[f"weeks_{weeks}"] |= {"poll_ms": polled, "poll_queries": queries}
        return figures | {"rows": PullRequest.objects.count()}


def _measure(client: Client, url: str) -> tuple[float, int]:
    """Return median milliseconds and the number of queries, the first request left out."""
    client.get(url)
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        response = client.get(url)
        times.append((time.perf_counter() - started) * 1000)
        assert response.status_code in {200, 204}, response.status_code
    with CaptureQueriesContext(connection) as queries:
        client.get(url)
    return round(median(times), 1), len(queries)


@contextmanager
def _open_scratch_database() -> Iterator[None]:
    before = str(connection.settings_dict["NAME"])
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


def _fill() -> None:
    """Write rows as large as real ones, of ten teams; one in 500 is not complete."""
    teams = [
        TrackedRepositoryFactory(full_name=f"bench/repository-{number}").team
        for number in range(TEAMS)
    ]
    connected_at = timezone.now() - SPREAD * 0.9
    TrackedRepository.objects.update(connected_at=connected_at)
    rows = (_make_row(number, teams) for number in range(ROWS))
    PullRequest.objects.bulk_create(rows, batch_size=2_000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _make_row(number: int, teams: list[Team]) -> PullRequest:
    merged_at = timezone.now() - SPREAD * number / ROWS
    is_complete = number % 500 != 0
    return PullRequest(
        team=teams[number % TEAMS],
        github_repo=f"bench/repository-{number % TEAMS}",
        github_pr_id=number,
        github_pr_number=number + 1,
        title=f"Change number {number}",
        author_login="mona",
        state=PullRequest.State.MERGED,
        pr_created_at=merged_at - timedelta(hours=number % 200),
        merged_at=merged_at,
        completed_at=merged_at + timedelta(seconds=number % 90) if is_complete else None,
        sync_status="complete" if is_complete else "partial",
        sync_error="" if is_complete else "reviews: GitHub answered 502",
        receipt={section: {"stated": 3, "stored": 3, "result": "verified"} for section in Section},
        etags={section: ["https://api.github.com/" + 60 * "x", 32 * "0"] for section in Section},
        review_rounds=number % 4,
        avg_fix_response_hours=(number * 7919) % 5_000 / 100,
        review_wait_hours=(number * 104_729) % 7_000 / 100,
        cycle_time_hours=(number * 1_299_709) % 20_000 / 100,
    )


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))  # noqa: T201  (what it is for)
