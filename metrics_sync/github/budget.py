"""Counts what a token may still spend of GitHub's hourly rate limit."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock

from metrics_sync.exceptions import BudgetSpentError
from metrics_sync.snapshot import RateLimit, limit_reserve


class Budget:
    """The REST requests, or the GraphQL points, that a conversation may still spend.

    GitHub counts requests and points apart, so each budget counts one of the two. GitHub counts
    them for all tokens of a user together, and states in each answer what is left. Before the
    first answer nothing is held back. Bulk work leaves `reserve` for merges.

    Points are counted here alone, and not on the credential: only a backfill spends them, a few
    with each query, and its next answer states what is left.
    """

    def __init__(self, *, reserve: int = 0) -> None:
        #: The points spent, as GitHub's answers state them.
        self.used = 0
        self.rate_limit: RateLimit | None = None
        #: Until when GitHub wants us to ask nothing.
        self.wait_until: datetime | None = None
        self._reserve = reserve
        self._in_flight = 0
        #: A backfill has conversations in several threads.
        self._lock = Lock()

    def count_left(self) -> int | None:
        """Return how much may be spent now: all of it in a new hour; None if no limit is known."""
        stated = self.rate_limit
        if stated is None:
            return None
        remaining = stated.remaining if stated.resets_at > datetime.now(UTC) else stated.limit
        # The last answer may not include the requests that have no answer yet.
        return remaining - self._in_flight - limit_reserve(self._reserve, stated.limit)

    def check(self, cost: int = 1) -> None:
        """Raise BudgetSpentError when so much may not be spent now."""
        now, left = datetime.now(UTC), self.count_left()
        if self.wait_until is not None and self.wait_until > now:
            raise BudgetSpentError.of(self.wait_until)
        if self.rate_limit is not None and left is not None and left < cost:
            raise BudgetSpentError.of(self.rate_limit.resets_at, is_reserve_left=self._reserve > 0)

    @contextmanager
    def hold(self, cost: int) -> Iterator[None]:
        """Hold back what a query costs at most, for as long as it has no answer.

        The query's request counts for one of it. Raises BudgetSpentError.
        """
        with self._lock:
            self.check(cost)
            self._in_flight += cost - 1
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= cost - 1

    async def begin_request(self) -> None:
        """Count a request that is about to be sent; GitHub bans tokens that go on past the limit.

        Raises BudgetSpentError.
        """
        with self._lock:
            self.check()
            self._in_flight += 1

    def end_request(self) -> None:
        """Note that a request was answered, or failed."""
        with self._lock:
            self._in_flight -= 1

    def add_used(self, points: int) -> None:
        """Count the points that an answer states."""
        with self._lock:
            self.used += points

    def note(self, stated: RateLimit | None) -> None:
        """Keep what an answer states; of one hour the lowest, as answers overtake each other."""
        if stated is None:
            return
        with self._lock:
            known = self.rate_limit
            if known is not None and known.resets_at == stated.resets_at:
                stated = min(stated, known, key=lambda one: one.remaining)
            self.rate_limit = stated
