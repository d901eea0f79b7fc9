"""Run the benchmarks: `python -m tests.benchmarks [NAME]...`."""

import json
import logging
import os
import platform
import re
import time
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

import django
import psutil

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402
from rich.console import Console  # noqa: E402

from tests.benchmarks.figures import Figure, draw, write_markdown  # noqa: E402
from tests.benchmarks.stage import open_stage  # noqa: E402

#: The modules of this package that measure; they run in this order.
NAMES = (
    "requests",
    "arrival",
    "phases",
    "transport",
    "storing",
    "throughput",
    "backfill",
    "purses",
    "endpoint",
    "profile",
    "scan",
    "pages",
)
#: Those that run only where they are named: ten minutes, half an hour, an hour.
LONG = ("growth", "million", "hour")
DOCUMENT: Path = settings.BASE_DIR / "docs" / "performance.md"
#: `--document` writes between these marks.
MARKS = ("<!-- make bench -->", "<!-- end -->")


@dataclass(slots=True)
class Run:
    """All figures of one run, and the conditions under which they were measured."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: The load average before the first measurement.
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    seconds: int = 0
    database: str = ""

    def describe(self) -> str:
        """Return one line about when and on which machine this was measured."""
        return (
            f"{self.started_at:%Y-%m-%d %H:%M} UTC, {psutil.cpu_count()} cores, "
            f"Python {platform.python_version()}, {self.database}, "
            f"load before {self.load_before:.1f}, {self.seconds} s."
        )

    def to_json(self) -> str:
        found = {name: [f.to_json() for f in figures] for name, figures in self.figures.items()}
        return json.dumps({"about": self.describe(), "figures": found}, indent=1)

    def to_markdown(self) -> str:
        everything = [figure for figures in self.figures.values() for figure in figures]
        return f"{self.describe()}\n\n{write_markdown(everything)}\n"


def main() -> None:
    options = _parse_options()
    logging.disable(logging.INFO)
    console = Console(stderr=True, width=None if Console().is_terminal else 130)
    run, started = Run(), time.monotonic()
    with open_stage() as stage:
        run.database = connection.display_name
        for name in options.names or NAMES:
            console.print(f"{name} ...")
            run.figures[name] = import_module(f"tests.benchmarks.{name}").measure(stage)
            console.print(draw(name, run.figures[name]))
    run.seconds = round(time.monotonic() - started)
    (settings.VAR_DIR / "bench.json").write_text(run.to_json())
    if options.markdown:
        print(run.to_markdown())  # noqa: T201
    if options.document:
        DOCUMENT.write_text(_replace(DOCUMENT.read_text(), run.to_markdown()))


def _replace(text: str, table: str) -> str:
    """Put the table between the marks of a document."""
    begin, end = map(re.escape, MARKS)
    return re.sub(f"({begin}\n).*?({end})", lambda m: f"{m[1]}{table}{m[2]}", text, flags=re.DOTALL)


def _parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        choices=[[], *NAMES, *LONG],
        metavar="NAME",
        help=f"{' '.join(NAMES)}; and, only where it is named, {' '.join(LONG)}",
    )
    parser.add_argument("--markdown", action="store_true", help="print all figures as one table")
    parser.add_argument(
        "--document", action="store_true", help="put that table into docs/performance.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
