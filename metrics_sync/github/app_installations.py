"""Speaks to GitHub as a GitHub App, which gets the tokens of its installations."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from metrics_sync.exceptions import (
    AppUnavailableError,
    CredentialRejectedError,
    GoneError,
    PermissionMissingError,
    RetrySoonError,
)
from metrics_sync.github.client import GitHub
from metrics_sync.snapshot import UNREADABLE, RepositoryItem, read_repository, read_time

#: GitHub accepts ten minutes at most, and clocks differ.
#: https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
LIFETIME = timedelta(minutes=9)
CLOCK_DRIFT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class InstallationItem:
    """A GitHub App on an account, as GitHub has it."""

    installation_id: int
    account_id: int
    account: str


@dataclass(frozen=True, slots=True)
class InstallationToken:
    """A token that lasts for an hour or less."""

    token: str = field(repr=False)
    expires_at: datetime


def sign_app_token(*, app_id: str, private_key: str, now: datetime | None = None) -> str:
    """Return a token that stands for the App itself for nine minutes.

    Raises AppUnavailableError when the key cannot sign.
    """
    now = now or datetime.now(UTC)
    claims = {"iat": now - CLOCK_DRIFT, "exp": now + LIFETIME, "iss": app_id}
    try:
        return jwt.encode(claims, private_key, algorithm="RS256")
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise AppUnavailableError(
            "GITHUB_APP_PRIVATE_KEY is no RSA key in PEM form that can sign"
        ) from error


async def fetch_installation(app: GitHub, name: str) -> InstallationItem:
    """Find the App's installation on OWNER, or the one that serves OWNER/NAME.

    `app` uses the token of `sign_app_token`. Raises AppUnavailableError when GitHub does not accept
    it, and GoneError when the App is not installed there.
    """
    owner, _, repository = name.partition("/")
    apps = app.api.apps
    if repository:
        route, operations = [owner, repository], [apps.get_repo_installation]
    else:
        route, operations = [owner], [apps.get_org_installation, apps.get_user_installation]
    for operation in operations:
        with suppress(GoneError):
            return await _read_installation(app, operation, *route)
    raise GoneError(
        f"the GitHub App is not installed there, or not given it; install it on {owner} at GitHub"
    )


async def fetch_installation_by_id(app: GitHub, installation_id: int) -> InstallationItem:
    """Fetch an installation, suspended or not. Raises GoneError when it was removed."""
    return await _read_installation(app, app.api.apps.get_installation, installation_id)


async def _read_installation(
    app: GitHub, operation: Callable[..., Any], *route: Any
) -> InstallationItem:
    try:
        page = await app.call(operation, *route)
    except CredentialRejectedError as error:
        raise AppUnavailableError(
            f"GitHub does not accept GITHUB_APP_ID with GITHUB_APP_PRIVATE_KEY ({error})"
        ) from error
    try:
        account = page.body["account"]
        return InstallationItem(
            installation_id=int(page.body["id"]),
            account_id=int(account["id"]),
            account=str(account["login"]),
        )
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not an installation") from error


async def fetch_installation_token(
    app: GitHub, *, installation_id: int, account_id: int
) -> InstallationToken:
    """Have GitHub make a new token for an installation on that account.

    The account is checked each time: an installation id may have come with a webhook, and must
    never lead to another account's repositories. Raises CredentialRejectedError when the
    installation is suspended, gone, or on another account; AppUnavailableError; other GitHubErrors.
    """
    try:
        found = await fetch_installation_by_id(app, installation_id)
        if found.account_id != account_id:
            raise CredentialRejectedError(
                f"the installation {installation_id} is on another account ({found.account}) now"
            )
        operation = app.api.apps.create_installation_access_token
        page = await app.call(operation, installation_id)
    except (GoneError, PermissionMissingError) as error:
        raise CredentialRejectedError(
            f"GitHub gives no token for the installation {installation_id} ({error})"
        ) from error
    try:
        expires_at = read_time(page.body["expires_at"])
        if expires_at is None:
            raise ValueError("no expires_at")
        return InstallationToken(str(page.body["token"]), expires_at)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a token") from error


async def fetch_installation_repositories(github: GitHub) -> list[RepositoryItem]:
    """List the repositories that an installation may read, with its token. Raises GitHubError."""
    operation = github.api.apps.list_repos_accessible_to_installation
    try:
        pages = [page async for page in github.pages(operation)]
        return [read_repository(value) for page in pages for value in page.body["repositories"]]
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of repositories") from error
