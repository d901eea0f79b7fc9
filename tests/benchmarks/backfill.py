"""The cost of a pull request fetched in bulk, and pull requests per second, beside REST."""

import time
from datetime import UTC, datetime

from metrics_sync.heal.backfilling import REQUESTS_FOR_ONE, Backfill
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import TrackedRepository
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage

BULK, ONE_BY_ONE = 100, 20
POINTS, REQUESTS, A_SECOND = 0.4, 0.5, 100
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def measure(stage: Stage) -> list[Figure]:
    """Fetch a hundred in bulk, with the listing of their whole repository, and twenty by REST."""
    backfill = Backfill(TrackedRepository.objects.get())
    numbers = {recording.number for recording in stage.take(BULK)}
    counted = stage.count_points()
    started = time.perf_counter()
    list(backfill.find_missing(since=LONG_AGO))
    backfill.missing = [wanted for wanted in backfill.missing if wanted.number in numbers]
    list(backfill.fetch())
    in_bulk = BULK / (time.perf_counter() - started)
    assert backfill.tally.fetched == BULK, backfill.tally
    points = backfill.points.used / BULK
    requests = (stage.count_points() - counted) / BULK
    return [
        Figure(
            "points, ordinary PR in bulk", points, "",
            "requests of REST", REQUESTS_FOR_ONE, at_most=POINTS,
        ),
        Figure("requests of REST, ordinary PR in bulk", requests, "", at_most=REQUESTS),
        Figure(
            "PRs a second in bulk", in_bulk, "/s",
            "one by one with REST, no queue", _fetch_one_by_one(stage), at_least=A_SECOND,
        ),
    ]  # fmt: skip


def _fetch_one_by_one(stage: Stage) -> float:
    rows = [stage.add_row(recording) for recording in stage.take(ONE_BY_ONE)]
    started = time.perf_counter()
    for row in rows:
        result = fetch_pr_complete_data(row.pk)
        assert isinstance(result, dict), result
        assert not result["errors"], result
    return ONE_BY_ONE / (time.perf_counter() - started)
