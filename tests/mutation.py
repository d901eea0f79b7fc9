"""Breaks 60 lines of the core, one at a time, and tells which of them no test misses.

`make mutate` runs it; ARGS=... names modules. A line is chosen by a hash of what it says and where
it stands, so a change of one module leaves the choice in the others as it is.
"""

import argparse
import ast
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNT = 60
SEED = 1
#: What hangs is broken, too; no test of the core takes so long.
LONGEST_SECONDS = 900

#: The core, and the tests of each module; those that most likely miss something come first.
CORE = {
    "api_roots.py": "api_roots",
    "fields.py": "fields rotate_token_keys",
    "jobs.py": "jobs",
    "names.py": "names",
    "snapshot.py": "snapshot translation",
    "access/clients.py": "access tokens",
    "access/tokens.py": "tokens access",
    "github/errors.py": "github_errors",
    "github/translation.py": "translation",
    "github/witnesses.py": "witnesses github",
    "heal/backfill.py": "backfill",
    "heal/discovery.py": "discovery",
    "heal/reconcile.py": "reconcile",
    "heal/releasing.py": "releasing",
    "ingest/deliveries.py": "store views",
    "ingest/events.py": "events",
    "ingest/installations.py": "installations",
    "ingest/throttling.py": "throttling views",
    "ingest/webhooks.py": "webhooks views",
    "metrics/checks.py": "metrics",
    "metrics/commits.py": "metrics",
    "metrics/history.py": "metrics",
    "metrics/hours.py": "metrics",
    "metrics/measuring.py": "metrics measuring",
    "metrics/reviews.py": "metrics",
    "models/budgets.py": "access models",
    "models/pull_request.py": "models jobs store",
    "models/transitions.py": "deciding jobs",
    "store/snapshots.py": "store jobs",
    "work/queueing.py": "queueing counting reconcile monitoring",
    "work/verification.py": "verifying",
}

#: Mutants that change nothing that anybody could see, and why.
EQUIVALENT: dict[str, str] = {}

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
    """Yield what may be changed: not annotations, columns of the database, or inside of f-strings."""
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
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        yield ast.Pass()
    elif isinstance(node, ast.AugAssign | ast.Raise | ast.Continue):
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


def choose(paths: list[str]) -> list[Mutant]:
    """Return the 60 mutants, the same ones each time; some module's own where some are named."""
    mutants = [mutant for path in CORE for mutant in make_mutants(path)]
    ranked = sorted(
        (mutant for mutant in mutants if mutant.name not in EQUIVALENT),
        key=lambda mutant: mutant.rank,
    )
    return [mutant for mutant in ranked[:COUNT] if not paths or mutant.path in paths]


def run_tests(folder: Path, path: str) -> str:
    """Run the tests of a module until one fails; return what became of them."""
    files = [f"tests/test_{name}.py" for name in CORE[path].split()]
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:randomly", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, *files],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode not in (0, 1, 2):
        sys.exit(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return "fails" if done.returncode else "survives"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", choices=[[], *CORE], metavar="MODULE")
    parser.add_argument("--list", action="store_true", help="show the mutants, and run nothing")
    options = parser.parse_args()
    mutants = choose(options.paths)
    if options.list:
        sys.exit("\n".join(f"{mutant.path}:{mutant.line} {mutant.name}" for mutant in mutants))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "mutated"
        shutil.copytree(
            ROOT, folder, ignore=shutil.ignore_patterns(".venv", ".git", "var", ".*_cache")
        )
        survivors = [mutant for mutant in mutants if try_out(folder, mutant) == "survives"]
    print(f"{len(survivors)} of {len(mutants)} survive.")
    sys.exit(bool(survivors))


def try_out(folder: Path, mutant: Mutant) -> str:
    path = folder / "metrics_sync" / mutant.path
    text = path.read_text()
    path.write_text(mutant.source)
    outcome = run_tests(folder, mutant.path)
    path.write_text(text)
    print(
        f"{outcome:8} {mutant.path}:{mutant.line}  {mutant.before}  ->  {mutant.after}", flush=True
    )
    return outcome


if __name__ == "__main__":
    main()
