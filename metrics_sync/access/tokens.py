"""The token to ask GitHub with: a personal one as it is, an installation's renewed in time."""

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
from metrics_sync.models.integrations import RENEWAL_CLAIM

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: An installation's token lasts an hour; a new one is asked for when less than this is left of it.
RENEW_BEFORE = timedelta(minutes=5)
#: What is left of a token that may still be used while another worker gets the new one.
LEAST = timedelta(seconds=30)
#: Less than RENEWAL_CLAIM, so that nobody else takes over while GitHub may still answer.
RENEWAL_SECONDS = 30
LOOK_EVERY_SECONDS = 0.2


def find_token(credential: IntegrationCredential, *, api_url: str) -> str:
    """Return the token of a credential, for that API root.

    A personal token is returned as it is stored. An installation's is renewed when it is about
    to expire, by one worker at a time: the others go on with the old one while it lasts, else
    wait for the new one, three quarters of a minute at most. A renewal that fails for now matters
    only when the old one is used up. Raises DecryptionError; for
    installations CredentialRejectedError, AppUnavailableError and what else GitHub says.
    """
    if credential.kind != credential.Kind.APP:
        return str(credential.access_token)
    _check_installation(credential, api_url=api_url)
    gives_up_at = time.monotonic() + RENEWAL_CLAIM.total_seconds()
    while True:
        if not credential.lasts(RENEW_BEFORE) and credential.claim_renewal():
            try:
                return _renew(credential)
            except (RetrySoonError, RateLimitedError):
                # The next one tries again; meanwhile the old one is as good as it was.
                if not credential.lasts(LEAST):
                    raise
        if credential.lasts(LEAST):
            break
        if time.monotonic() > gives_up_at:
            raise RetrySoonError("other workers wait for a new token of the GitHub App, in vain")
        time.sleep(LOOK_EVERY_SECONDS)
        credential.refresh_from_db(fields=["expires_at"])
    try:
        credential.refresh_from_db(fields=["access_token", "expires_at"])
    except DecryptionError:
        # It is only a copy of what GitHub gives again.
        logger.warning("The token of %s cannot be decrypted and is renewed", credential)
        return replace_token(credential, api_url=api_url)
    return str(credential.access_token)


def replace_token(credential: IntegrationCredential, *, api_url: str) -> str:
    """Return another token than the one that this object holds. Raises like `find_token`."""
    credential.discard_token()
    credential.refresh_from_db(fields=["expires_at"])
    return find_token(credential, api_url=api_url)


def ask_again(credential: IntegrationCredential, *, api_url: str) -> bool:
    """Whether GitHub, which refused this credential, accepts it now.

    A personal token is tried with one request that costs nothing; for an installation another
    token is asked for, and stored. Raises what leaves it unknown: DecryptionError,
    UnsafeAddressError, AppUnavailableError, passing faults and rate limits.
    """
    if credential.kind != credential.Kind.APP:
        token = str(credential.access_token)
        if not token:
            # GitHub accepts whoever shows none, as anybody.
            return False
        github = GitHub(api_url=api_url, token=token)
        return asyncio.run(_converse(github, GitHub.is_accepted))
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
    """Return what gets a new token after a refusal; None for personal tokens."""
    if credential.kind != credential.Kind.APP:
        return None
    return sync_to_async(partial(replace_token, credential, api_url=api_url))


def ask_as_app(question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
    """Have a conversation with GitHub as the App itself.

    Raises AppUnavailableError without a usable GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY, and
    RetrySoonError when it takes longer than half a minute.
    """
    app_id, private_key = app_settings.GITHUB_APP_ID, app_settings.GITHUB_APP_PRIVATE_KEY
    if not app_id or not private_key:
        raise AppUnavailableError("GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY are not both set")
    token = sign_app_token(app_id=app_id, private_key=private_key)
    return asyncio.run(
        _converse(GitHub(api_url=app_settings.GITHUB_API_URL, token=token), question)
    )


async def _converse(github: GitHub, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
    try:
        async with asyncio.timeout(RENEWAL_SECONDS), github:
            return await question(github)
    except TimeoutError as error:
        raise RetrySoonError(f"no answer from GitHub within {RENEWAL_SECONDS} s") from error


def _check_installation(credential: IntegrationCredential, *, api_url: str) -> None:
    """Refuse what GitHub would refuse, and what would take a token to another GitHub."""
    _check_api_root(api_url)
    if credential.revoked_at is not None:
        raise CredentialRejectedError(
            "the GitHub App may not read this any more: it was removed or suspended; install it "
            "again, then `manage.py connect OWNER --app`"
        )


def _check_api_root(api_url: str) -> None:
    if api_url != app_settings.GITHUB_API_URL:
        raise UnsafeAddressError(
            f"the GitHub App belongs to {app_settings.GITHUB_API_URL}; an integration of {api_url} "
            "needs a personal access token"
        )


def _renew(credential: IntegrationCredential) -> str:
    """Get and store a new token; the renewal is claimed already."""
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
            "the credential names no installation; `manage.py connect OWNER --app` links one"
        )
    return partial(fetch_installation_token, installation_id=installation_id, account_id=account_id)
