"""Puts the token into every request, and gets a new one when GitHub refuses it."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx2


class TokenAuth(httpx2.Auth):
    """Puts a token into each request; after a 401 it gets a new one from `renew`, once.

    Only tokens of a GitHub App can be renewed. Requests that were refused together wait for one
    renewal; an error that it raises goes to all of them.
    """

    def __init__(self, token: str, *, renew: Callable[[], Awaitable[str]] | None = None) -> None:
        self._token, self._renew = token, renew
        self._renewal: asyncio.Future[str] | None = None
        self._renewed: str | None = None

    def make_fingerprint(self) -> str:
        """Return a salted hash of the token, too short to reveal it."""
        return _hash(self._token, salt=secrets.token_hex(8))

    def recognizes(self, fingerprint: str) -> bool:
        """Whether a fingerprint was made from the present token."""
        salt, _, _ = fingerprint.partition(":")
        return hmac.compare_digest(fingerprint, _hash(self._token, salt=salt))

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        used = self._token
        if used:
            request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code == 401 and self._renew is not None and used != self._renewed:
            if self._renewal is None:
                self._renewal = asyncio.ensure_future(self._renew())
            self._token = self._renewed = await asyncio.shield(self._renewal)
            request.headers["Authorization"] = f"Bearer {self._token}"
            yield request


def _hash(token: str, *, salt: str) -> str:
    return f"{salt}:{hashlib.sha256(f'{salt}:{token}'.encode()).hexdigest()[:16]}"
