"""The queues and their Redis; the only module that knows django_rq."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import django_rq
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as RedisRetry
from rq import Queue

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.jobs import BULK, MERGES

__all__ = ["BULK", "MERGES", "get_queue", "ping", "reaching_redis"]


def get_queue(name: str) -> Queue:
    """Return the queue of that name, over this process's own connection to Redis.

    Raises QueueUnavailableError when RQ_QUEUES does not say where that Redis is.
    """
    try:
        return _open_queue(name, repr(settings.RQ_QUEUES[name]))
    except (KeyError, ValueError) as error:
        # What django-rq lacks, or the scheme of a URL that is not Redis's.
        raise QueueUnavailableError(
            f"RQ_QUEUES does not say where the Redis of {name} is ({error})."
        ) from error


@cache
def _open_queue(name: str, _configured: str) -> Queue:
    """Open a queue whose connection stays open, is opened again if Redis closed it, and fails fast.

    A webhook's answer must not wait for Redis.
    """
    # At once, whatever the project's COMMIT_MODE: jobs are enqueued after the commit, and a row
    # must be handed back when Redis does not answer.
    queue = django_rq.get_queue(name, commit_mode="auto")
    queue.connection.set_retry(RedisRetry(NoBackoff(), 0))
    return queue


@contextmanager
def reaching_redis() -> Iterator[None]:
    """Raise QueueUnavailableError when Redis does not answer inside the block."""
    try:
        yield
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def ping() -> None:
    """Check that Redis answers. Raises QueueUnavailableError."""
    with reaching_redis():
        get_queue(MERGES).connection.ping()
