#!/usr/bin/env python
"""Django's command line for this project."""

import os
import signal
import sys


def main() -> None:
    # A shell has what it starts in the background ignore SIGINT, by which RQ's pool of workers
    # stops them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line

        from project.databases import PROCESS
    except ImportError as error:
        raise SystemExit(
            "Django is not installed for this Python. Run `make install`, then use "
            "`.venv/bin/python manage.py`."
        ) from error
    # How long it waits for the database depends on it.
    os.environ[PROCESS] = "".join(sys.argv[1:2])
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        raise SystemExit(f"manage.py: {error}") from error


if __name__ == "__main__":
    main()
