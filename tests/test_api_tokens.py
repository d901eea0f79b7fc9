"""`manage.py api_tokens`: lists the tokens and revokes them."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from metrics_sync.models import ApiToken, AuditEntry, Team
from tests.factories import TeamFactory

pytestmark = pytest.mark.django_db


def make(team: Team, name: str) -> ApiToken:
    token = ApiToken(team=team, name=name)
    token.draw_token()
    token.save()
    return token


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    call_command("api_tokens", *arguments, "--json")
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_list_names_every_token_and_shows_none(capsys: pytest.CaptureFixture[str]) -> None:
    """The person who created a token three years ago may have left."""
    charts = make(TeamFactory(slug="forge"), "charts")
    other = make(TeamFactory(slug="mobile"), "report")

    printed = run(capsys)

    assert [(row["team"], row["name"], row["state"]) for row in printed["tokens"]] == [
        ("forge", "charts", "usable"),
        ("mobile", "report", "usable"),
    ]
    assert str(charts.token) not in json.dumps(printed)
    assert [row["id"] for row in run(capsys, "--team", "MOBILE")["tokens"]] == [other.pk]


def test_revoked_token_opens_nothing_and_the_audit_log_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Revoking it a second time does nothing."""
    token = make(TeamFactory(slug="forge"), "charts")

    first = run(capsys, "--revoke", str(token.pk))
    second = run(capsys, "--revoke", str(token.pk))

    assert (first["revoked"], second["revoked"]) == ([token.pk], [])
    assert first["tokens"][0]["state"] == "revoked"
    assert [entry.change for entry in AuditEntry.objects.all()] == ["revoked"]


def test_unknown_token_is_wrong_usage_and_revokes_nothing() -> None:
    """The operator may have named the token of another team."""
    token = make(TeamFactory(slug="forge"), "charts")
    TeamFactory(slug="mobile")

    with pytest.raises(CommandError, match=f"no token {token.pk}") as raised:
        call_command("api_tokens", "--team", "mobile", "--revoke", str(token.pk))

    assert raised.value.returncode == 2
    assert ApiToken.objects.get().state == "usable"


def test_people_read_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has the id that --revoke takes."""
    token = make(TeamFactory(slug="forge"), "charts")

    call_command("api_tokens")
    call_command("api_tokens", "--revoke", str(token.pk))

    table, _, revoked = capsys.readouterr().out.rpartition("Revoked ")
    assert str(token.pk) in table
    assert token.prefix in table
    assert revoked.endswith("of team forge.\n")
