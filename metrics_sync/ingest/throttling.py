"""Tells apart who fails now and then from who does nothing else, in this process alone.

Nothing is written and nobody is asked, so that guessing costs us no more than it costs the guesser.
"""

from django.core.cache.backends.locmem import LocMemCache

#: So many failures of one client at one endpoint within so many seconds are answered as such.
MOST_FAILURES = 30
WINDOW_SECONDS = 60

#: Bounded, and not one of the project's caches, which may be on a server.
_failures = LocMemCache("metrics_sync.ingest.throttling", {"OPTIONS": {"MAX_ENTRIES": 10_000}})


def note_failure(client: str, endpoint: str) -> bool:
    """Count a failure; whether it is one too many.

    It says nothing of what the same client does rightly, which must not be refused for it: many
    people's deliveries come from GitHub's few addresses, and behind a proxy all have one.
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
