"""The formulas, compared with a second implementation of the page that defines them."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from metrics_sync.metrics import History, measure
from tests.random_histories import histories
from tests.reading import read_metrics

PHASES = [Phase.explicit, Phase.generate, Phase.shrink]


def compare(history: History) -> dict[str, tuple[Any, Any]]:
    """Return the numbers on which the formulas and the second reading disagree."""
    metrics, read = measure(history), read_metrics(history)
    found = {name: (getattr(metrics, name), value) for name, value in read.items()}
    return {name: pair for name, pair in found.items() if not _agree(*pair)}


def _agree(ours: Any, read: Any) -> bool:
    if isinstance(ours, Decimal) and read is not None:
        return abs(float(ours) - read) <= 0.006
    return bool(ours == read)


@settings(phases=PHASES)
@given(histories())
def test_page_reads_as_the_formulas_say(history: History) -> None:
    """A page that leaves a choice is no definition."""
    assert compare(history) == {}


@pytest.mark.long(seconds=30)
@settings(max_examples=1000, phases=PHASES)
@given(histories())
def test_page_reads_as_the_formulas_say_of_many_histories(history: History) -> None:
    """Two readings differ where rules rarely meet."""
    assert compare(history) == {}
