"""Checks of the settings that the app needs from the project that it is added to."""

from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error, Info, register
from django.core.management import find_commands

from metrics_sync.jobs import BULK, MERGES

#: Settings that earlier versions read without the prefix METRICS_SYNC_.
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

#: The keys of a queue in RQ_QUEUES that say where its Redis is.
ADDRESS = ("URL", "HOST", "UNIX_SOCKET_PATH", "SENTINELS", "USE_REDIS_CACHE")
PLACE = (*ADDRESS, "PORT", "DB")


@register()
def check_old_names(**options: Any) -> list[CheckMessage]:
    """Warn of settings under old names, which are not read; they may be another app's."""
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
    """RQ_QUEUES must contain both queues, on one Redis, where the jobs of both are looked up."""
    queues: dict[str, Any] = getattr(settings, "RQ_QUEUES", {})
    missing = [name for name in (MERGES, BULK) if name not in queues]
    if missing:
        return [
            Error(
                f"RQ_QUEUES has no queue named {' or '.join(missing)}.",
                hint="Add it, or name another one in METRICS_SYNC_QUEUE (merges) and "
                "METRICS_SYNC_BULK_QUEUE (all other work).",
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
    """The app's admin pages extend the theme's templates, so Django must find those first."""
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
                "silence metrics_sync.I101 if you do not need the pages.",
                id="metrics_sync.I101",
            )
        ]
    if has_admin and installed.index("unfold") > installed.index("django.contrib.admin"):
        message = "In INSTALLED_APPS, unfold must stand before django.contrib.admin."
        return [Error(message, id="metrics_sync.E104")]
    if has_admin and not hasattr(get_user_model(), "is_superuser"):
        message = (
            f"The admin pages need users with is_superuser; {settings.AUTH_USER_MODEL} has none."
        )
        hint = "Derive it from django.contrib.auth.models.PermissionsMixin, or remove unfold."
        return [Error(message, hint=hint, id="metrics_sync.E106")]
    return []


@register()
def check_commands(**options: Any) -> list[CheckMessage]:
    """Of two commands with the same name, Django runs the one of the app that is listed first."""
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
    """Django accepts 2.5 MiB by default; deliveries about large pull requests are larger."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is None or limit >= LARGEST_DELIVERY:
        return []
    return [
        checks.Warning(
            f"Deliveries over {limit} bytes are refused (DATA_UPLOAD_MAX_MEMORY_SIZE).",
            hint=f"Set it to {LARGEST_DELIVERY}, the size of GitHub's largest. Merges whose "
            "delivery is refused are found later, by `reconcile --discover`.",
            id="metrics_sync.W101",
        )
    ]


@register()
def check_sqlite(**options: Any) -> list[CheckMessage]:
    """Several processes write at once, which SQLite refuses in Django's default mode.

    A transaction that began by reading fails if another one wrote before it writes; waiting does
    not help.
    https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-transaction-behavior
    """
    database = settings.DATABASES.get("default", {})
    mode = database.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED"
    is_sqlite = database.get("ENGINE", "").endswith("sqlite3")
    if not is_sqlite or mode.upper() in {"IMMEDIATE", "EXCLUSIVE"}:
        return []
    return [
        checks.Warning(
            "Workers will fail with 'database is locked': SQLite has Django's default transaction "
            "mode.",
            hint='Add OPTIONS = {"transaction_mode": "IMMEDIATE", "timeout": 20} to DATABASES.',
            id="metrics_sync.W103",
        )
    ]
