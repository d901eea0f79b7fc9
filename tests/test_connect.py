"""`manage.py connect`: from a token to a webhook's address and secret."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from metrics_sync.models import GitHubIntegration, IntegrationCredential, Team, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token

REPOSITORY = "acme/anvil"


@pytest.fixture(autouse=True)
def _acme(sandbox: SandboxServer, db: None) -> None:
    sandbox.world.add_repository(REPOSITORY)
    sandbox.world.add_repository("acme/hammer")


def connect(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
    token: str = DEFAULT_TOKEN,
    repository: str = REPOSITORY,
) -> dict[str, Any]:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{token}\n"))
    call_command("connect", repository, "--team", "platform", "--token-stdin", "--json", *arguments)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_everything_that_a_webhook_needs_is_made_and_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One command, and the operator can go to GitHub's settings."""
    printed = connect(capsys, monkeypatch, "--base-url", "https://sync.example/")

    integration = GitHubIntegration.objects.get()
    assert printed == {
        "team": "platform",
        "repository": REPOSITORY,
        "webhook_url": f"https://sync.example/webhooks/github/{integration.uuid}/",
        "webhook_secret": integration.webhook_secret,
    }
    assert TrackedRepository.objects.get().integration == integration


def test_token_and_secret_are_encrypted_at_rest(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dump of the database must open nothing."""
    printed = connect(capsys, monkeypatch)

    with connection.cursor() as cursor:
        cursor.execute("SELECT access_token FROM metrics_sync_integrationcredential")
        [(token,)] = cursor.fetchall()
        cursor.execute("SELECT webhook_secret FROM metrics_sync_githubintegration")
        [(secret,)] = cursor.fetchall()
    assert DEFAULT_TOKEN not in token
    assert printed["webhook_secret"] not in secret
    assert IntegrationCredential.objects.get().access_token == DEFAULT_TOKEN


def test_running_it_again_stores_the_new_token_and_keeps_the_webhook(
    sandbox: SandboxServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tokens expire; GitHub's settings must not have to change with them."""
    first = connect(capsys, monkeypatch)
    IntegrationCredential.objects.get().mark_revoked()
    sandbox.world.add_token(Token("ghp_new"))

    second = connect(capsys, monkeypatch, token="ghp_new")

    credential = IntegrationCredential.objects.get()
    assert first == second
    assert (credential.access_token, credential.revoked_at) == ("ghp_new", None)


def test_second_repository_of_an_owner_shares_its_integration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One webhook of the organisation serves all its repositories."""
    first = connect(capsys, monkeypatch)
    second = connect(capsys, monkeypatch, repository="acme/hammer")

    assert first["webhook_url"] == second["webhook_url"]
    assert TrackedRepository.objects.count() == 2


def test_two_teams_have_their_own_integrations(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One team's secret must not write another team's rows."""
    connect(capsys, monkeypatch)
    connect(capsys, monkeypatch, "--team", "mobile")

    secrets = {row.webhook_secret for row in GitHubIntegration.objects.all()}
    assert (Team.objects.count(), len(secrets)) == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"repository": "acme/nothing"}, "not visible to this token", id="repository"),
        pytest.param({"token": "ghp_wrong"}, "does not accept the token", id="token"),
    ],
)
def test_what_github_refuses_is_one_line_and_stores_nothing(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    message: str,
) -> None:
    """A half-made connection would look like a whole one."""
    with pytest.raises(CommandError, match=message) as raised:
        connect(capsys, monkeypatch, **options)

    assert (raised.value.returncode, "ghp_" in str(raised.value)) == (1, False)
    assert Team.objects.count() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"repository": "https://github.com/a/b"}, "OWNER/NAME", id="URL"),
        pytest.param({"token": ""}, "no token", id="empty token"),
        pytest.param({"token": "two words"}, "not a token", id="strange token"),
    ],
)
def test_wrong_usage_says_what_is_right_and_exits_2(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    message: str,
) -> None:
    """GitHub is not even asked."""
    with pytest.raises(CommandError, match=message) as raised:
        connect(capsys, monkeypatch, **options)

    assert raised.value.returncode == 2


def test_token_of_the_environment_is_taken_without_the_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secret stores hand tokens over like this."""
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    call_command("connect", REPOSITORY, "--team", "platform")

    assert "Connected acme/anvil (team platform)." in capsys.readouterr().out


def test_token_that_cannot_read_the_owners_other_repositories_is_refused(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share it, and would fail from the next merge on."""
    connect(capsys, monkeypatch)
    sandbox.world.add_token(Token("ghp_narrow", repositories=frozenset({"acme/hammer"})))

    with pytest.raises(CommandError, match=r"cannot read acme/anvil.*Nothing was stored"):
        connect(capsys, monkeypatch, token="ghp_narrow", repository="acme/hammer")

    assert IntegrationCredential.objects.get().access_token == DEFAULT_TOKEN
    assert TrackedRepository.objects.count() == 1


def test_repository_that_was_renamed_stays_one(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who missed the webhook of the rename connects it by its new name."""
    connect(capsys, monkeypatch)
    sandbox.world.rename_repository(REPOSITORY, "acme/hammock")

    connect(capsys, monkeypatch, repository="acme/hammock")

    assert [row.full_name for row in TrackedRepository.objects.all()] == ["acme/hammock"]
