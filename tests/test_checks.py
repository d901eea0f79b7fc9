"""What `manage.py check` says before a wrong setting hurts."""

import pytest
from cryptography.fernet import Fernet
from django.core.checks import run_checks
from pytest_django import Settings


def list_ids() -> list[str]:
    """Return the ids of this app's findings."""
    return [found.id for found in run_checks() if str(found.id).startswith("metrics_sync.")]


def test_settings_of_the_tests_are_in_order() -> None:
    """Findings that are always there are not read."""
    assert list_ids() == []


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param([""], id="empty"),
        pytest.param(["no key"], id="no key"),
        pytest.param([Fernet.generate_key().decode(), "no key"], id="second is no key"),
    ],
)
def test_key_that_is_none_is_found(settings: Settings, keys: list[str]) -> None:
    """The first secret would otherwise be refused in the middle of `connect`."""
    settings.TOKEN_ENCRYPTION_KEYS = keys

    assert list_ids() == ["metrics_sync.E001"]


@pytest.mark.parametrize("url", ["", "api.github.com", "ghe.acme.com/api/v3", "ftp://acme.com"])
def test_api_address_without_a_scheme_is_found(settings: Settings, url: str) -> None:
    """Every fetch would fail, with a reason that nobody understands."""
    settings.GITHUB_API_URL = url

    assert list_ids() == ["metrics_sync.E002"]


@pytest.mark.parametrize("url", ["https://ghe.acme.com/api/v3", "http://127.0.0.1:8080"])
def test_whole_address_is_in_order(settings: Settings, url: str) -> None:
    """GitHub Enterprise and the sandbox have addresses of their own."""
    settings.GITHUB_API_URL = url

    assert list_ids() == []
