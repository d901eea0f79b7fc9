#!/usr/bin/env python
"""Django's command line for this project."""

import json
import os
import signal
import sys
from typing import NoReturn

#: What stands in for settings that only `--help` is asked without.
FOR_HELP = {
    "DATABASE_URL": "sqlite://:memory:",
    "SECRET_KEY": "only-for-help",  # nosec B105  (signs nothing: --help ends there)
    "TOKEN_ENCRYPTION_KEYS": "only-for-help",  # nosec B105  (encrypts nothing)
}


def main() -> None:
    # A shell has what it starts in the background ignore SIGINT, by which RQ's pool of workers
    # stops them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        from django.core.management import execute_from_command_line

        from metrics_sync.management.describing import FAULTS, describe_fault
        from project.databases import PROCESS
    except ImportError as error:
        raise SystemExit(
            "Django is not installed for this Python. Run `make install`, then use "
            "`.venv/bin/python manage.py`."
        ) from error
    # How long it waits for the database depends on it.
    os.environ[PROCESS] = "".join(sys.argv[1:2])
    if sys.argv[1:2] in ([], ["help"]) or {"--help", "-h"} & set(sys.argv):
        for name, value in FOR_HELP.items():
            os.environ.setdefault(name, value)
    try:
        execute_from_command_line(sys.argv)
    except FAULTS as error:
        # Wrong settings, and what Django's own commands meet.
        text = describe_fault(error)
        if text is None or "--traceback" in sys.argv:
            raise
        _fail(text)


def _fail(text: str) -> NoReturn:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": text}) + "\n")
    raise SystemExit(f"manage.py: {text}")


if __name__ == "__main__":
    main()
