"""Where to ask GitHub, as whom, and what it said of that token, shared by all workers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Self, TypeVar

from metrics_sync.exceptions import (
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
    """Where to ask, and as whom. `credential` is None for a token of the environment."""

    api_url: str
    #: Not in the repr, which error reports show.
    token: str = field(repr=False)
    credential: IntegrationCredential | None = None

    @classmethod
    def of(cls, repository: TrackedRepository) -> Self:
        """Return a tracked repository's access. Raises DecryptionError."""
        integration = repository.integration
        return cls(
            api_url=integration.get_api_root(),
            token=integration.credential.access_token,
            credential=integration.credential,
        )

    def check(self) -> None:
        """Refuse to ask what GitHub is known to refuse.

        Raises CredentialRejectedError or RateLimitedError.
        """
        if self.credential is None:
            return
        if revoked_at := self.credential.revoked_at:
            raise CredentialRejectedError(
                f"GitHub refused the token on {revoked_at:%Y-%m-%d %H:%M} UTC; "
                "store a new one with `manage.py connect`"
            )
        if until := self.credential.find_pause():
            raise RateLimitedError(f"rate limit until {until:%H:%M:%S} UTC", until=until)

    def open(self) -> GitHub:
        """Return the API as this token sees it, asked more carefully after a secondary limit."""
        credential = self.credential
        return GitHub(
            api_url=self.api_url,
            token=self.token,
            budget=credential.budget if credential else None,
            is_careful=credential is not None and credential.is_careful,
        )

    def note(self, rate_limit: RateLimit | None, errors: Iterable[Exception]) -> None:
        """Let every worker know what GitHub said of the token; writes the credential at once."""
        if self.credential is None:
            return
        errors = list(errors)
        self.credential.note_rate_limit(rate_limit)
        if limits := [error for error in errors if isinstance(error, RateLimitedError)]:
            latest = max(limits, key=lambda error: error.until)
            is_secondary = isinstance(latest, SecondaryLimitError)
            self.credential.note_pause(until=latest.until, is_secondary=is_secondary)
        if any(isinstance(error, CredentialRejectedError) for error in errors):
            self.credential.mark_revoked()

    def ask(self, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
        """Have a conversation with GitHub, and note what it said of the token.

        Raises GitHubError, without asking if it is known what GitHub would say.
        """
        self.check()
        github = self.open()
        errors: list[Exception] = []
        try:
            return asyncio.run(_converse(github, question))
        except GitHubError as error:
            errors.append(error)
            raise
        finally:
            self.note(github.rate_limit, errors)


async def _converse(github: GitHub, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
    async with github:
        return await question(github)
