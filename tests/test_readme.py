"""The README's claims, as far as the code can confirm them."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from django.conf import settings
from django.core.management import load_command_class
from django.urls import resolve

from metrics_sync.management import commands

ROOT: Path = settings.BASE_DIR
README = (ROOT / "README.md").read_text()


def read_environment() -> set[str]:
    """Return the names of all variables that settings, commands and the Procfile read."""
    asked = r"""(?:env\.\w+\(|_required\(|environ\.get\()\s*"([A-Z_]+)"|\$\{([A-Z_]+):"""
    files = [ROOT / "Procfile", *(ROOT / "project").glob("*.py"), *_list_app_files()]
    found = (match for file in files for match in re.findall(asked, file.read_text()))
    return {first or second for first, second in found}


def _list_app_files() -> list[Path]:
    return [path for path in (ROOT / "metrics_sync").rglob("*.py") if "demo" not in path.parts]


def test_every_variable_is_in_the_table_of_settings() -> None:
    """An operator cannot guess the name of a variable."""
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))

    assert documented == read_environment()


def test_every_command_is_in_the_table_of_commands() -> None:
    """Nobody uses a command that is not documented."""
    names = {module.name for module in iter_modules(commands.__path__)}
    documented = re.findall(r"^\| `(\w+)", README, re.MULTILINE)

    assert names <= set(documented)


@pytest.mark.parametrize("name", [module.name for module in iter_modules(commands.__path__)])
def test_help_of_every_command_says_what_it_does(name: str) -> None:
    """`--help` is where operators look first."""
    command = load_command_class("metrics_sync", name)

    text = command.create_parser("manage.py", name).format_help()

    assert command.help
    assert import_module(f"{commands.__name__}.{name}").__doc__
    assert "manage.py" in text


def test_every_target_of_make_that_it_names_exists() -> None:
    """The two commands of the first screen above all."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert set(re.findall(r"`?make ([a-z-]+)`", README)) <= targets
    assert {"demo", "test"} <= targets


@pytest.mark.parametrize(
    "path", ["/", "/admin/", "/django-rq/", "/api/v1/docs", "/healthz", "/readyz", "/metrics"]
)
def test_every_address_leads_somewhere(path: str) -> None:
    """Addresses are bookmarked, and configured at load balancers."""
    assert f"`{path}`" in README
    assert resolve(path)
