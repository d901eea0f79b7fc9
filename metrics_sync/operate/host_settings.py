"""What the app needs of the project that it is added to, with defaults where there are any."""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register

from metrics_sync.jobs import BULK, MERGES

#: The settings that a project need not name. TOKEN_ENCRYPTION_KEYS has no default that is safe:
#: without keys, a check says so.
DEFAULTS: dict[str, Any] = {
    "CLOCK_SPEEDUP": 1,
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_APP_ID": "",
    "GITHUB_APP_PRIVATE_KEY": "",
    "GITHUB_WEBHOOK_SECRET": "",  # nosec B105  (none: takes nothing)
    "METRICS_TOKEN": "",  # nosec B105  (none: superusers only)
    "RATE_LIMIT_RESERVE": 1000,
    "RETENTION_DAYS": 30,
    "TOKEN_ENCRYPTION_KEYS": [],
}

#: https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap
LARGEST_DELIVERY = 25 * 1024 * 1024

#: What says where a queue of RQ_QUEUES is.
PLACE = ("URL", "HOST", "PORT", "DB", "UNIX_SOCKET_PATH", "SENTINELS", "USE_REDIS_CACHE")


def apply_defaults() -> None:
    """Give the project's settings what they lack of DEFAULTS, and the form that is compared."""
    for name, value in DEFAULTS.items():
        if not hasattr(settings, name):
            setattr(settings, name, value)
    # As people write them, and as everything here compares and joins them.
    settings.GITHUB_API_URL = settings.GITHUB_API_URL.rstrip("/")
    settings.GITHUB_APP_ID = str(settings.GITHUB_APP_ID or "")


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
