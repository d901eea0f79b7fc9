"""See the whole service at work on this machine, with a pretend GitHub."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from signal import SIGINT, SIGTERM, default_int_handler, signal, sigwait
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

NOTES = """
Starts a database, a Redis, a pretend GitHub, the web server, two workers and the clock; lets
pull requests merge, some of them with accidents; reconciles; prints what arrived. Where
DATABASE_URL or REDIS_URL are set, it makes and removes a database of its own on these servers.
Nothing of it stays behind but the log, var/demo.log.
"""


class Command(BaseCommand):
    help = "See the whole service at work on this machine, with a pretend GitHub."
    requires_migrations_checks = False

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--exit", action="store_true", help="end by itself after the table")

    def handle(self, **options: Any) -> None:
        try:
            from project.demo import DemoError, open_stage, play
            from project.demo.stage import USERNAME
        except ModuleNotFoundError as error:
            raise CommandError(
                f"{error}. The demo needs requirements/dev.txt; `make demo` sees to that."
            ) from error
        signal(SIGTERM, default_int_handler)
        width = None if sys.stdout.isatty() else 120
        console = Console(file=cast(IO[str], self.stdout), highlight=False, width=width)
        try:
            with open_stage() as stage:
                play(stage, console)
                if options["exit"]:
                    return
                console.print(f"\nOpen {stage.web_url}/ as {USERNAME} with {stage.password}")
                console.print("Ctrl-C ends it.")
                _wait_for_the_end()
        except DemoError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            console.print("Ended.")


def _wait_for_the_end() -> None:
    sigwait({SIGINT, SIGTERM})
