"""The Django app."""

from django.apps import AppConfig


class MetricsSyncConfig(AppConfig):
    name = "metrics_sync"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Pull request metrics"

    def ready(self) -> None:
        from metrics_sync import checks, hosting, signals  # noqa: F401  (they register themselves)

        hosting.apply_defaults()
