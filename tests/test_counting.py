"""Counting in one process, before anything is saved."""

import os

import pytest

from metrics_sync.observe import counting


def test_same_labels_are_counted_together() -> None:
    """The order in which labels are named must not make two series of one."""
    counting.count("requests", endpoint="user", outcome="200")
    counting.count("requests", 2, outcome="200", endpoint="user")

    series = ("requests", (("endpoint", "user"), ("outcome", "200")))
    assert counting.take() == {series: 3}


def test_what_was_taken_is_counted_once() -> None:
    """Saving twice would double every number."""
    counting.count("merges")

    assert counting.take() == {("merges", ()): 1}
    assert counting.take() == {}


def test_what_could_not_be_saved_stays_and_grows() -> None:
    """Redis may be down for an hour of merges."""
    counting.count("merges")
    taken = counting.take()

    counting.count("merges")
    counting.put_back(taken)

    assert counting.take() == {("merges", ()): 2}


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [
        pytest.param(0, "1", id="at once"),
        pytest.param(60, "60", id="a bound belongs to its bucket"),
        pytest.param(60.1, "300", id="just above"),
        pytest.param(10**6, "+Inf", id="above all bounds"),
    ],
)
def test_duration_falls_into_the_first_bucket_that_holds_it(seconds: float, bound: str) -> None:
    """A minute is the promise, so exactly a minute has kept it."""
    counting.observe("wait", seconds, queue="pr-data")

    queue = ("queue", "pr-data")
    assert counting.take() == {
        ("wait", (("le", bound), queue)): 1,
        ("wait_sum", (queue,)): seconds,
    }


def test_forked_process_begins_at_nothing() -> None:
    """RQ forks for each job: what the parent has counted would be saved with every one of them."""
    counting.count("merges")
    child = os.fork()
    if child == 0:
        os._exit(len(counting.take()))

    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(counting.take()) == 1
