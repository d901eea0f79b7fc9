"""Counts what a token may still ask of GitHub in an hour."""

from datetime import UTC, datetime

from metrics_sync.exceptions import BudgetSpentError
from metrics_sync.snapshot import RateLimit, limit_reserve


class Budget:
    """The requests to REST, or the points of GraphQL, that a conversation may still spend.

    GitHub counts the two apart, each for all tokens of a user or of an installation together, so
    a budget is of one of the two. It knows what GitHub stated in the conversation's own answers;
    before the first one nothing is held back. `reserve` is left for merges.
    """

    def __init__(self, *, reserve: int = 0) -> None:
        #: The points that queries cost, by GitHub's answers.
        self.used = 0
        self.rate_limit: RateLimit | None = None
        #: Until when GitHub wants us to ask nothing.
        self.wait_until: datetime | None = None
        self._reserve = reserve
        self._in_flight = 0

    def count_left(self) -> int | None:
        """Count what may be spent now, of a new hour all of it; None while no limit is known."""
        stated = self.rate_limit
        if stated is None:
            return None
        remaining = stated.remaining if stated.resets_at > datetime.now(UTC) else stated.limit
        # What has no answer yet counts as if the last answer did not include it.
        return remaining - self._in_flight - limit_reserve(self._reserve, stated.limit)

    def check(self, cost: int = 1) -> None:
        """Raise BudgetSpentError when so much may not be spent now."""
        now, left = datetime.now(UTC), self.count_left()
        if self.wait_until is not None and self.wait_until > now:
            raise BudgetSpentError.of(self.wait_until)
        if self.rate_limit is not None and left is not None and left < cost:
            raise BudgetSpentError.of(self.rate_limit.resets_at, is_reserve_left=self._reserve > 0)

    async def take(self) -> None:
        """Begin a request. Raises BudgetSpentError: going on asking gets a token banned."""
        self.check()
        self._in_flight += 1

    def end_request(self) -> None:
        """Note that a request has its answer, or will get none."""
        self._in_flight -= 1

    def note(self, stated: RateLimit | None) -> None:
        """Keep what an answer states; of one hour the least, as answers overtake each other."""
        known = self.rate_limit
        if stated is None:
            return
        if known is not None and known.resets_at == stated.resets_at:
            stated = min(stated, known, key=lambda one: one.remaining)
        self.rate_limit = stated
