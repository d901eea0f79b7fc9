"""How log lines look: for people (`console`) or for a log store (`json`)."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured

FORMATTERS: dict[str, dict[str, Any]] = {
    "console": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"},
    "json": {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "format": "{asctime}{levelname}{name}{message}{process}",
        "style": "{",
        "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
    },
}


def logging_config(*, log_format: str) -> dict[str, Any]:
    """Build Django's LOGGING: everything from INFO up goes to stderr in one format.

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
            # httpx2 writes a line for every request; the fetch writes one for every PR.
            "httpx2": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            # project.sign_in says who failed to sign in, in one line.
            "axes": {"level": "ERROR"},
            # The one immediate repetition of a request is counted among the requests made.
            "stamina": {"level": "ERROR"},
        },
    }
