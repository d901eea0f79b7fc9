"""What `manage.py check` finds wrong with the configuration before it hurts."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from metrics_sync.fields import get_fernet


@register()
def check_encryption_keys(**options: Any) -> list[CheckMessage]:
    """Every key of TOKEN_ENCRYPTION_KEYS must be one that Fernet takes."""
    try:
        get_fernet()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="metrics_sync.E001")]
    return []


@register()
def check_api_url(**options: Any) -> list[CheckMessage]:
    """GITHUB_API_URL must be a whole URL, or every fetch would fail with a riddle."""
    if settings.GITHUB_API_URL.startswith(("https://", "http://")):
        return []
    return [
        Error(
            f"GITHUB_API_URL is {settings.GITHUB_API_URL!r}; it must start with https://.",
            hint="For GitHub Enterprise it is https://HOST/api/v3.",
            id="metrics_sync.E002",
        )
    ]
