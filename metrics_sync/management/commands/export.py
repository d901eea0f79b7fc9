"""Export merged pull requests with their metrics."""

import csv
import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder

from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import add_since, add_team, find_team
from metrics_sync.management.progress import show_progress
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.operate.exporting import COLUMNS, export, list_exportable
from metrics_sync.operate.spreadsheets import to_cell

NOTES = """
One record for each merged pull request, oldest merge first: its identity, how complete its data
is, its metrics, and how these were computed (`provenance`). Unknown is empty (csv) or null
(jsonl), never 0. Hours are numbers with two decimals. Pull requests by bots are left out, and
stderr says how many.

  manage.py export --format csv > pull_requests.csv
  manage.py export --format csv --output pull_requests.csv
  manage.py export --format csv --with-bots > all.csv
  manage.py export --format jsonl --team platform --since 30d | gzip > platform.jsonl.gz

--output shows progress, and writes the whole file or nothing. --json prints how many pull requests
were written to that file; for the records themselves as JSON use --format jsonl.
"""


class Command(OperatorCommand):
    help = "Write merged pull requests with their metrics to stdout, one record a line."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", required=True, choices=["csv", "jsonl"])
        add_team(parser)
        add_since(parser)
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="write to this file instead of stdout"
        )
        parser.add_argument("--with-bots", action="store_true", help="include those by bots")

    def handle(self, **options: Any) -> None:
        output, form = options["output"], options["format"]
        if options["json"] and output is None:
            raise UsageError(
                "--json needs --output FILE, because the records themselves go to stdout. "
                "For records as JSON use --format jsonl."
            )
        team = find_team(options["team"]).slug if options["team"] else ""
        chosen: dict[str, Any] = {"team": team, "since": options["since"]}
        left_out = 0
        if not options["with_bots"]:
            left_out = list_exportable(**chosen, by_bots=True).count()
            chosen["by_bots"] = False
        rows = list_exportable(**chosen)
        if output is None:
            _write(export(rows), self.stdout, form=form)
        else:
            count = self._write_file(rows, output, form=form)
            if options["json"]:
                self.print_json({"pull_requests": count, "format": form, "output": str(output)})
            else:
                self.stderr.write(f"Wrote {count} pull requests to {output}.")
        if left_out:
            self.stderr.write(
                f"Left out pull requests by bots: {left_out}. Add --with-bots to include them."
            )

    def _write_file(self, rows: PullRequestQuerySet, output: Path, *, form: str) -> int:
        """Write a temporary file next to `output`, and rename it when it is complete."""
        part = output.with_name(f"{output.name}.part")
        count = 0
        try:
            with (
                part.open("w", encoding="utf-8", newline="") as file,
                show_progress(self.stderr) as meter,
            ):
                records = meter.track(export(rows), "Exporting", total=rows.count())
                count = _write(records, file, form=form)
            part.replace(output)
        except KeyboardInterrupt as error:
            raise CommandError(f"Stopped. {output} was not changed.") from error
        finally:
            part.unlink(missing_ok=True)
        return count


def _write(records: Iterable[dict[str, Any]], file: Any, *, form: str) -> int:
    """Write the records, one a line, and return how many there were."""
    count = 0
    if form == "csv":
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
    for count, record in enumerate(records, start=1):  # noqa: B007
        if form == "csv":
            writer.writerow([to_cell(value) for value in record.values()])
        else:
            file.write(json.dumps(record, cls=DjangoJSONEncoder) + "\n")
    return count
