"""Where to ask GitHub, as whom, and what it said of that token, shared by all workers."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.utils import timezone

from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.github import GitHub
from metrics_sync.models import IntegrationCredential, TrackedRepository
from metrics_sync.snapshot import RateLimit

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Access:
    """Where to ask, and as whom. `credential` is None for a token of the environment.

    Bulk work (`is_bulk`) leaves the reserve of the token's budget for merges.
    """

    api_url: str
    #: Not in the repr, which error reports show.
    token: str = field(repr=False)
    credential: IntegrationCredential | None = None
    is_bulk: bool = False

    @classmethod
    def of(cls, repository: TrackedRepository, *, is_bulk: bool) -> Self:
        """Return a tracked repository's access. Raises DecryptionError."""
        integration = repository.integration
        return cls(
            api_url=integration.get_api_root(),
            token=integration.credential.access_token,
            credential=integration.credential,
            is_bulk=is_bulk,
        )

    def check(self) -> None:
        """Refuse to ask what GitHub is known to refuse.

        Raises CredentialRejectedError or BudgetSpentError.
        """
        if self.credential is None:
            return
        if revoked_at := self.credential.revoked_at:
            raise CredentialRejectedError(
                f"GitHub refused the token on {revoked_at:%Y-%m-%d %H:%M} UTC; "
                "store a new one with `manage.py connect`"
            )
        if self.credential.find_pause(is_bulk=self.is_bulk):
            raise _make_budget_error(self.credential, is_bulk=self.is_bulk)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[GitHub]:
        """Yield the API as this token sees it, asked more carefully after a secondary limit.

        The conversation has its part of the token's budget, and what GitHub says of the budget
        is shared with all workers at its end. Run it with `async_to_sync`, which has the
        database asked on the caller's own connection.
        """
        credential = self.credential
        lease = Lease(credential, is_bulk=self.is_bulk) if credential else None
        is_careful = credential is not None and credential.is_careful
        github = GitHub(
            api_url=self.api_url,
            token=self.token,
            take_request=lease.take if lease else None,
            is_careful=is_careful,
        )
        async with github:
            try:
                yield github
            finally:
                if lease is not None:
                    await sync_to_async(lease.settle)(github.rate_limit)

    def note(self, errors: Iterable[Exception]) -> None:
        """Let every worker know what GitHub refused; writes the credential at once."""
        if self.credential is None:
            return
        errors = list(errors)
        limits = [error for error in errors if isinstance(error, RateLimitedError)]
        if told := [error for error in limits if not isinstance(error, BudgetSpentError)]:
            latest = max(told, key=lambda error: error.until)
            is_secondary = isinstance(latest, SecondaryLimitError)
            self.credential.note_pause(until=latest.until, is_secondary=is_secondary)
        if any(isinstance(error, CredentialRejectedError) for error in errors):
            self.credential.mark_revoked(token=self.token)

    def ask(self, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
        """Have a conversation with GitHub, and note what it said of the token.

        Raises GitHubError, without asking if it is known what GitHub would say.
        """
        self.check()
        try:
            return async_to_sync(self._converse)(question)
        except GitHubError as error:
            self.note([error])
            raise

    async def _converse(self, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
        async with self.open() as github:
            return await question(github)


class Lease:
    """The part of a token's budget that is set aside for one conversation.

    It grows when it is used up, and is given back in the end. Without an end while GitHub has
    not said that there is a limit.
    """

    def __init__(self, credential: IntegrationCredential, *, is_bulk: bool) -> None:
        self._credential, self._is_bulk = credential, is_bulk
        self._size, self._left = 0, 0.0
        self._extending = asyncio.Lock()

    async def take(self) -> None:
        """Take one request out of the lease. Raises BudgetSpentError when none is to be had."""
        async with self._extending:
            if self._left < 1 or self._has_ended():
                await sync_to_async(self._extend)()
            self._left -= 1

    def _has_ended(self) -> bool:
        """Whether the window is over that the lease belongs to."""
        resets_at = self._credential.rate_limit_resets_at
        return resets_at is not None and resets_at <= timezone.now()

    def _extend(self) -> None:
        self._left, credential = 0, self._credential
        if credential.rate_limit is None:
            self._left = math.inf
            return
        if self._has_ended():
            self._size = 0
        if not credential.has_plenty(is_bulk=self._is_bulk):
            if not credential.lease_requests(is_bulk=self._is_bulk):
                raise _make_budget_error(credential, is_bulk=self._is_bulk)
            self._size += credential.lease_size
        self._left = credential.lease_size

    def settle(self, stated: RateLimit | None) -> None:
        """Give the lease back, and share what GitHub stated last."""
        size = 0 if self._has_ended() else self._size
        if size or stated is not None:
            self._credential.settle_lease(size, stated=stated)


def _make_budget_error(credential: IntegrationCredential, *, is_bulk: bool) -> BudgetSpentError:
    until = credential.find_pause(is_bulk=is_bulk) or timezone.now() + timedelta(seconds=1)
    what = "only the reserve for merges is left" if is_bulk else "the rate limit is used up"
    return BudgetSpentError(f"{what} until {until:%H:%M:%S} UTC", until=until)
