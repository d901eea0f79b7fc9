"""The project as a Django app: what it sets up when it starts."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from project.databases import limit_waits


class ProjectConfig(AppConfig):
    name = "project"

    def ready(self) -> None:
        # Its receivers register themselves.
        from project import sign_in  # noqa: F401

        connection_created.connect(limit_waits)
