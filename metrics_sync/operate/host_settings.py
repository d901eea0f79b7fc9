"""Checks of what the app needs of the project that it is added to."""

from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error, Info, register
from django.core.management import find_commands

from metrics_sync.jobs import BULK, MERGES

#: Settings that were once read without the prefix METRICS_SYNC_.
OLD_NAMES = (
    "CLOCK_SPEEDUP",
    "GITHUB_API_URL",
    "GITHUB_APP_ID",
    "GITHUB_APP_PRIVATE_KEY",
    "GITHUB_WEBHOOK_SECRET",
    "METRICS_TOKEN",
    "RATE_LIMIT_RESERVE",
    "RETENTION_DAYS",
    "TOKEN_ENCRYPTION_KEYS",
)

#: https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
LARGEST_DELIVERY = 25 * 1024 * 1024

#: What says where a queue of RQ_QUEUES is.
ADDRESS = ("URL", "HOST", "UNIX_SOCKET_PATH", "SENTINELS", "USE_REDIS_CACHE")
PLACE = (*ADDRESS, "PORT", "DB")


@register()
def check_old_names(**options: Any) -> list[CheckMessage]:
    """A setting under its old name is not read. It may also be another app's, so we warn only."""
    return [
        checks.Warning(
            f"metrics_sync does not read the setting {name}.",
            hint=f"Rename it to METRICS_SYNC_{name}. If it is for another app, set "
            f"METRICS_SYNC_{name} too, or silence metrics_sync.W102.",
            id="metrics_sync.W102",
        )
        for name in OLD_NAMES
        if hasattr(settings, name) and not hasattr(settings, f"METRICS_SYNC_{name}")
    ]


@register()
def check_queues(**options: Any) -> list[CheckMessage]:
    """RQ_QUEUES must hold both queues, on one Redis: jobs of both are looked up in one place."""
    queues: dict[str, Any] = getattr(settings, "RQ_QUEUES", {})
    missing = [name for name in (MERGES, BULK) if name not in queues]
    if missing:
        return [
            Error(
                f"RQ_QUEUES has no queue named {' or '.join(missing)}.",
                hint="Add it, or name another one in METRICS_SYNC_QUEUE (merges) and "
                "METRICS_SYNC_BULK_QUEUE (what can wait).",
                id="metrics_sync.E101",
            )
        ]
    if lost := [name for name in (MERGES, BULK) if not set(ADDRESS) & set(queues[name])]:
        message = f"RQ_QUEUES does not say where the Redis of {' and '.join(lost)} is."
        return [Error(message, hint="Add its URL.", id="metrics_sync.E107")]
    merges, bulk = ([queues[name].get(key) for key in PLACE] for name in (MERGES, BULK))
    if merges != bulk:
        return [Error(f"{MERGES} and {BULK} must be on the same Redis.", id="metrics_sync.E102")]
    return []


@register()
def check_apps(**options: Any) -> list[CheckMessage]:
    """The pages of the admin are made of the theme's templates, which Django must find first."""
    installed = [config.name for config in apps.get_app_configs()]
    has_admin, has_theme = "django.contrib.admin" in installed, "unfold" in installed
    needed = ["django_rq"]
    if has_admin and has_theme:
        needed.append("unfold.contrib.filters")
    if missing := [name for name in needed if name not in installed]:
        return [Error(f"INSTALLED_APPS needs {', '.join(missing)}.", id="metrics_sync.E103")]
    if has_admin and not has_theme:
        return [
            Info(
                "The admin has no pages of metrics_sync: unfold is not in INSTALLED_APPS.",
                hint="Install metrics_sync[theme] and add unfold and unfold.contrib.filters, or "
                "silence metrics_sync.I101 to do without the pages.",
                id="metrics_sync.I101",
            )
        ]
    if has_admin and installed.index("unfold") > installed.index("django.contrib.admin"):
        message = "In INSTALLED_APPS, unfold must stand before django.contrib.admin."
        return [Error(message, id="metrics_sync.E104")]
    if has_admin and not hasattr(get_user_model(), "is_superuser"):
        message = f"The pages need is_superuser of a user, which {settings.AUTH_USER_MODEL} lacks."
        hint = "Derive it from django.contrib.auth.models.PermissionsMixin, or remove unfold."
        return [Error(message, hint=hint, id="metrics_sync.E106")]
    return []


@register()
def check_commands(**options: Any) -> list[CheckMessage]:
    """Of two commands with one name, Django runs that of the app that stands first."""
    configs = list(apps.get_app_configs())
    own = apps.get_app_config("metrics_sync")
    ours = _list_commands(own)
    return [
        checks.Warning(
            f"metrics_sync hides the command {name} of {config.name}.",
            hint=f"Put metrics_sync behind {config.name} in INSTALLED_APPS. Its own command is "
            f"then `manage.py metrics_sync {name}`.",
            id="metrics_sync.W104",
        )
        for config in configs[configs.index(own) + 1 :]
        for name in sorted(ours & _list_commands(config))
    ]


def _list_commands(config: AppConfig) -> set[str]:
    return set(find_commands(str(Path(config.path) / "management")))


@register()
def check_time_zones(**options: Any) -> list[CheckMessage]:
    """GitHub's times are in UTC; without USE_TZ they could not be compared with ours."""
    return [] if settings.USE_TZ else [Error("USE_TZ must be True.", id="metrics_sync.E105")]


@register()
def check_size_of_deliveries(**options: Any) -> list[CheckMessage]:
    """Django takes 2.5 MiB by default, and large pull requests make larger deliveries."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is None or limit >= LARGEST_DELIVERY:
        return []
    return [
        checks.Warning(
            f"Deliveries over {limit} bytes are refused (DATA_UPLOAD_MAX_MEMORY_SIZE).",
            hint=f"GitHub's largest have {LARGEST_DELIVERY} bytes. What is refused is found later, "
            "by `reconcile --discover`.",
            id="metrics_sync.W101",
        )
    ]


@register()
def check_sqlite(**options: Any) -> list[CheckMessage]:
    """Web, workers and clock write side by side, which SQLite refuses as Django sets it up.

    A transaction that has read fails when it writes after another one has; no timeout helps.
    https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-transaction-behavior
    """
    database = settings.DATABASES.get("default", {})
    mode = database.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED"
    is_sqlite = database.get("ENGINE", "").endswith("sqlite3")
    if not is_sqlite or mode.upper() in {
        "IMMEDIATE",
        "EXCLUSIVE",
    }:
        return []
    return [
        checks.Warning(
            "Workers will fail with 'database is locked': SQLite has Django's transaction mode.",
            hint='Add OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20} to DATABASES.',
            id="metrics_sync.W103",
        )
    ]
