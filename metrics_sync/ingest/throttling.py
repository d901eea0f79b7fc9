"""Counts failed signatures for each client and endpoint, in this process alone.

Nothing is written or sent, so that a guess costs us no more than it costs the guesser.

The libraries of the field do something else. django-axes counts sign-ins and writes a row for
each, django-ninja's throttles count good requests, too, and django-ratelimit needs a cache server.
"""

from django.core.cache.backends.locmem import LocMemCache

#: More failures than this of one client at one endpoint within WINDOW_SECONDS are answered 429.
MOST_FAILURES = 30
WINDOW_SECONDS = 60

#: Bounded in size, and not one of the project's caches, which may be on a server.
_failures = LocMemCache("metrics_sync.ingest.throttling", {"OPTIONS": {"MAX_ENTRIES": 10_000}})


def note_failure(client: str, endpoint: str) -> bool:
    """Count a failure, and return whether the client has had too many.

    Only failures may be answered 429: a client's good deliveries must be accepted all the same.
    All of GitHub's deliveries come from a few addresses, and behind a proxy all have one address.
    """
    key = f"{client}/{endpoint}"
    _failures.add(key, 0, WINDOW_SECONDS)
    try:
        return _failures.incr(key) > MOST_FAILURES
    except ValueError:
        # The window ended between the two lines.
        return False


def forget() -> None:
    """Forget all failures."""
    _failures.clear()
