"""The format of log lines: for people (`console`) or for a log store (`json`)."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

FORMATTERS: dict[str, dict[str, Any]] = {
    "console": {
        "format": "{asctime} {levelname:<7} {name}: {message}",
        "style": "{",
        "datefmt": "%Y-%m-%dT%H:%M:%S%z",
    },
    "json": {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "format": "{levelname}{name}{message}{process}",
        "style": "{",
        # ISO 8601, with the zone.
        "timestamp": "time",
        "rename_fields": {"levelname": "level", "name": "logger"},
    },
}


def logging_config(*, log_format: str) -> dict[str, Any]:
    """Build LOGGING for Django and gunicorn: everything from INFO up goes to stderr in one format.

    Raises ImproperlyConfigured for a format that is neither `console` nor `json`.
    """
    if log_format not in FORMATTERS:
        raise ImproperlyConfigured(f"LOG_FORMAT is {log_format!r}; it must be console or json.")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": FORMATTERS[log_format]},
        "filters": {"trace": {"()": "metrics_sync.observe.tracing.TraceFilter"}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["trace"],
            }
        },
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            "django": {"handlers": [], "level": "INFO"},
            # gunicorn gives these loggers handlers of their own.
            "gunicorn.access": {"handlers": [], "level": "INFO", "propagate": True},
            "gunicorn.error": {"handlers": [], "level": "INFO", "propagate": True},
            # httpx2 writes a line for every request; the fetch writes one for every PR.
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            # project.sign_in says who failed to sign in, in one line.
            "axes": {"level": "ERROR"},
            # The immediate retry of a request is counted among the requests made.
            "stamina": {"level": "ERROR"},
        },
    }
