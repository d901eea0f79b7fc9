"""Finds the token of a credential, and renews the tokens of a GitHub App's installations."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TypeVar

from asgiref.sync import sync_to_async

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import (
    AppUnavailableError,
    CredentialRejectedError,
    DecryptionError,
    RateLimitedError,
    RetrySoonError,
    UnsafeAddressError,
)
from metrics_sync.github import (
    GitHub,
    InstallationToken,
    fetch_installation_token,
    sign_app_token,
)
from metrics_sync.models import IntegrationCredential
from metrics_sync.models.credential import RENEWAL_CLAIM

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: An installation's token lasts an hour; it is renewed when less than this is left.
RENEW_BEFORE = timedelta(minutes=5)
#: A token that lasts this long may still be used while another worker renews it.
STILL_USABLE = timedelta(seconds=30)
#: Less than RENEWAL_CLAIM, so that no other worker takes over while GitHub may still answer.
RENEWAL_TIMEOUT_SECONDS = 30
#: Seconds between two looks at whether another worker has stored the new token.
POLL_SECONDS = 0.2


def find_token(credential: IntegrationCredential, *, api_url: str) -> str:
    """Return the token of a credential for an API root.

    A personal token is returned as stored. An installation's token is renewed by one worker when
    it is about to expire. Meanwhile the other workers use the old token; once that has expired,
    they wait for the new one, 45 seconds at most. A passing failure to renew is raised only if
    the old token has expired. Raises DecryptionError; for installations also
    CredentialRejectedError, AppUnavailableError and other GitHubErrors.
    """
    if credential.kind != credential.Kind.APP:
        return credential.read_token()
    _check_installation(credential, api_url=api_url)
    gives_up_at = time.monotonic() + RENEWAL_CLAIM.total_seconds()
    while True:
        if not credential.lasts(RENEW_BEFORE) and credential.claim_renewal():
            try:
                return _renew(credential)
            except (RetrySoonError, RateLimitedError):
                # The next caller tries again; the old token is still valid.
                if not credential.lasts(STILL_USABLE):
                    raise
        if credential.lasts(STILL_USABLE):
            break
        if time.monotonic() > gives_up_at:
            raise RetrySoonError("another worker has not renewed the App's token within 45 s")
        # Another worker renews the token; only the row says when it is done.
        time.sleep(POLL_SECONDS)
        credential.refresh_from_db(fields=["expires_at"])
    try:
        credential.refresh_from_db(fields=["access_token", "expires_at"])
    except DecryptionError:
        # Nothing is lost: GitHub issues another token.
        logger.warning("The token of %s cannot be decrypted and is renewed", credential)
        return replace_token(credential, api_url=api_url)
    return str(credential.access_token)


def replace_token(credential: IntegrationCredential, *, api_url: str) -> str:
    """Return a new token in place of the one this object holds. Raises as `find_token` does."""
    credential.discard_token()
    credential.refresh_from_db(fields=["expires_at"])
    return find_token(credential, api_url=api_url)


def is_accepted_now(credential: IntegrationCredential, *, api_url: str) -> bool:
    """Return whether GitHub now accepts a credential that it refused before.

    A personal token is tried with a request that does not count against the rate limit. For an
    installation a new token is requested and stored. Raises DecryptionError, UnsafeAddressError,
    AppUnavailableError, RetrySoonError or RateLimitedError when GitHub does not say.
    """
    if credential.kind != credential.Kind.APP:
        token = str(credential.access_token)
        if not token:
            # Without a token GitHub would accept the request as anonymous.
            return False
        github = GitHub(api_url=api_url, token=token)
        return asyncio.run(_run_conversation(github, GitHub.is_accepted))
    _check_api_root(api_url)
    try:
        new = ask_as_app(_build_question(credential))
    except CredentialRejectedError:
        return False
    credential.store_installation_token(new.token, expires_at=new.expires_at)
    return True


def make_renewal(
    credential: IntegrationCredential, *, api_url: str
) -> Callable[[], Awaitable[str]] | None:
    """Return a function that replaces a refused token; None for personal tokens."""
    if credential.kind != credential.Kind.APP:
        return None
    return sync_to_async(partial(replace_token, credential, api_url=api_url))


def ask_as_app(question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
    """Run `question` with a client that is authenticated as the GitHub App itself.

    Raises AppUnavailableError without a usable GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY, and
    RetrySoonError after 30 seconds.
    """
    app_id, private_key = app_settings.GITHUB_APP_ID, app_settings.GITHUB_APP_PRIVATE_KEY
    if not app_id or not private_key:
        raise AppUnavailableError("GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY are not both set")
    token = sign_app_token(app_id=app_id, private_key=private_key)
    return asyncio.run(
        _run_conversation(GitHub(api_url=app_settings.GITHUB_API_URL, token=token), question)
    )


async def _run_conversation(
    github: GitHub, question: Callable[[GitHub], Awaitable[Answer]]
) -> Answer:
    try:
        async with asyncio.timeout(RENEWAL_TIMEOUT_SECONDS), github:
            return await question(github)
    except TimeoutError as error:
        raise RetrySoonError(f"no answer from GitHub within {RENEWAL_TIMEOUT_SECONDS} s") from error


def _check_installation(credential: IntegrationCredential, *, api_url: str) -> None:
    """Raise an error if the App is suspended or belongs to another GitHub."""
    _check_api_root(api_url)
    if credential.revoked_at is not None:
        raise CredentialRejectedError(
            "the GitHub App was removed or suspended; install it again, then run "
            "`manage.py connect OWNER --app`"
        )


def _check_api_root(api_url: str) -> None:
    if api_url != app_settings.GITHUB_API_URL:
        raise UnsafeAddressError(
            f"the GitHub App belongs to {app_settings.GITHUB_API_URL}; an integration of {api_url} "
            "needs a personal access token"
        )


def _renew(credential: IntegrationCredential) -> str:
    """Get and store a new token; the caller has claimed the renewal."""
    try:
        new = ask_as_app(_build_question(credential))
        credential.store_installation_token(new.token, expires_at=new.expires_at)
    except CredentialRejectedError:
        credential.mark_installation_refused()
        raise
    finally:
        credential.release_renewal()
    return new.token


def _build_question(
    credential: IntegrationCredential,
) -> Callable[[GitHub], Awaitable[InstallationToken]]:
    installation_id, account_id = credential.installation_id, credential.account_id
    if installation_id is None or account_id is None:
        raise CredentialRejectedError(
            "the credential names no installation; link one with `manage.py connect OWNER --app`"
        )
    return partial(fetch_installation_token, installation_id=installation_id, account_id=account_id)
