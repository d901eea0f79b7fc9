"""The HTTP connections: a pool for each event loop, below one ghapi client for each API root."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import httpx2
from ghapi.all import GhApi

from metrics_sync.github.endpoints import name_endpoint
from metrics_sync.observe import counting

TIMEOUT = httpx2.Timeout(20, connect=5)
HEADERS = {"User-Agent": "metrics_sync", "X-GitHub-Api-Version": "2022-11-28"}
#: Seconds for which an idle connection is kept: shorter than servers keep theirs. A request that
#: finds its connection closed all the same is sent again, over a new one.
KEPT_SECONDS = 30

_current: ContextVar[tuple[httpx2.AsyncClient, httpx2.Auth]] = ContextVar("_current")
#: The pools of the event loops that outlive their conversations.
_kept: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()


class _CurrentPool:
    """Takes the place of ghapi's one HTTP client, and sends each request over the current pool."""

    async def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        client, auth = _current.get()
        outcome = "no answer"
        try:
            response = await client.request(method, url, auth=auth, **options)
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


def _make_client() -> httpx2.AsyncClient:
    """Make a pool of connections, which holds nothing of whoever uses it: no token, no cookie."""
    return httpx2.AsyncClient(
        # Over HTTP/2, where the server speaks it, all requests share one connection.
        http2=True,
        headers=HEADERS,
        timeout=TIMEOUT,
        verify=_tls_context(),
        limits=httpx2.Limits(keepalive_expiry=KEPT_SECONDS),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


@asynccontextmanager
async def keep_connections() -> AsyncIterator[None]:
    """Have all conversations in this event loop share their connections while the block runs."""
    loop = asyncio.get_running_loop()
    async with _make_client() as client:
        _kept[loop] = client
        try:
            yield
        finally:
            del _kept[loop]


@asynccontextmanager
async def open_pool(auth: httpx2.Auth) -> AsyncIterator[None]:
    """Have ghapi send requests as `auth` while the block runs, over the connections of this loop.

    Where none are kept, they are opened for this block alone.
    """
    kept = _kept.get(asyncio.get_running_loop())
    async with nullcontext(kept) if kept else _make_client() as client:
        token = _current.set((client, auth))
        try:
            yield
        finally:
            _current.reset(token)
