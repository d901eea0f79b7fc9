"""Two teams, one repository, and every way in which one team could reach the other."""

import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.sandbox import (
    Recording,
    SandboxServer,
    Token,
    build_pull_request_event,
    make_recording,
    sign,
)
from metrics_sync.sandbox.payloads import build_repository_event
from tests.factories import PullRequestFactory, TrackedRepositoryFactory, move_to_github

REPOSITORY = "acme/anvil"


def connect(sandbox: SandboxServer, name: str) -> TrackedRepository:
    sandbox.world.add_token(Token(f"ghp_{name}"))
    return TrackedRepositoryFactory(
        full_name=REPOSITORY,
        team__slug=name,
        integration__credential__access_token=f"ghp_{name}",
        integration__webhook_secret=f"secret of {name}",
    )


@pytest.fixture
def mine(sandbox: SandboxServer, db: None) -> TrackedRepository:
    return connect(sandbox, "mine")


@pytest.fixture
def theirs(sandbox: SandboxServer, db: None) -> TrackedRepository:
    return connect(sandbox, "theirs")


@pytest.fixture
def recording(sandbox: SandboxServer) -> Recording:
    return sandbox.world.add(make_recording(REPOSITORY, 7))


def add_row(repository: TrackedRepository, recording: Recording) -> PullRequest:
    return PullRequestFactory(
        merged=True,
        team=repository.team,
        github_repo=REPOSITORY,
        github_pr_id=recording.pull["id"],
        github_pr_number=recording.number,
    )


def post(client: Client, to: TrackedRepository, recording: Recording, *, secret: str) -> int:
    body = json.dumps(build_pull_request_event(recording, "closed")).encode()
    headers = {
        "X-GitHub-Delivery": "guid",
        "X-GitHub-Event": "pull_request",
        "X-Hub-Signature-256": sign(body, secret),
    }
    path = to.integration.get_webhook_path()
    answer = client.post(path, body, content_type="application/json", headers=headers)
    return answer.status_code


def test_webhook_of_one_team_writes_no_row_of_another(
    client: Client, mine: TrackedRepository, theirs: TrackedRepository, recording: Recording
) -> None:
    """Both teams track the repository, but only one got the delivery."""
    status = post(client, mine, recording, secret="secret of mine")

    assert (status, [row.team for row in PullRequest.objects.all()]) == (202, [mine.team])


def test_secret_of_one_team_opens_no_webhook_of_another(
    client: Client, mine: TrackedRepository, theirs: TrackedRepository, recording: Recording
) -> None:
    """A person who configures one team's webhook could forge another team's merges."""
    status = post(client, theirs, recording, secret="secret of mine")

    assert (status, PullRequest.objects.count()) == (401, 0)


@pytest.mark.usefixtures("theirs")
def test_job_asks_with_its_own_teams_token(
    sandbox: SandboxServer, mine: TrackedRepository, recording: Recording
) -> None:
    """The other team's token may read more, and has its own budget."""
    fetch_pr_complete_data(add_row(mine, recording).pk)

    assert {request.token for request in sandbox.requests} == {"ghp_mine"}


def test_job_writes_only_its_own_teams_rows(
    mine: TrackedRepository, theirs: TrackedRepository, recording: Recording
) -> None:
    """The same pull request has a row in each team, each with its own lists and people."""
    row, other = add_row(mine, recording), add_row(theirs, recording)

    fetch_pr_complete_data(row.pk)

    assert (row.commits.count(), other.commits.count()) == (3, 0)
    assert {person.team for person in mine.team.people.all()} == {mine.team}
    assert not theirs.team.people.exists()


def test_token_of_one_team_is_not_lent_to_a_row_of_another(
    sandbox: SandboxServer, mine: TrackedRepository, recording: Recording
) -> None:
    """A team that does not track the repository has no token for it."""
    row = PullRequestFactory(merged=True, github_repo=REPOSITORY)

    fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    assert (row.sync_status, sandbox.requests) == ("untracked", [])


def test_fetch_pr_for_one_team_leaves_the_other_alone(
    mine: TrackedRepository, theirs: TrackedRepository, recording: Recording
) -> None:
    """The command refuses to guess the team, and then writes only the named team's rows."""
    with pytest.raises(CommandError, match="--team"):
        call_command("fetch_pr", REPOSITORY, "7")

    call_command("fetch_pr", REPOSITORY, "7", "--team", "mine", "--json")

    assert [row.team for row in PullRequest.objects.all()] == [mine.team]


@pytest.mark.usefixtures("redis")
def test_reconcile_of_one_team_leaves_the_other_alone(
    mine: TrackedRepository, theirs: TrackedRepository, recording: Recording
) -> None:
    """An operator who repairs one team must not spend another team's budget."""
    row, other = add_row(mine, recording), add_row(theirs, recording)

    call_command("reconcile", "--team", "mine", "--json")

    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.sync_status, other.sync_status) == ("queued", "pending")


@pytest.mark.parametrize("event", ["closed", "deleted"])
def test_shared_webhook_writes_no_row_of_a_team_on_another_github(
    theirs: TrackedRepository, recording: Recording, event: str
) -> None:
    """GitHub Enterprise has other repositories with the same names and ids."""
    repository = recording.pull["base"]["repo"]
    move_to_github(theirs.integration, "https://ghe.acme.example/api/v3")
    TrackedRepository.objects.update(github_repo_id=repository["id"])
    payload, name = build_pull_request_event(recording, "closed"), "pull_request"
    if event == "deleted":
        payload, name = build_repository_event("deleted", repository), "repository"

    delivery = Delivery("guid", name, event, REPOSITORY, payload, "{}")
    status = record_delivery(delivery, integration=None).status

    theirs.refresh_from_db()
    assert (status, PullRequest.objects.count(), theirs.is_active) == ("ignored", 0, True)
