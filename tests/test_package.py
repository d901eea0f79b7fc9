"""What a host project installs: the files of the wheel, and the packages that it requires."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from django.conf import settings
from packaging.requirements import Requirement

ROOT: Path = settings.BASE_DIR
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [
    Requirement(text)
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
]


def find_product() -> Iterator[Path]:
    """Yield the files of the product: the app without the pretend GitHub."""
    for path in (ROOT / "metrics_sync").rglob("*"):
        if path.is_file() and not {"__pycache__", "sandbox"} & set(path.parts):
            yield path.relative_to(ROOT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [path] = folder.iterdir()
    with ZipFile(path) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_product_only(wheel: set[str]) -> None:
    """A host project must get all pages, and neither our project nor our tests."""
    files = {name for name in wheel if ".dist-info/" not in name}

    assert files == {path.as_posix() for path in find_product()}


@pytest.mark.parametrize("part", ["templates", "static", "migrations", "management/commands"])
def test_wheel_holds_what_is_found_by_its_folder(wheel: set[str], part: str) -> None:
    """No module imports these files, so only a page or a command would miss them."""
    assert [name for name in wheel if name.startswith(f"metrics_sync/{part}/")]


def test_every_imported_package_is_required() -> None:
    """Another package may install it here, but not in the host project."""
    modules = {
        name.partition(".")[0]
        for path in find_product()
        if path.suffix == ".py"
        for name in list_imports(ast.parse((ROOT / path).read_text()))
    }
    # The last comes with the extra `http2` of httpx2.
    foreign = modules - sys.stdlib_module_names - {"metrics_sync", "h2"}

    owners = {one.name: list_modules(one.name) & foreign for one in REQUIRED}

    assert foreign == set().union(*owners.values())
    assert [name for name, owned in owners.items() if not owned] == []


def list_modules(package: str) -> set[str]:
    """Return what can be imported of a package, from its list of files."""
    files = distribution(package).files or []
    return {file.parts[0].removesuffix(".py") for file in files}


def list_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("required", REQUIRED, ids=lambda one: one.name)
def test_tested_version_is_within_the_range(required: Requirement) -> None:
    """What we test with must be something that a host project can get."""
    pins = dict(
        line.split(" ")[0].split("==")
        for line in (ROOT / "requirements" / "base.txt").read_text().splitlines()
        if "==" in line
    )
    [version] = [pins[name] for name in pins if Requirement(name).name == required.name]

    assert version in required.specifier
