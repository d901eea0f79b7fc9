"""`manage.py rotate_token_keys`: a key can be replaced without losing a secret."""

import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from pytest_django import Settings

from metrics_sync.exceptions import DecryptionError
from metrics_sync.models import IntegrationCredential
from tests.factories import GitHubIntegrationFactory

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def credential(settings: Settings, db: None) -> IntegrationCredential:
    """A credential and a webhook secret that the old key encrypted."""
    settings.TOKEN_ENCRYPTION_KEYS = [OLD]
    return GitHubIntegrationFactory(credential__access_token="ghp_kept").credential


def test_old_key_is_needed_no_more(settings: Settings, credential: IntegrationCredential) -> None:
    """Only then may the operator throw it away."""
    settings.TOKEN_ENCRYPTION_KEYS = [NEW, OLD]

    call_command("rotate_token_keys")

    settings.TOKEN_ENCRYPTION_KEYS = [NEW]
    credential.refresh_from_db()
    assert credential.access_token == "ghp_kept"
    assert credential.integrations.get().webhook_secret.startswith("webhook-secret-")


def test_secret_that_no_key_decrypts_is_named_and_left(
    settings: Settings, credential: IntegrationCredential, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are rotated all the same."""
    settings.TOKEN_ENCRYPTION_KEYS = [NEW]
    GitHubIntegrationFactory(credential__access_token="ghp_other")

    with pytest.raises(CommandError, match=rf"IntegrationCredential {credential.pk} \(access_tok"):
        call_command("rotate_token_keys")

    assert "2 of 4 secrets rotated" in capsys.readouterr().out
    with pytest.raises(DecryptionError):
        credential.refresh_from_db()
