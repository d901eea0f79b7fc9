"""How the benchmarks judge what they measure."""

from io import StringIO
from pathlib import Path

import pytest

from metrics_sync.models import TrackedRepository, WebhookDelivery
from metrics_sync.sandbox import make_recording
from tests.benchmarks.figures import Figure, find_percentile, write_markdown
from tests.benchmarks.load import KINDS
from tests.benchmarks.stage import REPOSITORY, Stage
from tests.benchmarks.storing import extend
from tests.factories import TrackedRepositoryFactory
from tests.test_deliveries import post


@pytest.mark.parametrize(
    ("measured", "budget", "is_met"),
    [
        (50, {"at_most": 50}, True),
        (51, {"at_most": 50}, False),
        (99, {"at_least": 100}, False),
        (100, {"at_least": 100}, True),
        (7, {}, None),
        (None, {"at_most": 50}, None),
    ],
)
def test_budget_is_judged(
    measured: float | None, budget: dict[str, float], is_met: bool | None
) -> None:
    """A missed budget that reads as met would never be looked at again."""
    assert Figure("p99", measured, "ms", **budget).is_met is is_met


def test_figure_stands_beside_its_floor() -> None:
    """A figure alone says nothing about another machine."""
    figure = Figure("fetch", 120, "ms", "bare calls", 100, at_most=300)

    [*_, row] = write_markdown([figure]).splitlines()

    assert row == "| fetch | 120 ms | 100 ms bare calls | 1.20 | ≤ 300 ms | yes |"


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1, 100)])
def test_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    """The hundredth request of a hundred is the one that people complain about."""
    assert find_percentile([float(n) for n in range(100, 0, -1)], share) == value


def test_line_goes_through_sizes_that_differ_by_more_than_noise() -> None:
    """A slope of noise, ten times as far out, met its budget or not by chance."""
    assert extend({300: 91, 1000: 98}) == 118


@pytest.mark.django_db
def test_row_of_a_benchmark_is_one_that_is_fetched() -> None:
    """A fetch that is refused at once is fast, and measures nothing."""
    repository = TrackedRepositoryFactory(full_name=REPOSITORY)
    stage = Stage({}, "", "", Path(), StringIO(), repository.integration, {})

    row = stage.add_row(make_recording(REPOSITORY, 1))

    assert TrackedRepository.objects.matching(row).get() == repository


@pytest.mark.django_db
@pytest.mark.usefixtures("redis")
def test_deliveries_of_the_load_are_applied() -> None:
    """A delivery that is ignored or refused is fast, and measures nothing."""
    integration = TrackedRepositoryFactory(full_name=REPOSITORY).integration
    recording = make_recording(REPOSITORY, 1)

    for _, build in KINDS.values():
        assert post(integration, build(recording, 100_000)) == 202

    statuses = WebhookDelivery.objects.order_by("pk").values_list("status", flat=True)
    expected = dict.fromkeys(KINDS, "processed") | {"check run": "ignored"}
    assert dict(zip(KINDS, statuses, strict=True)) == expected
