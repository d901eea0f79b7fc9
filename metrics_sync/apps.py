"""The Django app."""

import atexit

from django.apps import AppConfig


class MetricsSyncConfig(AppConfig):
    name = "metrics_sync"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Pull request metrics"

    def ready(self) -> None:
        # Importing them registers their receivers, functions and checks.
        from metrics_sync import signals  # noqa: F401
        from metrics_sync.dashboard import percentiles  # noqa: F401
        from metrics_sync.operate import host_settings, system_checks  # noqa: F401
        from metrics_sync.work.counts import save_counts

        # Saves what a command counted; the process of a job ends without calling this.
        atexit.register(save_counts)
