"""Where to ask GitHub, as whom, and what it said of that token, shared by all workers."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Self, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ValidationError
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from metrics_sync.access.tokens import ask_again, find_token, make_renewal, replace_token
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    RateLimitedError,
    SecondaryLimitError,
    UnsafeAddressError,
)
from metrics_sync.github import GitHub
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    RequestLease,
    TrackedRepository,
)
from metrics_sync.models.integrations import validate_api_root
from metrics_sync.snapshot import RateLimit

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")

#: How often a conversation looks whether others were told to wait.
LOOK_EVERY_SECONDS = 10


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
        """Return a tracked repository's access, with a token that is good for some minutes.

        Raises DecryptionError, UnsafeAddressError, and for a GitHub App what GitHub says to the
        request for a new token.
        """
        integration = repository.integration
        _check_api_root(integration)
        api_url, credential = integration.get_api_root(), integration.credential
        token = find_token(credential, api_url=api_url)
        return cls(api_url=api_url, token=token, credential=credential, is_bulk=is_bulk)

    def check(self) -> None:
        """Refuse to ask what GitHub is known to refuse.

        Raises CredentialRejectedError or BudgetSpentError.
        """
        self.check_token()
        if self.credential and self.credential.find_pause(is_bulk=self.is_bulk):
            raise _make_budget_error(self.credential, is_bulk=self.is_bulk)

    def check_token(self) -> None:
        """Raise CredentialRejectedError when GitHub has refused the token already."""
        if self.credential and (revoked_at := self.credential.revoked_at):
            raise CredentialRejectedError(
                f"GitHub refused the token on {revoked_at:%Y-%m-%d %H:%M} UTC; "
                "store a new one with `manage.py connect`"
            )

    @contextmanager
    def open(self) -> Iterator[GitHub]:
        """Yield the API as this token sees it, asked more carefully after a secondary limit.

        Enter it in a coroutine that `converse` runs. It has its part of the token's budget; at
        the end of the block, what GitHub said of the budget is shared with all workers.
        """
        credential = self.credential
        lease = Lease(credential, is_bulk=self.is_bulk) if credential else None
        github = GitHub(
            api_url=self.api_url,
            token=self.token,
            renew=make_renewal(credential, api_url=self.api_url) if credential else None,
            take_request=lease.take if lease else None,
            is_careful=credential is not None and credential.is_careful,
        )
        try:
            yield github
        finally:
            if lease is not None:
                lease.end(github.rate_limit)

    def renew(self) -> bool:
        """Get an App's installation another token than the refused one; False for other tokens."""
        if self.credential is None or self.credential.kind != self.credential.Kind.APP:
            return False
        replace_token(self.credential, api_url=self.api_url)
        return True

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
            with self.open() as github:
                return converse(_ask, github, question)
        except GitHubError as error:
            self.note([error])
            raise


def is_accepted_again(integration: GitHubIntegration) -> bool:
    """Whether GitHub accepts an integration's credential that it refused before; notes it if so.

    One request, which costs nothing. Raises MetricsSyncError when it stays unknown.
    """
    _check_api_root(integration)
    credential = integration.credential
    if not ask_again(credential, api_url=integration.get_api_root()):
        return False
    credential.mark_accepted()
    return True


async def _ask(github: GitHub, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
    async with github:
        return await question(github)


def converse(
    conversation: Callable[Parameters, Awaitable[Answer]],
    *args: Parameters.args,
    **options: Parameters.kwargs,
) -> Answer:
    """Run a coroutine that may ask the database, on this thread's own connection.

    When this thread is interrupted, by Ctrl-C or by the time limit of a job, so is the coroutine.
    """
    tasks: list[asyncio.Task[Any]] = []

    async def run() -> Answer:
        if task := asyncio.current_task():
            tasks.append(task)
        return await conversation(*args, **options)

    try:
        return async_to_sync(run)()
    except BaseException:
        for task in tasks:
            if not task.done():
                task.get_loop().call_soon_threadsafe(task.cancel)
        raise


def _check_api_root(integration: GitHubIntegration) -> None:
    """Look at it again where it is used: a row may be older than the rules, or than DEBUG=0."""
    api_url = integration.api_url
    if not integration.is_api_root_of_token():
        raise UnsafeAddressError(
            f"the token of {integration} was stored for another API root; connect again"
        )
    try:
        if api_url:
            validate_api_root(api_url)
    except ValidationError as error:
        raise UnsafeAddressError(
            f"nothing is sent to {api_url}. {error.messages[0]} Correct the integration, or "
            "connect again with another --api-url"
        ) from error


class Lease:
    """The part of a token's budget that one conversation may use.

    While there is plenty, it is looked at again every ten seconds; when little is left, it is
    set aside in the database, a few requests at a time.
    """

    def __init__(self, credential: IntegrationCredential, *, is_bulk: bool) -> None:
        self._credential, self._is_bulk = credential, is_bulk
        self._row: RequestLease | None = None
        self._left, self._read_at = 0, time.monotonic()
        self._extending = asyncio.Lock()

    async def take(self, stated: RateLimit | None) -> None:
        """Take one request out of the lease; `stated` is what GitHub said last of the budget.

        Raises BudgetSpentError when none is to be had.
        """
        async with self._extending:
            if self._left < 1:
                if not self._has_plenty(stated):
                    await sync_to_async(self._set_aside)(stated)
                self._left = self._credential.lease_size
            self._left -= 1

    def _has_plenty(self, stated: RateLimit | None) -> bool:
        if stated is not None:
            self._credential.hear_rate_limit(stated)
        is_recent = time.monotonic() - self._read_at < LOOK_EVERY_SECONDS
        return is_recent and self._credential.has_plenty(is_bulk=self._is_bulk)

    def _set_aside(self, stated: RateLimit | None) -> None:
        credential, is_bulk = self._credential, self._is_bulk
        if stated is not None:
            credential.note_rate_limit(stated)
        self._row = credential.lease_requests(is_bulk=is_bulk, instead_of=self._row)
        self._read_at = time.monotonic()
        if self._row is None and credential.find_pause(is_bulk=is_bulk):
            raise _make_budget_error(credential, is_bulk=is_bulk)

    def end(self, stated: RateLimit | None) -> None:
        """Give back what is set aside, and share what GitHub stated last.

        A database that fails here costs nothing of what was fetched: a lease ends by itself.
        """
        try:
            if stated is not None:
                self._credential.note_rate_limit(stated)
            if self._row is not None:
                self._row.delete()
        except (DatabaseError, InterfaceError):
            logger.warning("What GitHub said of the token of %s was not kept", self._credential)
            connection.close_if_unusable_or_obsolete()


def _make_budget_error(credential: IntegrationCredential, *, is_bulk: bool) -> BudgetSpentError:
    until = credential.find_pause(is_bulk=is_bulk) or timezone.now()
    what = "only the reserve for merges is left" if is_bulk else "the rate limit is used up"
    return BudgetSpentError(f"{what} until {until:%Y-%m-%d %H:%M} UTC", until=until)
