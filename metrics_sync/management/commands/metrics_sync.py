"""Run a command of this app by its full name, where another app has one of the same name.

Django finds a command by its name alone: if two apps have an `export`, it runs that of the app
listed first in INSTALLED_APPS. `manage.py metrics_sync export` always runs ours.
"""

from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, find_commands, load_command_class

MANAGEMENT = Path(__file__).resolve().parent.parent
NAMES = sorted(set(find_commands(str(MANAGEMENT))) - {"metrics_sync"})


class Command(BaseCommand):
    help = f"Run a command of metrics_sync: {', '.join(NAMES)}."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("command", choices=NAMES)

    def run_from_argv(self, argv: list[str]) -> None:
        """Pass everything after the name on to the command, which answers --help itself."""
        program, ours, *rest = argv
        if rest and rest[0] in NAMES:
            load_command_class(ours, rest[0]).run_from_argv([f"{program} {ours}", *rest])
        else:
            super().run_from_argv(argv)

    def handle(self, *args: Any, **options: Any) -> None:
        raise CommandError("Run it as manage.py metrics_sync COMMAND.", returncode=2)
