"""Secrets at rest: what the database holds, which keys decrypt it, and the error of a lost key."""

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.db.models import TextField
from django.db.models.functions import Cast
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from metrics_sync.exceptions import DecryptionError
from metrics_sync.fields import get_fernet
from metrics_sync.models import IntegrationCredential
from tests.factories import IntegrationCredentialFactory

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
FIELD = IntegrationCredential._meta.get_field("access_token")


@pytest.fixture
def credential(settings: Settings, db: None) -> IntegrationCredential:
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [OLD]
    return IntegrationCredentialFactory(access_token="ghp_täglich")


def read_raw(credential: IntegrationCredential) -> str:
    """Return what the database holds."""
    rows = IntegrationCredential.objects.annotate(raw=Cast("access_token", TextField()))
    return rows.values_list("raw", flat=True).get(pk=credential.pk)


def test_database_never_sees_the_secret(credential: IntegrationCredential) -> None:
    """Backups and replicas must be useless without the keys."""
    assert "ghp" not in read_raw(credential)

    credential.refresh_from_db()
    assert credential.access_token == "ghp_täglich"


def test_update_encrypts_too(credential: IntegrationCredential) -> None:
    """An UPDATE past the model's `save` would otherwise store the plain token."""
    IntegrationCredential.objects.update(access_token="ghp_updated")

    credential.refresh_from_db()
    assert credential.access_token == "ghp_updated"
    assert "ghp" not in read_raw(credential)


def test_empty_secret_is_stored_empty(credential: IntegrationCredential) -> None:
    """`exclude(access_token="")` finds the rows that have a secret."""
    credential.store_token("")

    assert read_raw(credential) == ""
    credential.refresh_from_db()
    assert credential.access_token == ""


def test_same_secret_is_encrypted_differently_each_time(credential: IntegrationCredential) -> None:
    """Equal ciphertexts would reveal which teams share a token."""
    before = read_raw(credential)
    credential.save()

    assert read_raw(credential) != before


def test_older_key_still_decrypts(settings: Settings, credential: IntegrationCredential) -> None:
    """A new key comes first while the secrets wait for the rotation."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW, OLD]

    credential.refresh_from_db()
    assert credential.access_token == "ghp_täglich"


def test_first_key_encrypts(settings: Settings, credential: IntegrationCredential) -> None:
    """Otherwise the old key could never be removed."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW, OLD]
    credential.save()

    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW]
    credential.refresh_from_db()
    assert credential.access_token == "ghp_täglich"


def test_lost_key_is_an_error_that_names_the_field(
    settings: Settings, credential: IntegrationCredential
) -> None:
    """The ciphertext would look like a token that GitHub refuses."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW]

    with pytest.raises(DecryptionError, match=r"IntegrationCredential\.access_token") as caught:
        credential.refresh_from_db()
    assert read_raw(credential) not in str(caught.value)


@pytest.mark.parametrize("stored", ["ghp_in_the_open", "é", "x" * 500, "gAAAAA=="])
def test_plain_text_in_the_database_is_an_error(stored: str) -> None:
    """A token typed into the database by hand must not be used by accident."""
    with pytest.raises(DecryptionError):
        FIELD.from_db_value(stored, None, None)


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param(["too short"], id="too short"),
        pytest.param([""], id="empty"),
        pytest.param([OLD, "x" * 44], id="second is no key"),
        pytest.param([f"{OLD[:-2]}é="], id="not ASCII"),
    ],
)
def test_malformed_key_says_how_to_make_one(settings: Settings, keys: list[str]) -> None:
    """The operator reads this message on the first start."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = keys

    with pytest.raises(ImproperlyConfigured, match=r"Fernet\.generate_key"):
        get_fernet()


@hypothesis_settings(deadline=None)
@given(st.text())
def test_every_text_is_read_as_it_was_written(text: str) -> None:
    """People choose webhook secrets with all of Unicode."""
    stored = FIELD.get_prep_value(text)

    assert FIELD.from_db_value(stored, None, None) == text
    assert not text or stored != text
