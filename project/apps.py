"""This installation, as a Django app."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "project"

    def ready(self) -> None:
        # Its receivers register themselves.
        from project import sign_in  # noqa: F401
