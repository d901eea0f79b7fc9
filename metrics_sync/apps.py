"""The Django app."""

from django.apps import AppConfig


class MetricsSyncConfig(AppConfig):
    name = "metrics_sync"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Pull request metrics"

    def ready(self) -> None:
        # They register themselves.
        from metrics_sync import checks, hosting, signals  # noqa: F401
        from metrics_sync.dashboard import percentiles  # noqa: F401

        hosting.apply_defaults()
