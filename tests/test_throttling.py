"""Repeated failures, as one process counts them."""

from datetime import timedelta

import pytest
import time_machine

from metrics_sync.ingest.throttling import MOST_FAILURES, WINDOW_SECONDS, note_failure
from tests.factories import MERGED_AT

CLIENT, OTHER = "192.0.2.1", "192.0.2.2"


def fail(times: int, *, client: str = CLIENT, endpoint: str = "1") -> bool:
    """Fail that often; return whether the last failure was one too many."""
    return [note_failure(client, endpoint) for _ in range(times)][-1]


@pytest.mark.parametrize(
    ("times", "is_too_much"), [(MOST_FAILURES, False), (MOST_FAILURES + 1, True)]
)
def test_some_failures_are_forgiven(*, times: int, is_too_much: bool) -> None:
    """An operator who sets up a webhook may need a few tries."""
    assert fail(times) is is_too_much


@pytest.mark.parametrize("other", [{"client": OTHER}, {"endpoint": "2"}])
def test_others_are_not_held_to_account(other: dict[str, str]) -> None:
    """One wrong webhook must not throttle another."""
    fail(MOST_FAILURES + 1)

    assert not fail(1, **other)


def test_failures_are_forgotten() -> None:
    """After the secret is corrected, the next mistake counts as the first."""
    with time_machine.travel(MERGED_AT, tick=False) as traveller:
        fail(MOST_FAILURES + 1)
        traveller.shift(timedelta(seconds=WINDOW_SECONDS + 1))

        assert not fail(1)
