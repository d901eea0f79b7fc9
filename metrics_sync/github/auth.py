"""Who asks: a token in every request, and once a new one when GitHub refuses it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx2


class TokenAuth(httpx2.Auth):
    """Puts a token into each request; of a GitHub App's it gets a new one after a 401, once.

    `renew` returns the new token. Requests that were refused together wait for one renewal.
    What it raises goes to whoever asked.
    """

    def __init__(self, token: str, *, renew: Callable[[], Awaitable[str]] | None = None) -> None:
        self._token, self._renew = token, renew
        self._lock = asyncio.Lock()

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        refused = self._token
        if not refused:
            yield request
            return
        request.headers["Authorization"] = f"Bearer {refused}"
        response = yield request
        if response.status_code != 401 or not await self._find_other(refused):
            return
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    async def _find_other(self, refused: str) -> bool:
        """Whether there is another token than the refused one, made now if it has to be."""
        async with self._lock:
            if self._token == refused and self._renew is not None:
                renew, self._renew = self._renew, None
                self._token = await renew()
            return self._token != refused
