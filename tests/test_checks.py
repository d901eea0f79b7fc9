"""What every start, and `manage.py check`, reports about wrong settings."""

import os
import re
import subprocess
from typing import Any
from unittest.mock import Mock

import pytest
from cryptography.fernet import Fernet
from django.core.checks import run_checks
from pytest_django import Settings

from tests.conftest import PATIENCE_SECONDS
from tests.processes import run_manage

KEY = Fernet.generate_key().decode()
STRONG = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"


@pytest.fixture
def production(
    settings: Settings, app_keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings without a fault."""
    use_engine(monkeypatch, settings, "postgresql")
    settings.SECRET_KEY = settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET = STRONG
    settings.ALLOWED_HOSTS = ["sync.example"]
    settings.METRICS_SYNC_GITHUB_APP_ID, settings.METRICS_SYNC_GITHUB_APP_PRIVATE_KEY = (
        "1",
        app_keys[0],
    )
    return settings


def use_engine(monkeypatch: pytest.MonkeyPatch, settings: Settings, name: str) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", f"django.db.backends.{name}")


def list_ids() -> list[str]:
    """Return the ids of this app's findings."""
    return sorted(found.id for found in run_checks() if str(found.id).startswith("metrics_sync."))


@pytest.mark.usefixtures("production")
def test_good_settings_are_in_order() -> None:
    """Nobody reads findings that are always there."""
    assert list_ids() == []


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize(
    ("vendor", "returns_keys"),
    [pytest.param("mysql", True, id="MySQL"), pytest.param("sqlite", False, id="old SQLite")],
)
def test_database_that_the_app_cannot_use_is_found(
    monkeypatch: pytest.MonkeyPatch, vendor: str, returns_keys: bool
) -> None:
    """The first deliveries would be refused as if GitHub had written them wrongly."""
    features = Mock(can_return_columns_from_insert=returns_keys)
    database = Mock(vendor=vendor, display_name="the database", features=features)
    monkeypatch.setattr("metrics_sync.operate.system_checks.connection", database)

    assert list_ids() == ["metrics_sync.E006"]


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([""], id="empty"),
        pytest.param(["no key"], id="no key"),
        pytest.param([KEY, "no key"], id="second is no key"),
    ],
)
def test_key_that_is_none_is_found(production: Settings, keys: list[str]) -> None:
    """Otherwise `connect` would fail when it encrypts the first secret."""
    production.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = keys

    assert list_ids() == ["metrics_sync.E001"]


@pytest.mark.parametrize("url", ["", "api.github.com", "ghe.acme.com/api/v3", "ftp://acme.com"])
def test_api_address_without_a_scheme_is_found(production: Settings, url: str) -> None:
    """Every fetch would fail with an unclear reason."""
    production.METRICS_SYNC_GITHUB_API_URL = url

    assert list_ids() == ["metrics_sync.E002"]


@pytest.mark.parametrize(
    ("url", "is_debug", "found"),
    [
        ("https://ghe.acme.com/api/v3", False, []),
        ("http://ghe.acme.com/api/v3", False, ["metrics_sync.W001"]),
        ("https://127.0.0.1:8080", False, ["metrics_sync.W001"]),
        ("http://127.0.0.1:8080", True, []),
    ],
)
def test_address_to_which_a_token_goes_in_the_open_is_found(
    production: Settings, url: str, is_debug: bool, found: list[str]
) -> None:
    """Only the sandbox of a development machine may use plain HTTP."""
    production.METRICS_SYNC_GITHUB_API_URL, production.DEBUG = url, is_debug
    production.ALLOWED_HOSTS = ["localhost"]

    assert list_ids() == found


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"METRICS_SYNC_GITHUB_APP_ID": ""}, "metrics_sync.E003", id="app without id"),
        pytest.param(
            {"METRICS_SYNC_GITHUB_APP_PRIVATE_KEY": ""}, "metrics_sync.E003", id="app without key"
        ),
        pytest.param(
            {"METRICS_SYNC_GITHUB_APP_PRIVATE_KEY": "k"}, "metrics_sync.E004", id="key is none"
        ),
        pytest.param(
            {"METRICS_SYNC_GITHUB_WEBHOOK_SECRET": ""}, "metrics_sync.W002", id="app without secret"
        ),
        pytest.param(
            {"METRICS_SYNC_GITHUB_WEBHOOK_SECRET": "a" * 19}, "metrics_sync.W003", id="short secret"
        ),
        pytest.param({"DEBUG": True}, "metrics_sync.W004", id="debug in public"),
        pytest.param({"SECRET_KEY": STRONG[:49]}, "metrics_sync.W005", id="short key"),
        pytest.param({"SECRET_KEY": "abcd" * 20}, "metrics_sync.W005", id="dull key"),
        pytest.param({"ALLOWED_HOSTS": ["*"]}, "metrics_sync.W006", id="every host"),
        pytest.param({"ALLOWED_HOSTS": []}, "metrics_sync.W009", id="no host"),
        pytest.param(
            {"METRICS_SYNC_METRICS_TOKEN": "a" * 19}, "metrics_sync.W008", id="short metrics token"
        ),
    ],
)
def test_weak_or_missing_setting_is_found(
    production: Settings, changes: dict[str, Any], found: str
) -> None:
    """Nobody notices these faults before they do harm."""
    for name, value in changes.items():
        setattr(production, name, value)

    assert list_ids() == [found]


def test_app_may_be_left_out(production: Settings) -> None:
    """Personal tokens do not need an App."""
    production.METRICS_SYNC_GITHUB_APP_ID = production.METRICS_SYNC_GITHUB_APP_PRIVATE_KEY = ""
    production.METRICS_SYNC_GITHUB_WEBHOOK_SECRET = ""

    assert list_ids() == []


def test_sqlite_is_for_one_machine(production: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers on another machine would use a database of their own."""
    use_engine(monkeypatch, production, "sqlite3")
    options = {"transaction_mode": "IMMEDIATE"}
    monkeypatch.setitem(production.DATABASES["default"], "OPTIONS", options)

    assert list_ids() == ["metrics_sync.W007"]


def check_deploy(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run what `release` runs in a careful deployment, with nothing else configured."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    command = ["check", "--deploy", "--fail-level", "WARNING"]
    return run_manage(*command, environment={**kept, **environment}, timeout=PATIENCE_SECONDS)


def test_good_production_environment_is_clean(app_keys: tuple[str, str]) -> None:
    """The settings that the README requires must be enough."""
    result = check_deploy(
        SECRET_KEY=STRONG,
        TOKEN_ENCRYPTION_KEYS=KEY,
        ALLOWED_HOSTS="sync.example",
        CSRF_TRUSTED_ORIGINS="https://sync.example",
        DATABASE_URL="postgres://postgres@127.0.0.1/metrics",
        REDIS_URL="redis://127.0.0.1/0",
        GITHUB_WEBHOOK_SECRET=STRONG,
        GITHUB_APP_ID="29310",
        GITHUB_APP_PRIVATE_KEY=app_keys[0],
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "no issues" in result.stdout


def test_every_fault_of_an_environment_is_named() -> None:
    """Correcting one fault at a time and starting again takes all day."""
    result = check_deploy(
        SECRET_KEY="short",
        TOKEN_ENCRYPTION_KEYS="no key",
        ALLOWED_HOSTS="*",
        DATABASE_URL="sqlite:////tmp/metrics-sync-check.sqlite3",
        GITHUB_API_URL="http://ghe.acme.com/api/v3",
        GITHUB_WEBHOOK_SECRET="short",
        GITHUB_APP_ID="29310",
        METRICS_TOKEN="x",
        SECURE_COOKIES="0",
    )

    named = set(re.findall(r"\((\w+\.[EW]\d+)\)", result.stderr))
    ours = {f"metrics_sync.{name}" for name in ("E001", "E003", "W001", "W003", "W005", "W006")}
    assert result.returncode == 1
    ours |= {"metrics_sync.W007", "metrics_sync.W008"}
    assert ours | {"security.W012", "security.W016"} <= named


def test_project_without_a_default_database_is_checked(
    production: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django itself says that it is missing."""
    monkeypatch.delitem(production.DATABASES, "default")

    assert list_ids() == []
