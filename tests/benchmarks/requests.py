"""The number of requests that a pull request costs, and how many of them GitHub counts."""

from metrics_sync.heal.backfilling import REQUESTS_FOR_ONE
from metrics_sync.jobs import fetch_pr_complete_data
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import Stage


def measure(stage: Stage) -> list[Figure]:
    [recording] = stage.take(1)
    row = stage.add_row(recording)
    first, counted = _fetch(stage, row.pk)
    again, counted_again = _fetch(stage, row.pk)
    return [
        Figure(
            "requests, ordinary PR", first, "", "counted by GitHub", counted,
            at_most=REQUESTS_FOR_ONE,
        ),
        Figure("requests counted, second look, same token", counted_again, "", at_most=0),
        Figure("requests sent, second look, same token", again, ""),
    ]  # fmt: skip


def _fetch(stage: Stage, pk: int) -> tuple[int, int]:
    """Return how many requests a fetch sent, and how many GitHub counted against the token."""
    before = stage.count_points()
    result = fetch_pr_complete_data(pk)
    assert isinstance(result, dict), result
    assert not result["errors"], result
    return int(result["requests_made"]), stage.count_points() - before
