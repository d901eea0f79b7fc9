"""Error reports to Sentry, without payloads and secrets."""

import re
from collections.abc import Collection
from functools import partial
from typing import Any

import sentry_sdk
from sentry_sdk.scrubber import DEFAULT_DENYLIST, EventScrubber

HIDDEN = "[Filtered]"
#: Names whose values are removed wherever they occur.
NAMES = [
    *DEFAULT_DENYLIST,
    "access_token",
    "payload",
    "private_key",
    "webhook_secret",
    "x-hub-signature",
    "x-hub-signature-256",
]
#: Patterns of secrets inside a text: GitHub's tokens (an installation's holds a JSON Web
#: Token, with dots and hyphens), those of our API, signatures, JSON Web Tokens, Fernet
#: tokens, whatever follows "Bearer", and passwords in URLs.
#: https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github#githubs-token-formats
SECRETS = re.compile(
    r"\bgh[a-z]_\w{10,}(?:[.-]+\w+)*|\bgithub_pat_\w+|\bmsync_[\w-]+|\bsha(?:1|256)=[0-9a-f]{40,}|\beyJ[\w-]+\.[\w-]+\.[\w-]*"
    r"|\bgAAAA[\w-]+=*|(?<=Bearer )\S+|(?<=://)[^/@\s]+(?=@)"
)


def start_reports(*, dsn: str, secrets: Collection[str]) -> None:
    """Send errors to Sentry from now on; no report contains the values in `secrets`."""
    sentry_sdk.init(
        dsn=dsn,
        # Local variables of a frame may hold a token, and bodies are whole payloads.
        include_local_variables=False,
        max_request_body_size="never",
        event_scrubber=EventScrubber(denylist=NAMES, recursive=True),
        before_send=partial(_scrub_event, secrets=[text for text in secrets if text]),
    )


def _scrub_event(event: Any, _hint: Any, *, secrets: Collection[str]) -> Any:
    return scrub(event, secrets)


def scrub(value: Any, secrets: Collection[str]) -> Any:
    """Return the value with every secret, and everything that looks like one, replaced."""
    if isinstance(value, dict):
        return {key: scrub(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item, secrets) for item in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        value = value.replace(secret, HIDDEN)
    return SECRETS.sub(HIDDEN, value)
