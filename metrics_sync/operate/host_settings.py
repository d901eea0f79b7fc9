"""Checks of what the app needs of the project that it is added to."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

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
PLACE = ("URL", "HOST", "PORT", "DB", "UNIX_SOCKET_PATH", "SENTINELS", "USE_REDIS_CACHE")


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
    missing = [name for name in (MERGES, BULK) if name not in settings.RQ_QUEUES]
    if missing:
        return [
            Error(
                f"RQ_QUEUES has no queue named {' or '.join(missing)}.",
                hint="Add it, or name another one in METRICS_SYNC_QUEUE (merges) and "
                "METRICS_SYNC_BULK_QUEUE (what can wait).",
                id="metrics_sync.E101",
            )
        ]
    merges, bulk = ([settings.RQ_QUEUES[name].get(key) for key in PLACE] for name in (MERGES, BULK))
    if merges != bulk:
        return [Error(f"{MERGES} and {BULK} must be on the same Redis.", id="metrics_sync.E102")]
    return []


@register()
def check_apps(**options: Any) -> list[CheckMessage]:
    """The pages of the admin are made of the theme's templates, which Django must find first."""
    installed = [config.name for config in apps.get_app_configs()]
    needed = ["django_rq", "unfold", "unfold.contrib.filters", "django.contrib.admin"]
    if missing := [name for name in needed if name not in installed]:
        return [Error(f"INSTALLED_APPS needs {', '.join(missing)}.", id="metrics_sync.E103")]
    if installed.index("unfold") > installed.index("django.contrib.admin"):
        message = "In INSTALLED_APPS, unfold must stand before django.contrib.admin."
        return [Error(message, id="metrics_sync.E104")]
    return []


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
