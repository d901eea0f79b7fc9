"""Checks of the settings, which every command runs when it starts.

`release`, `worker` and `clock` of the Procfile are commands, too: an error keeps them from
starting. A warning names what is acceptable on a development machine only.
"""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004  (its name)
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from metrics_sync.api_roots import find_fault
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import AppUnavailableError
from metrics_sync.fields import get_fernet
from metrics_sync.github import sign_app_token

#: The hosts that DEBUG may answer to: only this machine can reach them.
LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]", ".localhost"}
#: Fewer characters than 32 hexadecimal digits, or than `make_webhook_secret` returns.
SHORTEST_WEBHOOK_SECRET = SHORTEST_METRICS_TOKEN = 20
SHORTEST_SECRET_KEY = 50


@register()
def check_encryption_keys(**options: Any) -> list[CheckMessage]:
    """Every key of TOKEN_ENCRYPTION_KEYS must be a Fernet key."""
    try:
        get_fernet()
    except ImproperlyConfigured as error:
        hint = "In a Django project of your own: METRICS_SYNC_TOKEN_ENCRYPTION_KEYS, a list."
        return [Error(str(error), hint=hint, id="metrics_sync.E001")]
    return []


@register()
def check_api_url(**options: Any) -> list[CheckMessage]:
    """GITHUB_API_URL must be a complete URL; otherwise every fetch would fail.

    An address that an integration may not have is only warned of here, as the operator chose it.
    """
    url, hint = app_settings.GITHUB_API_URL, "For GitHub Enterprise it is https://HOST/api/v3."
    if fault := find_fault(url, is_development=True):
        return [Error(f"GITHUB_API_URL is {url!r}; {fault}.", hint=hint, id="metrics_sync.E002")]
    if fault := find_fault(url, is_development=settings.DEBUG):
        return [Warning(f"GITHUB_API_URL is {url!r}; {fault}.", hint=hint, id="metrics_sync.W001")]
    return []


@register()
def check_notify_webhook(**options: Any) -> list[CheckMessage]:
    """NOTIFY_WEBHOOK_URL must be a web address, as reports are posted to it."""
    url = app_settings.NOTIFY_WEBHOOK_URL
    if url and not url.startswith(("https://", "http://")):
        hint = "Copy the address of the chat's incoming webhook."
        return [Error("NOTIFY_WEBHOOK_URL is no web address.", hint=hint, id="metrics_sync.E005")]
    return []


@register()
def check_app(**options: Any) -> list[CheckMessage]:
    """A GitHub App needs its id, its key, and the secret of its webhook."""
    app_id, private_key = app_settings.GITHUB_APP_ID, app_settings.GITHUB_APP_PRIVATE_KEY
    if not app_id and not private_key:
        return []
    if not app_id or not private_key:
        message = "Only one of GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY is set."
        return [Error(message, hint="Set both, or none.", id="metrics_sync.E003")]
    try:
        sign_app_token(app_id=app_id, private_key=private_key)
    except AppUnavailableError as error:
        hint = "It is the text of the .pem file, with line ends or with \\n in their place."
        return [Error(f"{error}.", hint=hint, id="metrics_sync.E004")]
    if not app_settings.GITHUB_WEBHOOK_SECRET:
        message = "The GitHub App has no GITHUB_WEBHOOK_SECRET, so its webhook is refused."
        return [Warning(message, hint="Set it here and at the App.", id="metrics_sync.W002")]
    return []


@register()
def check_database(**options: Any) -> list[CheckMessage]:
    """The default database must be PostgreSQL, or SQLite that returns the keys of new rows."""
    if connection.vendor == "postgresql":
        return []
    if connection.vendor == "sqlite" and connection.features.can_return_columns_from_insert:
        return []
    message = (
        f"The default database, {connection.display_name}, is none that metrics_sync works with."
    )
    hint = "Use PostgreSQL, or SQLite from version 3.35 on."
    return [Error(message, hint=hint, id="metrics_sync.E006")]


@register()
def check_strength(**options: Any) -> list[CheckMessage]:
    """Secrets must be hard to guess; production also needs hosts, and a database for many users."""
    weak = _find_short_secrets()
    return [*weak, *(_find_open_debug() if settings.DEBUG else _find_unfit_for_production())]


def _find_short_secrets() -> Iterator[CheckMessage]:
    if 0 < len(app_settings.GITHUB_WEBHOOK_SECRET) < SHORTEST_WEBHOOK_SECRET:
        yield Warning(
            f"GITHUB_WEBHOOK_SECRET has fewer than {SHORTEST_WEBHOOK_SECRET} characters.",
            hint="Whoever guesses it can forge merges. Make one with: openssl rand -hex 32",
            id="metrics_sync.W003",
        )
    if 0 < len(app_settings.METRICS_TOKEN) < SHORTEST_METRICS_TOKEN:
        yield Warning(
            f"METRICS_TOKEN has fewer than {SHORTEST_METRICS_TOKEN} characters.",
            hint="Whoever guesses it can read /metrics, which names the teams. "
            "Make one with: openssl rand -hex 32",
            id="metrics_sync.W008",
        )


def _find_open_debug() -> Iterator[CheckMessage]:
    if hosts := sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS):
        yield Warning(
            f"DEBUG is on, and ALLOWED_HOSTS contains {', '.join(hosts)}.",
            hint="Set DEBUG=0: its error pages show settings and code to every visitor.",
            id="metrics_sync.W004",
        )


def _find_unfit_for_production() -> Iterator[CheckMessage]:
    key = settings.SECRET_KEY
    if len(key) < SHORTEST_SECRET_KEY or len(set(key)) < 5 or key.startswith("django-insecure"):
        yield Warning(
            f"SECRET_KEY is weak: it has fewer than {SHORTEST_SECRET_KEY} random characters.",
            hint="Whoever guesses it can sign in as anybody. Make one with: openssl rand -hex 32",
            id="metrics_sync.W005",
        )
    if not settings.ALLOWED_HOSTS:
        yield Warning(
            "ALLOWED_HOSTS is empty, so every request is answered 400.",
            hint="Set BASE_URL to the service's own address.",
            id="metrics_sync.W009",
        )
    if "*" in settings.ALLOWED_HOSTS:
        yield Warning(
            "ALLOWED_HOSTS allows every host name.",
            hint="Name the hosts that the service is reached by.",
            id="metrics_sync.W006",
        )
    if settings.DATABASES.get("default", {}).get("ENGINE", "").endswith("sqlite3"):
        yield Warning(
            "The database is SQLite, which lets only one process write at a time.",
            hint="Set DATABASE_URL to a PostgreSQL database in production.",
            id="metrics_sync.W007",
        )
