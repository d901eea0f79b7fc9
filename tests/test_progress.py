"""The progress of a long command, for readers of logs."""

import io
import logging

import pytest
from django.core.management.base import OutputWrapper

from metrics_sync.management.progress import show_progress


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def list_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_log_has_a_line_every_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can read a hundred thousand lines."""
    clock = Clock()
    with show_progress(OutputWrapper(io.StringIO()), clock=clock) as meter:
        meter.begin("Fetching", total=1000)
        for _ in range(250):
            clock.seconds += 0.1
            meter.advance(note="12 points")

    first, second = list_lines(caplog)
    assert first.startswith("Fetching: 100 of 1000 (10 %), 10/s, until about 20")
    assert first.endswith(" UTC, 12 points")
    assert second.startswith("Fetching: 200 of 1000")


def test_slow_steps_have_a_rate_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A query of GitHub may take longer than the window in which speed is measured."""
    clock = Clock()
    with show_progress(OutputWrapper(io.StringIO()), clock=clock) as meter:
        meter.begin("Asking", total=4)
        clock.seconds += 40
        meter.advance()

    [line] = list_lines(caplog)
    assert line.startswith("Asking: 1 of 4 (25 %), 1.5/min, until about")


def test_lines_of_single_rows_are_left_out_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    """They come back when the command is done."""
    jobs = logging.getLogger("metrics_sync.jobs")
    with show_progress(OutputWrapper(io.StringIO())):
        jobs.info("Fetched acme/anvil#7")
        jobs.warning("No sign of life of acme/anvil#7")
    jobs.info("Fetched acme/anvil#8")

    assert list_lines(caplog) == ["No sign of life of acme/anvil#7", "Fetched acme/anvil#8"]
