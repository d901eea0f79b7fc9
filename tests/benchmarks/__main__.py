"""Run the benchmarks: `python -m tests.benchmarks [NAME]...`."""

import os
import time
from argparse import ArgumentParser, Namespace
from importlib import import_module
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from rich.console import Console  # noqa: E402

from tests.benchmarks.figures import Figure, draw  # noqa: E402
from tests.benchmarks.stage import open_stage  # noqa: E402

#: Each a module beside this one, in the order in which they run.
NAMES = ("arrival", "phases")


def main() -> None:
    options = _parse_options()
    console = Console(stderr=True, width=130)
    results: dict[str, list[Figure]] = {}
    about = _describe()
    started = time.monotonic()
    with open_stage(()) as stage:
        for name in options.names or NAMES:
            console.print(f"{name} ...")
            results[name] = import_module(f"tests.benchmarks.{name}").measure(stage)
            console.print(draw(name, results[name]))
    about["seconds"] = round(time.monotonic() - started)


def _describe() -> dict[str, Any]:
    return {}


def _parse_options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMES)}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
