"""The app's settings: METRICS_SYNC_* of the project's settings module, and their defaults."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django.conf import settings

T = TypeVar("T")


class Setting(Generic[T]):
    """One setting. It is read at each use, so that a test may override it."""

    def __init__(self, default: T, *, clean: Callable[[Any], T] | None = None) -> None:
        self.default = default
        self.clean = clean

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"METRICS_SYNC_{name}"

    def __get__(self, instance: object, owner: type) -> T:
        value: T = getattr(settings, self.name, self.default)
        return self.clean(value) if self.clean else value


class AppSettings:
    """`app_settings.QUEUE` is METRICS_SYNC_QUEUE of the project, or the default here.

    docs/reusable.md says what each means. TOKEN_ENCRYPTION_KEYS has no default that is safe:
    without keys, a check says so.
    """

    QUEUE = Setting("pr-data")
    BULK_QUEUE = Setting("pr-data-bulk")
    BASE_URL = Setting("", clean=lambda url: str(url).rstrip("/"))
    CLOCK_SPEEDUP = Setting[float](1)
    # Paths are appended to the API root, and roots are compared; people may end it with a slash.
    GITHUB_API_URL = Setting("https://api.github.com", clean=lambda url: str(url).rstrip("/"))
    # The id may be given as a number or as a text.
    GITHUB_APP_ID = Setting("", clean=lambda app_id: str(app_id or ""))
    GITHUB_APP_PRIVATE_KEY = Setting("")
    GITHUB_WEBHOOK_SECRET = Setting("")
    METRICS_TOKEN = Setting("")
    NOTIFY_EMAILS = Setting[list[str]]([])
    NOTIFY_WEBHOOK_URL = Setting("")
    RATE_LIMIT_RESERVE = Setting(1000)
    RETENTION_DAYS = Setting(30)
    # As a list, or as one text in which commas separate them.
    TOKEN_ENCRYPTION_KEYS = Setting[list[str]](
        [], clean=lambda keys: keys.split(",") if isinstance(keys, str) else list(keys)
    )


app_settings = AppSettings()
