"""How much a conversation may still spend, by what GitHub stated in it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from metrics_sync.exceptions import BudgetSpentError
from metrics_sync.github import Budget
from metrics_sync.snapshot import RateLimit

HOUR = timedelta(hours=1)


def make(limit: int, remaining: int, *, reserve: int = 0, ends_in: timedelta = HOUR) -> Budget:
    """Make a budget of which GitHub has stated something."""
    budget = Budget(reserve=reserve)
    budget.note(RateLimit(limit, remaining, datetime.now(UTC) + ends_in))
    return budget


@pytest.mark.parametrize(
    ("limit", "remaining", "left"),
    [
        pytest.param(5000, 1009, 9, id="a thousand is the reserve"),
        pytest.param(5000, 900, -100, id="others took of the reserve"),
        pytest.param(60, 21, 9, id="a fifth of a small limit"),
    ],
)
def test_reserve_is_left_for_merges(limit: int, remaining: int, left: int) -> None:
    """Bulk work uses the same token."""
    budget = make(limit, remaining, reserve=1000)

    assert budget.count_left() == left


@pytest.mark.parametrize(
    ("reserve", "reason"), [(1000, "only the reserve for merges"), (0, "the rate limit is used up")]
)
def test_more_than_is_left_is_not_spent(reserve: int, reason: str) -> None:
    """GitHub would refuse the request, and bans clients that go on."""
    budget = make(5000, 8 + reserve, reserve=reserve)

    budget.check(8)
    with pytest.raises(BudgetSpentError, match=reason):
        budget.check(9)


def test_requests_without_an_answer_count_as_spent() -> None:
    """GitHub's last statement does not include them."""
    budget = make(5000, 2)

    async def take_three() -> None:
        for _ in range(3):
            await budget.begin_request()

    with pytest.raises(BudgetSpentError):
        asyncio.run(take_three())
    budget.end_request()
    budget.check()


def test_least_that_is_stated_of_an_hour_counts() -> None:
    """Answers arrive in any order."""
    budget = make(5000, 40)
    resets_at = budget.rate_limit.resets_at if budget.rate_limit else None
    assert resets_at is not None

    budget.note(RateLimit(5000, 45, resets_at))
    budget.note(None)

    assert budget.count_left() == 40


def test_hour_that_has_ended_says_nothing() -> None:
    """Otherwise no request would ever be sent again."""
    budget = make(5000, 0, reserve=1000, ends_in=timedelta(seconds=-1))

    budget.check(9)


def test_nothing_is_asked_while_github_wants_us_to_wait() -> None:
    """The next query may be under way when the last one is refused."""
    budget = Budget()
    budget.wait_until = datetime.now(UTC) + timedelta(minutes=1)

    with pytest.raises(BudgetSpentError):
        budget.check()


def test_nothing_is_held_back_without_limits() -> None:
    """An Enterprise Server without rate limits states none."""
    budget = Budget(reserve=1000)
    budget.note(None)

    assert budget.count_left() is None
    budget.check(10_000)
