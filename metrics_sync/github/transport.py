"""The HTTP connections: a pool for each conversation, below one ghapi client for each API root."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import anyio
import httpx2
from ghapi.all import GhApi

from metrics_sync.github.endpoints import name_endpoint
from metrics_sync.observe import counting

TIMEOUT = httpx2.Timeout(20, connect=5)
HEADERS = {"User-Agent": "metrics_sync", "X-GitHub-Api-Version": "2022-11-28"}


_current: ContextVar[httpx2.AsyncClient] = ContextVar("_current")


class _CurrentPool:
    """Takes the place of ghapi's one HTTP client, and sends each request over the current pool."""

    async def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        outcome = "no answer"
        try:
            response = await _current.get().request(method, url, **options)
            outcome = str(response.status_code)
            return response
        finally:
            counting.count("github_requests", endpoint=name_endpoint(url), outcome=outcome)


@cache
def _tls_context() -> Any:
    return httpx2.create_ssl_context()


def load_http() -> None:
    """Load what httpx2 loads only when it connects, so that a worker's forks need not.

    Must not be called while an event loop runs.
    """
    import h2.connection  # noqa: F401  (for HTTP/2)

    anyio.run(anyio.sleep, 0)


@cache
def prepare_api(api_url: str) -> GhApi:
    """Build ghapi's client for an API root, once per process.

    Building takes 0.15 s (some 1,200 operations), so workers do it before they fork. The client
    has no token: ghapi would take GITHUB_TOKEN of the environment, which may be another team's.
    """
    _tls_context()
    api = GhApi(gh_host=api_url, authenticate=False)  # type: ignore[no-untyped-call]
    api.transport.client = _CurrentPool()
    api.transport.retries = 0
    return api


@asynccontextmanager
async def open_pool(auth: httpx2.Auth) -> AsyncIterator[None]:
    """Have ghapi use a pool of connections of its own while the block runs."""
    # Over HTTP/2, where the server speaks it, all requests share one connection.
    async with httpx2.AsyncClient(
        http2=True, headers=HEADERS, auth=auth, timeout=TIMEOUT, verify=_tls_context()
    ) as client:
        token = _current.set(client)
        try:
            yield
        finally:
            _current.reset(token)
