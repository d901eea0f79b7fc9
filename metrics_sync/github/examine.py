"""Tests what a token can do, with few requests; changes nothing at GitHub."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from metrics_sync.exceptions import (
    GitHubError,
    GoneError,
    PermissionMissingError,
    RetrySoonError,
)
from metrics_sync.github.client import GitHub
from metrics_sync.github.pages import Page
from metrics_sync.github.webhook_registration import HookItem, list_hooks
from metrics_sync.snapshot import UNREADABLE, RateLimit

#: Longest duration of all requests of one token.
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RepositoryHealth:
    """What a token can do with a repository.

    `troubles` says what it cannot do. Check runs are apart, as no fine-grained token can be given
    them: `refused_checks` is what GitHub says when the token may not read them. `hooks` are the
    webhooks that lead to us; None when the token may not read webhooks.
    """

    full_name: str
    troubles: Sequence[str]
    hooks: Sequence[HookItem] | None
    refused_checks: str = ""


@dataclass(frozen=True, slots=True)
class TokenHealth:
    """What GitHub says of a token. `budget` is None on a server without rate limits."""

    #: GitHub's clock.
    answered_at: datetime | None
    budget: RateLimit | None
    #: What a classic token may do; others do not say.
    scopes: Sequence[str]
    repositories: Sequence[RepositoryHealth]


async def examine_token(github: GitHub, *, endings: Mapping[str, tuple[str, ...]]) -> TokenHealth:
    """Test a token on each repository; `endings` maps names to how our webhooks' addresses end.

    Sends two requests for each repository, and for the first one those of a fetch.
    Raises GitHubError when the token can do nothing, or GitHub does not answer for 20 seconds.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _examine(github, endings)
    except TimeoutError as error:
        raise RetrySoonError(f"no answer within {PATIENCE_SECONDS:g} s") from error


async def _examine(github: GitHub, endings: Mapping[str, tuple[str, ...]]) -> TokenHealth:
    answered = await _ask_budget(github)
    examined = await asyncio.gather(
        *(
            _examine_repository(github, full_name, endings=ours, tries_fetching=number == 0)
            for number, (full_name, ours) in enumerate(endings.items())
        )
    )
    scopes = [scope.strip() for scope in answered.scopes.split(",") if scope.strip()]
    return TokenHealth(_read_date(answered.date), github.budget.rate_limit, scopes, examined)


async def _ask_budget(github: GitHub) -> Page:
    """Ask for the rate limit, which costs nothing; an Enterprise server may have none (404)."""
    try:
        return await github.call(github.api.rate_limit.get)
    except GoneError:
        return Page(url="")


def _read_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None


async def _examine_repository(
    github: GitHub, full_name: str, *, endings: tuple[str, ...], tries_fetching: bool
) -> RepositoryHealth:
    route = full_name.split("/")
    try:
        await github.call(github.api.repos.get, *route)
        troubles, refused = await _try_fetching(github, route) if tries_fetching else ([], "")
    except GitHubError as error:
        return RepositoryHealth(full_name, [str(error)], None)
    hooks = await _find_hooks(github, full_name, endings=endings)
    return RepositoryHealth(full_name, troubles, hooks, refused)


async def _try_fetching(github: GitHub, route: list[str]) -> tuple[list[str], str]:
    """Ask for one item of each kind that a fetch needs; return what GitHub refuses.

    The second value is GitHub's message when the token may not read check runs.
    """
    api = github.api
    page = await github.call(api.pulls.list, *route, state="all", per_page=1)
    try:
        number, sha = page.items[0]["number"], page.items[0]["head"]["sha"]
    except IndexError:
        return [], ""
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of pull requests") from error
    attempts: list[Awaitable[Page]] = [
        _ask_one(github, api.checks.list_for_ref, *route, sha),
        _ask_one(github, api.pulls.list_commits, *route, number),
        _ask_one(github, api.issues.list_comments, *route, number),
        _ask_one(github, api.repos.get_combined_status_for_ref, *route, sha),
    ]
    checks, *others = await asyncio.gather(*attempts, return_exceptions=True)
    is_refused = isinstance(checks, PermissionMissingError)
    answers = others if is_refused else [checks, *others]
    troubles = [str(answer) for answer in answers if isinstance(answer, GitHubError)]
    return troubles, str(checks) if is_refused else ""


async def _ask_one(github: GitHub, operation: Callable[..., Any], *route: Any) -> Page:
    return await github.call(operation, *route, per_page=1)


async def _find_hooks(
    github: GitHub, full_name: str, *, endings: tuple[str, ...]
) -> Sequence[HookItem] | None:
    try:
        return [hook async for hook in list_hooks(github, full_name, endings=endings)]
    except (GoneError, PermissionMissingError):
        return None
