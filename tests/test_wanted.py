"""The list of what a backfill is to fetch."""

import tracemalloc
from datetime import UTC, datetime, timedelta

from metrics_sync.heal.wanted import Wanted, WantedList
from metrics_sync.sandbox import make_recording
from metrics_sync.snapshot import PullRequestItem, read_pull_request

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def make_wanted(number: int) -> Wanted:
    pull = make_recording("acme/anvil", number).pull | {
        "id": 10**9 + number,
        "title": f"Mend the pump of house {number}",
        "updated_at": (BEGIN + timedelta(minutes=number)).isoformat(),
    }
    item: PullRequestItem = read_pull_request(pull, github_repo="acme/anvil")
    return Wanted(item.github_pr_id, number, item)


def test_list_gives_back_what_was_added_in_its_order() -> None:
    wanted = [make_wanted(number) for number in range(1, 231)]
    missing = WantedList(wanted[:20])
    missing.extend(wanted[20:220])
    missing.extend(wanted[220:])

    assert list(missing) == wanted
    assert len(missing) == 230


def test_batches_go_on_over_the_ends_of_blocks() -> None:
    missing = WantedList(Wanted(10**9 + number, number) for number in range(1, 231))

    batches = list(missing.batched(30))

    assert [len(batch) for batch in batches] == [30] * 7 + [20]
    assert [one.number for batch in batches for one in batch] == list(range(1, 231))
    assert list(WantedList().batched(30)) == []


def test_entry_of_the_list_takes_little_memory() -> None:
    """A repository may have a hundred thousand merges, and a backfill lists them all at first."""
    missing, count = WantedList(), 1000
    tracemalloc.start()
    try:
        for number in range(count):
            missing.extend([make_wanted(number)])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken / count < 500
