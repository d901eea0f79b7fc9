"""`manage.py rotate_token_keys`: a key can be replaced without losing a secret."""

import subprocess

import psutil
import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.core.management import CommandError, call_command
from django.db.models import TextField
from django.db.models.functions import Cast
from pytest_django import Settings

from metrics_sync.exceptions import DecryptionError
from metrics_sync.models import AuditEntry, IntegrationCredential, Team
from metrics_sync.operate.key_rotation import BATCH, _rotate, rotate_secrets
from tests.conftest import MANAGE, PATIENCE_SECONDS
from tests.factories import GitHubIntegrationFactory, TeamFactory

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture
def credential(settings: Settings, db: None) -> IntegrationCredential:
    """A credential and a webhook secret that the old key encrypted."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [OLD]
    return GitHubIntegrationFactory(credential__access_token="ghp_kept").credential


def test_old_key_is_needed_no_more(settings: Settings, credential: IntegrationCredential) -> None:
    """Only then may the operator remove it."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW, OLD]

    call_command("rotate_token_keys")

    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW]
    credential.refresh_from_db()
    assert credential.access_token == "ghp_kept"
    assert credential.integrations.get().webhook_secret.startswith("webhook-secret-")


def test_secret_that_no_key_decrypts_is_named_and_left(
    settings: Settings, credential: IntegrationCredential, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are rotated all the same."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW]
    GitHubIntegrationFactory(credential__access_token="ghp_other")

    with pytest.raises(CommandError, match=rf"IntegrationCredential {credential.pk} \(access_tok"):
        call_command("rotate_token_keys")

    assert "2 of 4 secrets rotated" in capsys.readouterr().out
    with pytest.raises(DecryptionError):
        credential.refresh_from_db()


def store_many(team: Team, count: int) -> None:
    IntegrationCredential.objects.bulk_create(
        IntegrationCredential(team=team, access_token=f"ghp_{number}") for number in range(count)
    )


def list_rotated() -> list[bool]:
    """Say of each token whether the new key reads it, oldest first."""
    rows = IntegrationCredential.objects.annotate(raw=Cast("access_token", TextField()))
    return [is_new(raw) for raw in rows.order_by("pk").values_list("raw", flat=True)]


def is_new(raw: str) -> bool:
    try:
        Fernet(NEW).decrypt(raw.encode())
    except InvalidToken:
        return False
    return True


@pytest.mark.long(seconds=6)
def test_rotation_that_is_killed_halfway_is_done_by_the_next(
    settings: Settings, environment: dict[str, str]
) -> None:
    """A machine may crash at any moment, and no token may be lost."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [OLD]
    store_many(TeamFactory(), 60 * BATCH)
    command = [*MANAGE, "rotate_token_keys"]
    environment |= {"TOKEN_ENCRYPTION_KEYS": f"{NEW},{OLD}"}

    process = psutil.Popen(command, env=environment)
    first = IntegrationCredential.objects.annotate(raw=Cast("access_token", TextField()))
    first = first.order_by("pk").values_list("raw", flat=True)[:1]
    while not is_new(first.get()):
        assert process.poll() is None
    process.kill()
    process.wait()
    halfway = list_rotated().count(True)
    subprocess.run(command, env=environment, check=True, timeout=PATIENCE_SECONDS)

    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW]
    tokens = IntegrationCredential.objects.order_by("pk").values_list("access_token", flat=True)
    assert 0 < halfway < 60 * BATCH
    assert halfway % BATCH == 0
    assert list(tokens) == [f"ghp_{number}" for number in range(60 * BATCH)]


def test_token_that_is_stored_meanwhile_stays(settings: Settings, db: None) -> None:
    """Operators and workers go on while the keys are rotated."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [OLD]
    store_many(TeamFactory(), 2 * BATCH)
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW, OLD]
    last = IntegrationCredential.objects.order_by("pk").last()
    assert last is not None

    rotation = rotate_secrets()
    next(rotation)
    last.store_token("ghp_newer")
    list(rotation)

    last.refresh_from_db()
    assert (last.access_token, all(list_rotated())) == ("ghp_newer", True)


def test_token_that_is_stored_after_its_batch_was_read_stays(
    settings: Settings, credential: IntegrationCredential
) -> None:
    """PostgreSQL lets others write between the read of a value and its replacement."""
    rows = IntegrationCredential.objects.annotate(raw=Cast("access_token", TextField()))
    old = rows.values_list("raw", flat=True).get()
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW, OLD]
    credential.store_token("ghp_newer")

    assert _rotate(rows.filter(pk=credential.pk), "access_token", old)

    credential.refresh_from_db()
    assert credential.access_token == "ghp_newer"


def test_rotation_again_writes_nothing(
    settings: Settings, credential: IntegrationCredential
) -> None:
    """A repeated rotation must not repeat the work of an interrupted one."""
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = [NEW, OLD]
    call_command("rotate_token_keys")
    rows = IntegrationCredential.objects.annotate(raw=Cast("access_token", TextField()))
    before = rows.values_list("raw", flat=True).get()

    call_command("rotate_token_keys")

    assert rows.values_list("raw", flat=True).get() == before


def test_rotation_is_in_the_audit_log(
    settings: Settings, credential: IntegrationCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who removes the old key must know that the rotation ended."""
    monkeypatch.setenv("LOGNAME", "olga")

    call_command("rotate_token_keys")

    entry = AuditEntry.objects.get()
    assert entry.actor == "manage.py rotate_token_keys by olga"
    assert entry.change == "2 of 2 secrets rotated."
