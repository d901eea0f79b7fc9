"""The Django app."""

from django.apps import AppConfig


class MetricsSyncConfig(AppConfig):
    name = "metrics_sync"
    verbose_name = "Pull request metrics"

    def ready(self) -> None:
        from metrics_sync import checks, signals  # noqa: F401  (they register themselves)
