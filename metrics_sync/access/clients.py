"""Opens conversations with GitHub, and shares with all workers what GitHub said of a token."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Self, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ValidationError
from django.db import DatabaseError, InterfaceError, connection, transaction

from metrics_sync.access.tokens import find_token, is_accepted_now, make_renewal, replace_token
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    RateLimitedError,
    SecondaryLimitError,
    UnsafeAddressError,
)
from metrics_sync.github import Budget, GitHub, keep_connections
from metrics_sync.models import GitHubIntegration, IntegrationCredential, TrackedRepository
from metrics_sync.models.budgets import PLENTY, Share
from metrics_sync.models.credential import validate_api_root

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")

#: Seconds after which a conversation reads again whether GitHub told another worker to wait.
SHARE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Access:
    """An API root, and the token to use there. `credential` is None for a token of the environment.

    Bulk work (`is_bulk`) leaves the reserve of the token's rate limit for merges.
    """

    api_url: str
    #: Not in the repr, which error reports show.
    token: str = field(repr=False)
    credential: IntegrationCredential | None = None
    is_bulk: bool = False

    @classmethod
    def of(cls, repository: TrackedRepository, *, is_bulk: bool) -> Self:
        """Return the access to a tracked repository, with a token that is valid for some minutes.

        Raises DecryptionError, UnsafeAddressError, and for a GitHub App any error that GitHub
        gives when it is asked for a new token.
        """
        integration = repository.integration
        _check_api_root(integration)
        api_url, credential = integration.get_api_root(), integration.credential
        token = find_token(credential, api_url=api_url)
        return cls(api_url=api_url, token=token, credential=credential, is_bulk=is_bulk)

    def check_token(self) -> None:
        """Raise CredentialRejectedError when GitHub has refused the token already."""
        if self.credential and (revoked_at := self.credential.revoked_at):
            raise CredentialRejectedError(
                f"GitHub refused the token on {revoked_at:%Y-%m-%d %H:%M} UTC; "
                "store a new one with `manage.py connect`"
            )

    @contextmanager
    def open(self) -> Iterator[GitHub]:
        """Yield a client for this token; it asks less at once after a secondary limit.

        Enter the client in a coroutine that `run_conversation` runs. When the block ends, all
        workers can read how much GitHub said is left. Raises CredentialRejectedError or
        BudgetSpentError, and sends nothing, when GitHub is known to refuse.
        """
        self.check_token()
        credential = self.credential
        if credential is None:
            yield GitHub(api_url=self.api_url, token=self.token)
            return
        budget = SharedBudget(credential, is_bulk=self.is_bulk)
        try:
            yield GitHub(
                api_url=self.api_url,
                token=self.token,
                renew=make_renewal(credential, api_url=self.api_url),
                budget=budget,
                is_careful=credential.is_careful,
            )
        finally:
            budget.give_back()

    def renew(self) -> bool:
        """Replace the refused token of a GitHub App's installation; False for personal tokens."""
        if self.credential is None or self.credential.kind != self.credential.Kind.APP:
            return False
        replace_token(self.credential, api_url=self.api_url)
        return True

    def note(self, errors: Iterable[Exception]) -> None:
        """Record on the credential, for all workers, which errors GitHub answered with."""
        if self.credential is None:
            return
        errors = list(errors)
        limits = [error for error in errors if isinstance(error, RateLimitedError)]
        # A BudgetSpentError is our own: GitHub was not asked, and others may still be served.
        if stated := [error for error in limits if not isinstance(error, BudgetSpentError)]:
            latest = max(stated, key=lambda error: error.until)
            is_secondary = isinstance(latest, SecondaryLimitError)
            self.credential.note_pause(until=latest.until, is_secondary=is_secondary)
        if any(isinstance(error, CredentialRejectedError) for error in errors):
            self.credential.mark_revoked(token=self.token)

    def ask(self, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
        """Run `question` with a client, and record what GitHub said of the token.

        Raises GitHubError; sends nothing when GitHub is known to refuse.
        """
        with self.open() as github:
            try:
                return run_conversation(_ask, github, question)
            except GitHubError as error:
                self.note([error])
                raise


def is_accepted_again(integration: GitHubIntegration) -> bool:
    """Return whether GitHub accepts a credential that it refused before, and record it if so.

    Sends one request, which does not count against the rate limit. Raises MetricsSyncError when
    GitHub does not say.
    """
    _check_api_root(integration)
    credential = integration.credential
    if not is_accepted_now(credential, api_url=integration.get_api_root()):
        return False
    credential.mark_accepted()
    return True


async def _ask(github: GitHub, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
    async with github:
        return await question(github)


def keep_connected(function: Callable[[], Answer]) -> Answer:
    """Run a function in this thread, whose conversations share one event loop and connections.

    Otherwise each has its own, and begins with a handshake.
    """

    async def run() -> Answer:
        async with keep_connections():
            return await sync_to_async(function)()

    return async_to_sync(run)()


def run_conversation(
    conversation: Callable[Parameters, Awaitable[Answer]],
    *args: Parameters.args,
    **options: Parameters.kwargs,
) -> Answer:
    """Run a coroutine whose database queries use this thread's connection.

    Ctrl-C, or the time limit of a job, interrupts the thread and cancels the coroutine.
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
    """Check an integration's API root before each use: the row may be older than the rules.

    Raises UnsafeAddressError.
    """
    api_url = integration.api_url
    if not integration.is_api_root_of_token():
        raise UnsafeAddressError(
            f"the token of {integration} was stored for another API root; store one for this root "
            "with `manage.py connect`"
        )
    try:
        if api_url:
            validate_api_root(api_url)
    except ValidationError as error:
        raise UnsafeAddressError(
            f"nothing is sent to {api_url}. {error.messages[0]} Correct the integration, or run "
            "`manage.py connect` with another --api-url"
        ) from error


class SharedBudget(Budget):
    """The budget of a conversation that shares its credential with other workers.

    When little is left, it sets requests aside on the credential before it sends them, a share at
    a time. GitHub's answers alone would not do: each worker would take what is left for its own.
    """

    def __init__(self, credential: IntegrationCredential, *, is_bulk: bool) -> None:
        """Set the first share aside if little is left; one UPDATE. Raises BudgetSpentError."""
        super().__init__(reserve=credential.reserve if is_bulk else 0)
        self._credential, self._is_bulk = credential, is_bulk
        self._share: Share | None = None
        if not credential.has_plenty(is_bulk=is_bulk):
            self._share = credential.set_requests_aside(is_bulk=is_bulk)
        self._unused, self._asked_at = credential.share_size, time.monotonic()
        self._renewing = asyncio.Lock()

    async def begin_request(self) -> None:
        """Count a request that is about to be sent, out of the share. Raises BudgetSpentError."""
        async with self._renewing:
            if self._unused < 1:
                if not self._may_go_on():
                    await sync_to_async(self._renew_share)()
                self._unused = self._credential.share_size
            self._unused -= 1
        await super().begin_request()

    def _may_go_on(self) -> bool:
        """Return whether the next share needs no query, so that large fetches add none."""
        if time.monotonic() - self._asked_at >= SHARE_SECONDS:
            return False
        left = self.count_left()
        known = self._credential.has_plenty(is_bulk=self._is_bulk)
        return known if left is None else left >= PLENTY

    @transaction.atomic
    def _renew_share(self) -> None:
        """Give back the used share and set the next one aside, with the requests in flight."""
        credential = self._credential
        credential.note_rate_limit(self.rate_limit, returned=self._share)
        self._share = credential.set_requests_aside(is_bulk=self._is_bulk, more=self._in_flight)
        self._asked_at = time.monotonic()

    def give_back(self) -> None:
        """Give back the share, and store what GitHub stated last; one UPDATE.

        A failure of the database is logged only: what was fetched must not be lost, and the share
        expires.
        """
        try:
            self._credential.note_rate_limit(self.rate_limit, returned=self._share)
        except (DatabaseError, InterfaceError):
            logger.warning(
                "The rate limit of %s could not be stored, the next fetch does",
                self._credential,
            )
            connection.close_if_unusable_or_obsolete()
