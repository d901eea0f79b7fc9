"""Run the benchmarks: `python -m tests.benchmarks [NAME]...`."""

import json
import logging
import os
import platform
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
import psutil

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402
from rich.console import Console  # noqa: E402

from tests.benchmarks.figures import Figure, draw, write_markdown  # noqa: E402
from tests.benchmarks.stage import Stage, open_stage  # noqa: E402

#: Each is a module beside this one; they run in this order.
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
    "dashboard",
    "pages",
)
#: What the dashboard over 100,000 pull requests may take.
PAGE_MS = 500
DOCUMENT: Path = settings.BASE_DIR / "docs" / "performance.md"
#: What `--document` writes between.
MARKS = ("<!-- make bench -->", "<!-- end -->")


@dataclass(slots=True)
class Run:
    """All figures of one run, and the circumstances that they depend on."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    #: How many processes wanted the processors before anything was measured.
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    seconds: int = 0
    database: str = ""

    def describe(self) -> str:
        """Say in one line where and when this was measured."""
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
        for name in options.names or [name for name in NAMES if _exists(name)]:
            console.print(f"{name} ...")
            run.figures[name] = _measure(name, stage)
            console.print(draw(name, run.figures[name]))
    run.seconds = round(time.monotonic() - started)
    (settings.VAR_DIR / "bench.json").write_text(run.to_json())
    if options.markdown:
        print(run.to_markdown())  # noqa: T201
    if options.document:
        DOCUMENT.write_text(_replace(DOCUMENT.read_text(), run.to_markdown()))


def _measure(name: str, stage: Stage) -> list[Figure]:
    module = import_module(f"tests.benchmarks.{name}")
    if name != "dashboard":
        found: list[Figure] = module.measure(stage)
        return found
    if not stage.is_postgresql:
        return [Figure("dashboard", None, "ms", note="needs PostgreSQL")]
    return list(_flatten("dashboard", module.measure()))


def _flatten(name: str, found: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield the numbers of nested figures; the name of a duration ends in its unit."""
    for key, value in found.items():
        what = f"{name}, {key.removesuffix('_ms').replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flatten(what, value)
        elif isinstance(value, (int, float)):
            budget = PAGE_MS if key == "page_ms" else None
            yield Figure(what, value, "ms" if key.endswith("_ms") else "", at_most=budget)


def _exists(name: str) -> bool:
    return find_spec(f"tests.benchmarks.{name}") is not None


def _replace(text: str, table: str) -> str:
    """Put the table between the marks of a document."""
    begin, end = map(re.escape, MARKS)
    return re.sub(f"({begin}\n).*?({end})", lambda m: f"{m[1]}{table}{m[2]}", text, flags=re.DOTALL)


def _parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[[], *NAMES], metavar="NAME", help=" ".join(NAMES)
    )
    parser.add_argument("--markdown", action="store_true", help="print all figures as one table")
    parser.add_argument(
        "--document", action="store_true", help="put that table into docs/performance.md"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
