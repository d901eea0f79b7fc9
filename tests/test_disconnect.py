"""`manage.py connect --list` and `manage.py disconnect`: what is connected, and its end."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from metrics_sync.models import AuditEntry, GitHubIntegration, Team, TrackedRepository
from tests.factories import PullRequestFactory, TeamFactory, TrackedRepositoryFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def platform() -> Team:
    return TeamFactory(slug="platform", name="Platform")


@pytest.fixture
def anvil(platform: Team) -> TrackedRepository:
    return TrackedRepositoryFactory(
        team=platform,
        full_name="acme/anvil",
        integration__organization_slug="acme",
        integration__credential__access_token="ghp_anvil",
    )


def add_hammer(anvil: TrackedRepository) -> TrackedRepository:
    return TrackedRepositoryFactory(
        team=anvil.team, full_name="acme/hammer", integration=anvil.integration
    )


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    call_command(*arguments, "--json")
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_list_shows_teams_and_repositories_and_no_secret(
    anvil: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was made can be found again, without a look into the database."""
    TeamFactory(slug="empty")
    add_hammer(anvil).deactivate()

    printed = run(capsys, "connect", "--list")

    empty, platform = printed["teams"]
    assert (empty["team"], empty["integrations"]) == ("empty", [])
    [integration] = platform["integrations"]
    assert integration["repositories"] == [
        {"full_name": "acme/anvil", "is_active": True},
        {"full_name": "acme/hammer", "is_active": False},
    ]
    assert integration["owner"] == "acme"
    assert anvil.integration.webhook_secret not in json.dumps(printed)


def test_people_read_the_list_as_lines(
    anvil: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path of the webhook is what one looks for at GitHub."""
    call_command("connect", "--list", "--team", "PLATFORM")

    printed = capsys.readouterr().out
    assert "acme/anvil" in printed
    assert str(anvil.integration.uuid) in printed


def test_repository_is_tracked_no_more_and_its_data_stay(
    anvil: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its token serves the other repositories of the owner."""
    add_hammer(anvil)
    row = PullRequestFactory(team=anvil.team, github_repo="acme/anvil")

    printed = run(capsys, "disconnect", "https://github.com/acme/anvil/pull/7")

    assert printed == {"team": "platform", "repositories": ["acme/anvil"], "token_deleted": False}
    anvil.refresh_from_db()
    assert not anvil.is_active
    row.refresh_from_db()
    assert anvil.integration.credential.access_token == "ghp_anvil"
    assert AuditEntry.objects.get().change == "tracked no more"


def test_last_repository_takes_the_token_with_it(
    anvil: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret that nothing needs is only good for thieves."""
    assert run(capsys, "disconnect", "acme/anvil")["token_deleted"]

    credential = GitHubIntegration.objects.get().credential
    assert (credential.access_token, credential.revoked_at is not None) == ("", True)


def test_owner_is_disconnected_as_a_whole(
    anvil: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """An App that is followed would track more of it tomorrow."""
    add_hammer(anvil)
    GitHubIntegration.objects.update(follows_installation=True)

    printed = run(capsys, "disconnect", "acme", "--team", "Platform")

    assert printed["repositories"] == ["acme/anvil", "acme/hammer"]
    assert not TrackedRepository.objects.active().exists()
    assert not GitHubIntegration.objects.get().follows_installation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["acme/nothing"], "No team tracks acme/nothing", id="unknown repository"),
        pytest.param(["nobody"], "No team is connected to nobody", id="unknown owner"),
        pytest.param(["acme/anvil"], "track acme/anvil: mobile, platform", id="several teams"),
        pytest.param(["acme"], "these teams: mobile, platform", id="owner of several teams"),
        pytest.param(["acme", "--team", "x"], "The teams are mobile, platform", id="no such team"),
        pytest.param(["https://gitlab.com/acme/anvil"], "at gitlab.com", id="another place"),
    ],
)
def test_what_is_not_clear_is_wrong_usage_and_says_what_there_is(
    anvil: TrackedRepository, arguments: list[str], message: str
) -> None:
    """The wrong team's data would stop."""
    TrackedRepositoryFactory(
        team=TeamFactory(slug="mobile"),
        full_name="acme/anvil",
        integration__organization_slug="acme",
    )

    with pytest.raises(CommandError, match=message) as raised:
        call_command("disconnect", *arguments)

    assert raised.value.returncode == 2
    assert TrackedRepository.objects.active().count() == 2
