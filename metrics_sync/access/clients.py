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
from django.db import DatabaseError, InterfaceError, connection, transaction

from metrics_sync.access.tokens import ask_again, find_token, make_renewal, replace_token
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    RateLimitedError,
    SecondaryLimitError,
    UnsafeAddressError,
)
from metrics_sync.github import Budget, GitHub
from metrics_sync.models import GitHubIntegration, IntegrationCredential, TrackedRepository
from metrics_sync.models.budgets import PLENTY, Share
from metrics_sync.models.integrations import validate_api_root

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Parameters = ParamSpec("Parameters")

#: After so long a conversation asks the credential whether GitHub told others to wait.
SHARE_SECONDS = 10


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

        Enter it in a coroutine that `converse` runs. At the end of the block, what GitHub said of
        the token's budget is shared with all workers. Raises CredentialRejectedError or
        BudgetSpentError in place of asking what GitHub is known to refuse.
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
            budget.settle()

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
        with self.open() as github:
            try:
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


class SharedBudget(Budget):
    """The budget of a conversation whose requests are counted together with all others'.

    Unless plenty is left, they are set aside on the credential, some at a time.
    """

    def __init__(self, credential: IntegrationCredential, *, is_bulk: bool) -> None:
        """Set requests aside if little is left. Raises BudgetSpentError."""
        super().__init__(reserve=credential.reserve if is_bulk else 0)
        self._credential, self._is_bulk = credential, is_bulk
        self._share: Share | None = None
        if not credential.has_plenty(is_bulk=is_bulk):
            self._share = credential.set_requests_aside(is_bulk=is_bulk)
        self._unused, self._asked_at = credential.share_size, time.monotonic()
        self._renewing = asyncio.Lock()

    async def take(self) -> None:
        """Begin a request, of those that are set aside. Raises BudgetSpentError."""
        async with self._renewing:
            if self._unused < 1:
                if not self._may_go_on():
                    await sync_to_async(self._renew_share)()
                self._unused = self._credential.share_size
            self._unused -= 1
        await super().take()

    def _may_go_on(self) -> bool:
        """Whether the credential need not be asked: a large pull request takes no more queries."""
        if time.monotonic() - self._asked_at >= SHARE_SECONDS:
            return False
        left = self.count_left()
        known = self._credential.has_plenty(is_bulk=self._is_bulk)
        return known if left is None else left >= PLENTY

    @transaction.atomic
    def _renew_share(self) -> None:
        """Set other requests aside in place of those that are answered."""
        credential = self._credential
        credential.note_rate_limit(self.rate_limit, settled=self._share)
        self._share = credential.set_requests_aside(is_bulk=self._is_bulk, more=self._in_flight)
        self._asked_at = time.monotonic()

    def settle(self) -> None:
        """Give back what is set aside, and share what GitHub stated last.

        A database that fails here costs nothing of what was fetched: a share ends by itself.
        """
        try:
            self._credential.note_rate_limit(self.rate_limit, settled=self._share)
        except (DatabaseError, InterfaceError):
            logger.warning("What GitHub said of the token of %s was not kept", self._credential)
            connection.close_if_unusable_or_obsolete()
