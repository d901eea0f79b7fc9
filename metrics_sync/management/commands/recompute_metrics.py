"""Compute the metrics of stored pull requests again."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import track

from metrics_sync.heal.remeasuring import list_measurable, remeasure
from metrics_sync.models import Team

NOTES = """
Reads and writes the database only; GitHub is not asked. Needed after the bots of a team were
changed. After an upgrade with new formulas the clock does it by itself.

  manage.py recompute_metrics
  manage.py recompute_metrics --team platform
  manage.py recompute_metrics --outdated
"""


class Command(BaseCommand):
    help = "Compute the metrics of stored pull requests again, without asking GitHub."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--team", default="", metavar="SLUG", help="only this team")
        parser.add_argument(
            "--outdated", action="store_true", help="only what older formulas measured"
        )

    def handle(self, **options: Any) -> None:
        if options["team"] and not Team.objects.filter(slug=options["team"]).exists():
            raise CommandError(f"There is no team {options['team']!r}.", returncode=2)
        rows = list_measurable(team=options["team"], only_outdated=options["outdated"])
        steps = track(
            remeasure(rows),
            "Measuring",
            total=rows.count(),
            console=Console(file=cast(IO[str], self.stderr)),
            disable=not sys.stderr.isatty(),
        )
        count = sum(1 for _ in steps)
        self.stdout.write(f"Measured {count} pull requests.")
