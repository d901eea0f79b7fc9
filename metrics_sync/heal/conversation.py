"""Asks GitHub about one repository in bulk, waiting where it must."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from metrics_sync.access import Access
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    MetricsSyncError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.github import Budget, GitHub, GraphQL, Lacks
from metrics_sync.models import TrackedRepository

Answer = TypeVar("Answer")


class Conversation:
    """Questions about one repository, to GraphQL and to REST, as its credential.

    `wait` is called with the time until which GitHub must not be asked; without it
    RateLimitedError is raised. With `is_bulk` REST's reserve is left to merges.
    """

    def __init__(
        self,
        repository: TrackedRepository,
        *,
        wait: Callable[[datetime], None] | None = None,
        is_bulk: bool = True,
    ) -> None:
        self.points = Budget(reserve=app_settings.RATE_LIMIT_RESERVE)
        self.lacks: Lacks = {}
        self.access = Access.of(repository, is_bulk=is_bulk)
        self._repository, self._is_bulk = repository, is_bulk
        self._wait = wait
        #: A refused token of an App is renewed once, until an answer came with the new one.
        self._may_renew = True

    def ask(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        """Ask GraphQL, again after each wait. Raises GitHubError."""
        while True:
            self._prepare()
            try:
                answer = self._run(question)
            except GitHubError as error:
                self._wait_or_raise(error)
            else:
                self._may_renew = True
                return answer

    def begin(
        self, pool: ThreadPoolExecutor, question: Callable[[GraphQL], Awaitable[Answer]]
    ) -> "Future[Answer] | None":
        """Ask GraphQL in a thread; None where it takes a wait, or the token cannot be used now.

        `finish` then asks, so that the caller can store what it has before a long wait.
        """
        if self._find_wait():
            return None
        try:
            self._find_token()
        except MetricsSyncError:
            return None
        return pool.submit(self._run, question)

    def finish(
        self, begun: "Future[Answer] | None", question: Callable[[GraphQL], Awaitable[Answer]]
    ) -> Answer:
        """Return the answer to a question that was begun, if it was; else ask it."""
        if begun is not None:
            try:
                answer = begun.result()
            except GitHubError as error:
                self._wait_or_raise(error)
            else:
                self._may_renew = True
                return answer
        return self.ask(question)

    def ask_rest(self, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
        """Ask REST, again after each wait. Raises GitHubError."""
        while True:
            self._prepare()
            try:
                return self.access.ask(question)
            except RateLimitedError as error:
                if self._wait is None:
                    raise
                self._wait(error.until)

    def _find_wait(self) -> datetime | None:
        """Return until when GitHub wants nothing asked with this credential, by any process."""
        credential = self._repository.integration.credential
        credential.refresh_from_db(fields=["revoked_at", "wait_until", "rate_limit_resets_at"])
        return credential.find_pause_of_both()

    def _prepare(self) -> None:
        """Wait if another process was told to, then find a token that lasts for some minutes."""
        if until := self._find_wait():
            text = f"waits until {until:%Y-%m-%d %H:%M} UTC"
            self._wait_or_raise(BudgetSpentError(text, until=until))
        # After the wait: an App's token may have expired by then.
        self._find_token()

    def _find_token(self) -> None:
        self.access = Access.of(self._repository, is_bulk=self._is_bulk)
        self.access.check_token()

    def _run(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        """Ask without the database, which the thread of `begin` does not have."""
        return asyncio.run(_run_conversation(self.access, self.points, self.lacks, question))

    def _wait_or_raise(self, error: GitHubError) -> None:
        """Wait until GitHub may be asked again, or raise; other processes get to know the reason.

        They do not get to know of points that are used up: REST's requests are counted apart.
        """
        if isinstance(error, CredentialRejectedError) and self._may_renew:
            self._may_renew = False
            if self.access.renew():
                return
        if isinstance(error, SecondaryLimitError) or not isinstance(error, RateLimitedError):
            self.access.note([error])
        if self._wait is None or not isinstance(error, RateLimitedError):
            raise error
        self._wait(error.until)


async def _run_conversation(
    access: Access, points: Budget, lacks: Lacks, question: Callable[[GraphQL], Awaitable[Answer]]
) -> Answer:
    async with GitHub(api_url=access.api_url, token=access.token, budget=points) as github:
        return await question(GraphQL(github, lacks=lacks))
