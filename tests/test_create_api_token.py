"""`manage.py create_api_token`: a token is printed once, and only its hash is kept."""

import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from metrics_sync.models import ApiToken, AuditEntry, Team
from tests.factories import TeamFactory


@pytest.fixture
def team(db: None) -> Team:
    return TeamFactory(slug="forge")


def test_token_alone_goes_to_stdout(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """It is piped into the configuration of whatever asks."""
    call_command("create_api_token", "forge", "charts")

    token = capsys.readouterr().out.strip()
    row = ApiToken.objects.of(token).get()
    assert (row.team, row.name, row.state) == (team, "charts", "usable")
    assert token.startswith("msync_")


def test_token_is_not_in_the_database(team: Team, capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads a backup must not be able to ask in the team's name."""
    call_command("create_api_token", "forge", "charts", "--json")

    answer = json.loads(capsys.readouterr().out)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM metrics_sync_apitoken")
        [stored] = cursor.fetchall()
    assert (answer["team"], answer["name"]) == ("forge", "charts")
    assert answer["token"] not in repr(stored)
    assert answer["token"][12:] not in repr(stored)


@pytest.mark.usefixtures("team")
def test_token_expires_when_it_is_told_to() -> None:
    """A token for a report of this quarter need not live longer."""
    call_command("create_api_token", "forge", "charts", "--days", "90")

    left = (ApiToken.objects.get().expires_at or timezone.now()) - timezone.now()
    assert timedelta(days=89) < left <= timedelta(days=90)


@pytest.mark.django_db
def test_team_that_does_not_exist_is_wrong_usage() -> None:
    """A mistyped team must not be made, and nothing is printed that looks like a token."""
    with pytest.raises(CommandError, match="no team 'forgge'") as raised:
        call_command("create_api_token", "forgge", "charts")

    assert raised.value.returncode == 2
    assert not ApiToken.objects.exists()


def test_who_made_it_is_in_the_audit_log(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads all that the team has."""
    monkeypatch.setenv("LOGNAME", "olga")

    call_command("create_api_token", "forge", "charts")

    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.team, entry.change) == (
        "manage.py create_api_token by olga",
        team,
        "made",
    )
    assert "charts" in entry.subject


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["charts", "--days", "0"], "whole number of days"),
        (["charts", "--days", "99999999999"], "whole number of days"),
        ([""], "cannot be blank"),
        (["x" * 300], "at most 200"),
    ],
)
def test_wrong_usage_makes_no_token(arguments: list[str], message: str) -> None:
    """A token that is expired already, or that nobody can name, is none."""
    with pytest.raises(CommandError, match=message):
        call_command("create_api_token", "forge", *arguments)

    assert not ApiToken.objects.exists()


def test_token_without_the_api_is_refused(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would open nothing, and nobody would know why."""
    monkeypatch.setattr("metrics_sync.management.commands.create_api_token.find_spec", {}.get)

    with pytest.raises(CommandError, match=r"metrics_sync\[api\]"):
        call_command("create_api_token", "forge", "charts")

    assert not ApiToken.objects.exists()
