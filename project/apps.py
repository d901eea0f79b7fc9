"""The project as a Django app, which sets up connections and sign-in."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created

from project.databases import limit_waits


class ProjectConfig(AppConfig):
    name = "project"

    def ready(self) -> None:
        # Importing it registers its receivers.
        from project import sign_in  # noqa: F401

        connection_created.connect(limit_waits)
