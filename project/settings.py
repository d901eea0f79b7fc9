"""Settings, read from the environment; README.md lists every variable."""

import os
import secrets
from collections.abc import Callable, Collection, Iterable
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import environ
from cryptography.fernet import Fernet
from csp import constants as csp
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy

from project.base_url import read_base_url
from project.databases import build_options, find_patience, find_prepare_threshold, read_process
from project.logs import logging_config
from project.reports import start_reports

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = BASE_DIR / "var"


class Env(environ.Env):  # type: ignore[misc]  # it carries no types
    """The environment; errors name the variable that is wrong."""

    def get_value(self, var: str, cast: Any = None, *args: Any, **options: Any) -> Any:
        try:
            return super().get_value(var, cast, *args, **options)
        except ValueError as error:
            raise ImproperlyConfigured(f"{var} is not a number; write one such as 60.") from error


env = Env()


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can read; make our own `var/` private if it is not."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder == VAR_DIR and folder.stat().st_uid == os.getuid():
        folder.chmod(0o700)


def _required(name: str, *, generate: Callable[[], str]) -> str:
    """Return a secret of the environment; with DEBUG=1 make it once and keep it in `var/`."""
    value = env.str(name, default="")
    if value:
        return str(value)
    if not DEBUG:
        raise ImproperlyConfigured(
            f"{name} is not set. Set it in the environment, or set DEBUG=1 to have one "
            f"generated into {VAR_DIR} for development."
        )
    kept = VAR_DIR / name.lower()
    _make_private(VAR_DIR)
    try:
        descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return kept.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(generate())
    return kept.read_text().strip()


def _check_scheme(name: str, url: str, schemes: Collection[str]) -> None:
    """Raise ImproperlyConfigured, without the URL's password, for one that cannot be used."""
    if urlsplit(url).scheme not in schemes:
        raise ImproperlyConfigured(f"{name} must begin with {':// or '.join(schemes)}://.")


def _read_base_url(text: str) -> str:
    try:
        return read_base_url(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"BASE_URL: {error}.") from error


def _read_networks(texts: Iterable[str]) -> list[IPv4Network | IPv6Network]:
    """Read addresses and networks from their texts."""
    try:
        return [ip_network(text.strip()) for text in texts]
    except ValueError as error:
        raise ImproperlyConfigured(
            "TRUSTED_PROXIES must be addresses or networks such as 10.0.0.0/8, separated by "
            f"commas: {error}."
        ) from error


DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = _required("SECRET_KEY", generate=lambda: secrets.token_urlsafe(50))
# The service's own address is always among the hosts and origins; the lists name further ones.
BASE_URL = _read_base_url(env.str("BASE_URL", default=""))
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
if BASE_URL:
    ALLOWED_HOSTS.append(urlsplit(BASE_URL).hostname)
    CSRF_TRUSTED_ORIGINS.append(BASE_URL)

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_rq",
    "ninja",
    "metrics_sync",
    "project",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    # Last: it answers instead of the view if the user is locked out.
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the theme's templates, which some of ours extend.
        "DIRS": [BASE_DIR / "project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Database. Every wait for PostgreSQL has a limit (docs/deploy.md). SQLite is set up so that web,
# workers and clock can write at the same time: readers never block (WAL), writers wait for each
# other, and a transaction takes the write lock when it begins instead of failing later.
# https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-notes
DATABASE_URL = env.str("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'metrics_sync.sqlite3'}")
_check_scheme("DATABASE_URL", DATABASE_URL, ["postgres", "postgresql", "psql", "pgsql", "sqlite"])
DATABASES = {"default": env.db_url_config(DATABASE_URL)}
DATABASE_PATIENCE = find_patience(
    read_process(), statement_seconds=env.float("STATEMENT_SECONDS", default=60)
)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    _make_private(Path(DATABASES["default"]["NAME"]).parent)
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        # GitHub waits ten seconds for `web`.
        timeout=6 if read_process() == "web" else 20,
        transaction_mode="IMMEDIATE",
        init_command="PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    )
else:
    DATABASES["default"].update(CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=True)
    DATABASES["default"]["OPTIONS"] = {
        **build_options(DATABASE_PATIENCE),
        "prepare_threshold": find_prepare_threshold(DATABASES["default"]),
        **DATABASES["default"].get("OPTIONS", {}),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Queues
REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")
_check_scheme("REDIS_URL", REDIS_URL, ["redis", "rediss", "unix"])
# A Redis that hangs must not delay a webhook's answer; workers set longer timeouts themselves.
_timeouts = urlencode({"socket_connect_timeout": 1, "socket_timeout": 2})
_queue = {
    "URL": f"{REDIS_URL}{'&' if '?' in REDIS_URL else '?'}{_timeouts}",
    "DEFAULT_TIMEOUT": 600,
    "DEFAULT_RESULT_TTL": 3600,
}
RQ_QUEUES = {"pr-data": _queue, "pr-data-bulk": _queue}
RQ = {"WORKER_CLASS": "metrics_sync.work.workers.FetchWorker"}
RQ_SHOW_ADMIN_LINK = False

# GitHub
METRICS_SYNC_GITHUB_API_URL = env.str("GITHUB_API_URL", default="https://api.github.com")
METRICS_SYNC_RATE_LIMIT_RESERVE = env.int("RATE_LIMIT_RESERVE", default=1000)
METRICS_SYNC_CLOCK_SPEEDUP = env.float("CLOCK_SPEEDUP", default=1)
METRICS_SYNC_RETENTION_DAYS = env.int("RETENTION_DAYS", default=30)
METRICS_SYNC_GITHUB_APP_ID = env.str("GITHUB_APP_ID", default="")
# Secret stores prefer one line to PEM's many: `\n` in the text is a line break.
METRICS_SYNC_GITHUB_APP_PRIVATE_KEY = env.str("GITHUB_APP_PRIVATE_KEY", default="", multiline=True)
METRICS_SYNC_GITHUB_WEBHOOK_SECRET = env.str("GITHUB_WEBHOOK_SECRET", default="")
METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [
    key.strip()
    for key in _required(
        "TOKEN_ENCRYPTION_KEYS", generate=lambda: Fernet.generate_key().decode()
    ).split(",")
]

# HTTP
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = env.bool("SECURE_SSL_REDIRECT", default=False)
# Sent over TLS only; a month without plain HTTP, and for this host alone.
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=0 if DEBUG else 30 * 86400)
SECURE_REFERRER_POLICY = "same-origin"
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz|metrics)$"]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=not DEBUG)
# Messages may name private things: they are stored here instead of in a cookie.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Everything comes from this host. docs/security.md explains each exception.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.NONE],
        # The theme's Alpine.js compiles attributes to functions.
        "script-src": [csp.SELF, csp.UNSAFE_EVAL],
        # The theme writes its colours into a <style> and widths into style attributes.
        "style-src": [csp.SELF, csp.UNSAFE_INLINE],
        "img-src": [csp.SELF, "data:"],
        "font-src": [csp.SELF],
        "connect-src": [csp.SELF],
        "form-action": [csp.SELF],
        "frame-ancestors": [csp.NONE],
        "base-uri": [csp.NONE],
    }
}
# GitHub's largest delivery (25 MiB): https://docs.github.com/en/webhooks/webhook-events-and-payloads
DATA_UPLOAD_MAX_MEMORY_SIZE = 25 * 1024 * 1024
SILENCED_SYSTEM_CHECKS = [
    # HSTS covers this host only; its subdomains may not support TLS.
    "security.W005",
    "security.W021",
    # TLS ends at a proxy, which redirects itself; SECURE_SSL_REDIRECT is for one that does not.
    "security.W008",
    # metrics_sync.W005 says the same of SECRET_KEY, and at every start.
    "security.W009",
    # And metrics_sync.W009 of ALLOWED_HOSTS.
    "security.W020",
]

# Sign-in. After five failures under one name from one network, that network waits; others can
# still sign in under that name.
# https://django-axes.readthedocs.io/en/latest/4_configuration.html
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
TRUSTED_PROXIES = _read_networks(env.list("TRUSTED_PROXIES", default=[]))
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "project.sign_in.find_client_network"
AXES_LOCKOUT_CALLABLE = "project.sign_in.show_lockout"
AXES_SENSITIVE_PARAMETERS = ["username", "csrfmiddlewaretoken"]
# The log records who signed in and who failed; rows would grow without end.
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = AXES_VERBOSE = False
LOGIN_URL = reverse_lazy("admin:login")
LOGIN_REDIRECT_URL = reverse_lazy("metrics_sync:home")

# The bearer token of /metrics; without one only superusers can see it.
# Problems that doctor finds are mailed, or posted to a chat.
METRICS_SYNC_BASE_URL = BASE_URL
METRICS_SYNC_NOTIFY_EMAILS = env.list("NOTIFY_EMAILS", default=[])
METRICS_SYNC_NOTIFY_WEBHOOK_URL = env.str("NOTIFY_WEBHOOK_URL", default="")
vars().update(env.email("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="metrics_sync@localhost")

METRICS_SYNC_METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

# Passwords, language, static files
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}"}
    for validator in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LANGUAGE_CODE = "en"
# Dates and times have one style on all pages, that of our own tables.
FORMAT_MODULE_PATH = "project.formats"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
# Served straight from the packages, so that the first start needs no collectstatic.
WHITENOISE_USE_FINDERS = True

LOGGING = logging_config(log_format=env.str("LOG_FORMAT", default="console"))

UNFOLD = {
    "SITE_TITLE": "metrics_sync",
    "SITE_HEADER": "metrics_sync",
    "SITE_SYMBOL": "merge",
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": [
        lambda request: static("metrics_sync/theme.css"),
        lambda request: static("project/pages.css"),
    ],
    "SCRIPTS": [
        lambda request: static("metrics_sync/live.js"),
        lambda request: static("metrics_sync/times.js"),
        lambda request: static("metrics_sync/keyboard.js"),
        lambda request: static("project/queues.js"),
    ],
    "SITE_FAVICONS": [
        {
            "rel": "icon",
            "type": "image/svg+xml",
            "href": lambda request: static("project/icon.svg"),
        }
    ],
    "LOGIN": {"form": "project.sign_in.SignInForm"},
    "DASHBOARD_CALLBACK": "metrics_sync.admin.add_dashboard_context",
    "SIDEBAR": {
        "show_search": False,
        # Commits, files and the like have no entry of their own.
        "show_all_applications": True,
        "navigation": [
            {
                "title": "Overview",
                "items": [
                    {
                        "title": "Dashboard",
                        "icon": "dashboard",
                        "link": reverse_lazy("admin:index"),
                    },
                    {
                        "title": "Waiting now",
                        "icon": "hourglass_top",
                        "link": reverse_lazy("metrics_sync:waiting"),
                    },
                    {
                        "title": "Reviewers",
                        "icon": "rate_review",
                        "link": reverse_lazy("metrics_sync:reviewers"),
                    },
                    {
                        "title": "Queues",
                        "icon": "stacks",
                        "link": reverse_lazy("django_rq:home"),
                        "permission": "metrics_sync.admin.may_see_queues",
                    },
                ],
            },
            {
                "title": "Pull requests",
                "items": [
                    {
                        "title": "Pull requests",
                        "icon": "merge",
                        "link": reverse_lazy("admin:metrics_sync_pullrequest_changelist"),
                    },
                    {
                        "title": "Fetch runs",
                        "icon": "cloud_download",
                        "link": reverse_lazy("admin:metrics_sync_fetchrun_changelist"),
                    },
                    {
                        "title": "Webhook deliveries",
                        "icon": "webhook",
                        "link": reverse_lazy("admin:metrics_sync_webhookdelivery_changelist"),
                    },
                ],
            },
            {
                "title": "Teams",
                "items": [
                    {
                        "title": "Teams",
                        "icon": "groups",
                        "link": reverse_lazy("admin:metrics_sync_team_changelist"),
                    },
                    {
                        "title": "Tracked repositories",
                        "icon": "book",
                        "link": reverse_lazy("admin:metrics_sync_trackedrepository_changelist"),
                    },
                    {
                        "title": "Integrations",
                        "icon": "hub",
                        "link": reverse_lazy("admin:metrics_sync_githubintegration_changelist"),
                    },
                    {
                        "title": "Credentials",
                        "icon": "key",
                        "link": reverse_lazy("admin:metrics_sync_integrationcredential_changelist"),
                    },
                    {
                        "title": "API tokens",
                        "icon": "api",
                        "link": reverse_lazy("admin:metrics_sync_apitoken_changelist"),
                    },
                    {
                        "title": "Weekly digests",
                        "icon": "mail",
                        "link": reverse_lazy("admin:metrics_sync_weeklydigest_changelist"),
                    },
                    {
                        "title": "Audit log",
                        "icon": "history",
                        "link": reverse_lazy("admin:metrics_sync_auditentry_changelist"),
                    },
                ],
            },
        ],
    },
}

if SENTRY_DSN := env.str("SENTRY_DSN", default=""):
    start_reports(
        dsn=SENTRY_DSN,
        secrets=[
            SECRET_KEY,
            METRICS_SYNC_GITHUB_WEBHOOK_SECRET,
            METRICS_SYNC_GITHUB_APP_PRIVATE_KEY,
            METRICS_SYNC_METRICS_TOKEN,
            METRICS_SYNC_NOTIFY_WEBHOOK_URL,
            vars().get("EMAIL_HOST_PASSWORD") or "",
            *METRICS_SYNC_TOKEN_ENCRYPTION_KEYS,
            DATABASES["default"].get("PASSWORD") or "",
            urlsplit(REDIS_URL).password or "",
        ],
    )
