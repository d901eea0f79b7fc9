"""Tests what a token can do, with few requests; changes nothing at GitHub."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
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
from metrics_sync.snapshot import UNREADABLE, RateLimit

#: Longest duration of all requests of one token.
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class HookHealth:
    """A webhook as GitHub has it. `last_status` is our answer to its last delivery, 0 for none."""

    is_active: bool
    events: Collection[str]
    last_status: int | None


@dataclass(frozen=True, slots=True)
class RepositoryHealth:
    """What a token can do with a repository.

    `troubles` says what it cannot do. Check runs are apart, as no fine-grained token can be given
    them: `refused_checks` is what GitHub says when the token may not read them. `hooks` are the
    webhooks that lead to us; None when the token may not read webhooks.
    """

    full_name: str
    troubles: Sequence[str]
    hooks: Sequence[HookHealth] | None
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


async def examine_token(github: GitHub, *, paths: Mapping[str, tuple[str, ...]]) -> TokenHealth:
    """Test a token on each repository; `paths` maps names to how our webhooks' addresses end.

    Sends two or three requests for each repository, and for the first one those of a fetch.
    Raises GitHubError when the token can do nothing, or GitHub does not answer for 20 seconds.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _examine(github, paths)
    except TimeoutError as error:
        raise RetrySoonError(f"no answer within {PATIENCE_SECONDS:g} s") from error


async def _examine(github: GitHub, paths: Mapping[str, tuple[str, ...]]) -> TokenHealth:
    answered = await _ask_budget(github)
    examined = await asyncio.gather(
        *(
            _examine_repository(github, full_name, paths=ours, tries_fetching=number == 0)
            for number, (full_name, ours) in enumerate(paths.items())
        )
    )
    scopes = [scope.strip() for scope in answered.scopes.split(",") if scope.strip()]
    return TokenHealth(_read_date(answered.date), github.rate_limit, scopes, examined)


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
    github: GitHub, full_name: str, *, paths: tuple[str, ...], tries_fetching: bool
) -> RepositoryHealth:
    route = full_name.split("/")
    try:
        await github.call(github.api.repos.get, *route)
        troubles, refused = await _try_fetching(github, route) if tries_fetching else ([], "")
    except GitHubError as error:
        return RepositoryHealth(full_name, [str(error)], None)
    hooks = await _find_hooks(github, route, paths=paths)
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
    github: GitHub, route: list[str], *, paths: tuple[str, ...]
) -> Sequence[HookHealth] | None:
    hooks = []
    try:
        async for page in github.pages(github.api.repos.list_webhooks, *route):
            for hook in page.items:
                if (hook["config"].get("url") or "").endswith(paths):
                    last_status = await _read_last_status(github, route, hook["id"])
                    hooks.append(_read_hook(hook, last_status))
    except (GoneError, PermissionMissingError):
        return None
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of webhooks") from error
    return hooks


async def _read_last_status(github: GitHub, route: list[str], hook_id: int) -> int | None:
    with suppress(GoneError, PermissionMissingError):
        operation = github.api.repos.list_webhook_deliveries
        page = await github.call(operation, *route, hook_id, per_page=1)
        return next((int(delivery["status_code"]) for delivery in page.items), None)
    return None


def _read_hook(hook: Any, last_status: int | None) -> HookHealth:
    return HookHealth(
        is_active=bool(hook["active"]),
        events=set(hook["events"]),
        last_status=last_status,
    )
