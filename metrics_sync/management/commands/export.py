"""Export merged pull requests with their metrics."""

import csv
import json
import unicodedata
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from metrics_sync.management.options import parse_since
from metrics_sync.models import Team
from metrics_sync.operate.exporting import COLUMNS, export, list_exportable

NOTES = """
One record for each merged pull request, oldest merge first: what it is, how complete its data
are, its metrics, and how they got their numbers (`provenance`). Unknown is empty (csv) or null
(jsonl), never 0. Pull requests by bots are left out, and stderr says how many.

  manage.py export --format csv > pull_requests.csv
  manage.py export --format csv --with-bots > all.csv
  manage.py export --format jsonl --team platform --since 30d | gzip > platform.jsonl.gz
"""

#: What spreadsheets take for a formula at the start of a cell.
FORMULA = ("=", "+", "-", "@")


class Command(BaseCommand):
    help = "Write merged pull requests with their metrics to stdout, one record a line."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--format", required=True, choices=["csv", "jsonl"])
        parser.add_argument("--team", default="", metavar="SLUG", help="only this team")
        parser.add_argument(
            "--since", type=parse_since, metavar="30d|DATE", help="only merges since then"
        )
        parser.add_argument("--with-bots", action="store_true", help="also those by bots")

    def handle(self, **options: Any) -> None:
        if options["team"] and not Team.objects.filter(slug=options["team"]).exists():
            raise CommandError(f"There is no team {options['team']!r}.", returncode=2)
        chosen = {"team": options["team"], "since": options["since"]}
        left_out = 0
        if not options["with_bots"]:
            left_out = list_exportable(**chosen, by_bots=True).count()
            chosen["by_bots"] = False
        records = export(list_exportable(**chosen))
        if options["format"] == "csv":
            self._write_csv(records)
        else:
            for record in records:
                self.stdout.write(json.dumps(record, cls=DjangoJSONEncoder))
        if left_out:
            self.stderr.write(
                f"Left out pull requests by bots: {left_out}. Add --with-bots to have them, too."
            )

    def _write_csv(self, records: Iterable[dict[str, Any]]) -> None:
        writer = csv.writer(self.stdout)
        writer.writerow(COLUMNS)
        writer.writerows([_to_cell(value) for value in record.values()] for record in records)


def _to_cell(value: Any) -> Any:
    """Return what a spreadsheet reads as this value, and never as a formula."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if isinstance(value, str) and _is_formula(value):
        return f"'{value}"
    return value.isoformat() if hasattr(value, "isoformat") else value


def _is_formula(text: str) -> bool:
    """Whether a spreadsheet could take a text for a formula, or for the start of another cell.

    Spreadsheets skip what cannot be seen, and read full-width signs as the usual ones.
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not text or text[0] in "\t\r\n":
        return bool(text)
    seen = (letter for letter in text if letter.isprintable() and not letter.isspace())
    return unicodedata.normalize("NFKC", next(seen, "")).startswith(FORMULA)
