"""Counts each token's requests in windows of time, as GitHub's primary rate limit does."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from metrics_sync.sandbox.world import Token


@dataclass
class Budget:
    """What one token has used of its window; `reset` is a whole second since the epoch."""

    limit: int
    used: int
    reset: int
    resource: str = "core"

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def to_headers(self) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(self.reset),
            "X-RateLimit-Used": str(self.used),
            "X-RateLimit-Resource": self.resource,
        }

    def to_json(self) -> dict[str, int]:
        return {
            "limit": self.limit,
            "used": self.used,
            "remaining": self.remaining,
            "reset": self.reset,
        }


class RateLimits:
    """The budgets of all tokens; used by the server's thread only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budgets: dict[tuple[str, str], Budget] = {}

    def look(self, token: Token, resource: str = "core") -> Budget | None:
        """Return the budget of the current window, or None if this token has no limit.

        REST's requests (`core`) and the points of `graphql` are counted separately.

        A window starts with the first request after the last one ended, and ends on a full
        second, so that a client that waits until the header's second is served.
        """
        if token.limit_per_window is None:
            return None
        now = self._clock()
        key = token.value, resource
        budget = self._budgets.get(key)
        if budget is None or now >= budget.reset:
            reset = math.ceil(now + token.window_seconds)
            budget = Budget(token.limit_per_window, 0, reset, resource)
            self._budgets[key] = budget
        budget.limit = token.limit_per_window
        return budget
