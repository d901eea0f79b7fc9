"""Compute the metrics of stored pull requests again."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from metrics_sync.heal.remeasuring import list_measurable, remeasure
from metrics_sync.management.base import OperatorCommand
from metrics_sync.management.options import add_team, find_team
from metrics_sync.management.progress import show_progress

NOTES = """
Uses the database only; sends nothing to GitHub. After an upgrade with new formulas, and after a
change of a team's bots, the clock does the same by itself: 2,000 pull requests every five minutes.

  manage.py recompute_metrics
  manage.py recompute_metrics --team platform
  manage.py recompute_metrics --outdated

Safe to interrupt and to run again.
"""


class Command(OperatorCommand):
    help = "Compute the metrics of stored pull requests again, without asking GitHub."
    notes = NOTES
    _count = 0

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_team(parser)
        parser.add_argument(
            "--outdated", action="store_true", help="only those measured by older formulas"
        )

    def handle(self, **options: Any) -> None:
        team = find_team(options["team"]).slug if options["team"] else ""
        rows = list_measurable(team=team, only_outdated=options["outdated"])
        total = rows.count()
        try:
            with show_progress(self.stderr) as meter:
                for _ in meter.track(remeasure(rows), "Measuring", total=total):
                    self._count += 1
        except KeyboardInterrupt as error:
            self._report_result(total, options)
            raise CommandError("Stopped. Run it again to measure the rest.") from error
        self._report_result(total, options)

    def _report_result(self, total: int, options: dict[str, Any]) -> None:
        if options["json"]:
            self.print_json({"measured": self._count, "found": total})
        elif self._count < total:
            self.stdout.write(f"Measured {self._count} of {total} pull requests.")
        else:
            self.stdout.write(f"Measured {self._count} pull requests.")
