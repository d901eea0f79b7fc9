"""The clock's rounds: one process at a time runs each, and its last end is kept in Redis."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis.exceptions import LockError, RedisError
from rq.utils import as_text

from metrics_sync.work.queues import MERGES, get_queue, reaching_redis

logger = logging.getLogger(__name__)

ROUNDS_KEY = "metrics_sync:rounds"


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the clock that came to its end, and what it found."""

    ended_at: datetime
    found: dict[str, int]


@contextmanager
def hold_round(name: str, *, lasts: timedelta) -> Iterator[Callable[[], bool] | None]:
    """Let one process at a time run the named round; yields None when another process runs it.

    Yields a function that says whether to go on, to be called more often than every `lasts`. A
    process that died holds the round for `lasts` at most. One that was slower goes on if no other
    process has begun. Raises QueueUnavailableError.
    """
    lock = get_queue(MERGES).connection.lock(
        f"metrics_sync:round:{name}", timeout=lasts.total_seconds(), blocking=False
    )

    def go_on() -> bool:
        with suppress(RedisError):
            try:
                return bool(lock.reacquire())
            except LockError:
                return bool(lock.acquire())
        return False

    with reaching_redis():
        is_mine = lock.acquire()
    try:
        yield go_on if is_mine else None
    finally:
        if is_mine:
            with suppress(LockError, RedisError):
                lock.release()


def note_round(name: str, **found: int) -> None:
    """Record that a round of the clock came to its end, and what it found; never raises."""
    ended = json.dumps({"at": time.time(), "found": found})
    try:
        get_queue(MERGES).connection.hset(ROUNDS_KEY, name, ended)
    except RedisError as error:
        logger.warning("The end of a round (%s) could not be recorded (%s)", name, error)


def read_rounds() -> dict[str, Round]:
    """Return the last round of each name. Raises QueueUnavailableError."""
    with reaching_redis():
        stored = get_queue(MERGES).connection.hgetall(ROUNDS_KEY)
    ended = {as_text(name): json.loads(text) for name, text in stored.items()}
    return {
        name: Round(datetime.fromtimestamp(entry["at"], UTC), entry["found"])
        for name, entry in ended.items()
    }
