"""The cost of a pull request fetched in bulk, and pull requests per second, beside REST."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from django.conf import settings

from metrics_sync.heal.backfilling import REQUESTS_FOR_ONE, Backfill
from metrics_sync.heal.wanted import WantedList
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.sandbox.broker import find_free_port
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage, answers, wait_for

BULK, ONE_BY_ONE = 100, 20
POINTS, REQUESTS, A_SECOND = 0.4, 0.5, 100
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def measure(stage: Stage) -> list[Figure]:
    """Fetch a hundred in bulk, with the listing of their whole repository, and twenty by REST.

    They are fetched in bulk twice. The first time counts what it costs; the second time GitHub's
    answers come from memory, so that the rate is that of our own processor and database.
    """
    numbers = {recording.number for recording in stage.take(BULK)}
    counted = stage.count_points()
    with _open_replay(stage):
        at_first, backfill = _fetch_in_bulk(numbers)
        requests = (stage.count_points() - counted) / BULK
        PullRequest.objects.filter(github_pr_number__in=numbers).delete()
        in_bulk, _ = _fetch_in_bulk(numbers)
    return [
        Figure(
            "points, ordinary PR in bulk", backfill.points.used / BULK, "",
            "requests of REST", REQUESTS_FOR_ONE, at_most=POINTS,
        ),
        Figure("requests of REST, ordinary PR in bulk", requests, "", at_most=REQUESTS),
        Figure(
            "PRs a second in bulk", in_bulk, "/s",
            "one by one with REST, no queue", _fetch_one_by_one(stage), at_least=A_SECOND,
        ),
        Figure("PRs a second in bulk, the pretend GitHub included", at_first, "/s"),
    ]  # fmt: skip


def _fetch_in_bulk(numbers: Collection[int]) -> tuple[float, Backfill]:
    """Return how many pull requests a second were fetched and stored, and by what."""
    backfill = Backfill(TrackedRepository.objects.get())
    started = time.perf_counter()
    list(backfill.find_missing(since=LONG_AGO))
    backfill.missing = WantedList(one for one in backfill.missing if one.number in numbers)
    list(backfill.fetch())
    assert backfill.tally.fetched == BULK, backfill.tally
    return BULK / (time.perf_counter() - started), backfill


@contextmanager
def _open_replay(stage: Stage) -> Iterator[None]:
    """Have this process ask GitHub through `replay` for the block."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    with stage.run(sys.executable, "-m", "tests.benchmarks.replay", str(port), stage.api_url):
        wait_for(lambda: answers(f"{url}/_sandbox/"), "the pretend GitHub to answer")
        settings.METRICS_SYNC_GITHUB_API_URL = url
        try:
            yield
        finally:
            settings.METRICS_SYNC_GITHUB_API_URL = stage.api_url


def _fetch_one_by_one(stage: Stage) -> float:
    rows = [stage.add_row(recording) for recording in stage.take(ONE_BY_ONE)]
    started = time.perf_counter()
    for row in rows:
        result = fetch_pr_complete_data(row.pk)
        assert isinstance(result, dict), result
        assert not result["errors"], result
    return ONE_BY_ONE / (time.perf_counter() - started)
