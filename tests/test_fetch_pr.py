"""`manage.py fetch_pr`: one pull request, now, in this process."""

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from metrics_sync.models import PullRequest
from metrics_sync.names import read_address
from metrics_sync.operate.pull_request_lookup import find_access, get_pull_request
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from tests.conftest import PATIENCE_SECONDS
from tests.factories import PullRequestFactory, TrackedRepositoryFactory
from tests.processes import run_manage

REPOSITORY = "acme/anvil"


@pytest.fixture(autouse=True)
def _acme(sandbox: SandboxServer, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)
    sandbox.world.add(make_recording(REPOSITORY, 7))


def fetch(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    call_command("fetch_pr", REPOSITORY, "7", "--json", *arguments)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_untracked_repository_is_fetched_for_the_team_local(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command works before anything is set up."""
    printed = fetch(capsys)

    assert (printed["team"], printed["sync_status"], printed["requests_made"]) == (
        "local",
        "complete",
        10,
    )
    assert printed["metrics"]["review_rounds"] == 1
    assert PullRequest.objects.get().commits.count() == printed["commits_synced"] == 3


def test_tracked_repository_is_asked_with_its_own_token(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token in the environment belongs to somebody else."""
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_of_somebody_else")
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=REPOSITORY, **token)

    printed = fetch(capsys)

    assert printed["team"] == repository.team.slug
    assert {request.token for request in sandbox.requests} == {DEFAULT_TOKEN}


def test_repository_of_two_teams_needs_a_team(capsys: pytest.CaptureFixture[str]) -> None:
    """The command must not guess whose rows to write."""
    TrackedRepositoryFactory(full_name=REPOSITORY)
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    mine = TrackedRepositoryFactory(full_name=REPOSITORY, **token)

    with pytest.raises(CommandError, match="--team"):
        fetch(capsys)
    printed = fetch(capsys, "--team", mine.team.slug)

    assert {row.team for row in PullRequest.objects.all()} == {mine.team}
    assert printed["sync_status"] == "complete"


def test_second_fetch_is_answered_in_full(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator who runs the command doubts the stored data."""
    fetch(capsys)
    asked_before = len(sandbox.requests)

    printed = fetch(capsys)

    assert {request.status for request in sandbox.requests[asked_before:]} == {200}
    assert printed["sync_status"] == "complete"


def test_table_shows_receipt_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    """People read the table, programs the JSON."""
    call_command("fetch_pr", REPOSITORY, "7")

    printed = capsys.readouterr().out
    for shown in ("review_comments", "verified", "avg_fix_response_hours", "complete, 10 requests"):
        assert shown in printed


def test_partial_fetch_prints_what_came_and_exits_1(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts check the exit status, people read what is missing."""
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/files", status=500))

    with pytest.raises(CommandError, match="is partial, not complete"):
        call_command("fetch_pr", REPOSITORY, "7", "--json")

    printed = json.loads(capsys.readouterr().out)
    assert printed["errors"] == ["files: GitHub answered 500 Server Error"]
    assert printed["commits_synced"] == 3


@pytest.mark.parametrize("number", ["0", "-7"])
def test_impossible_number_is_wrong_usage(number: str) -> None:
    """No request is sent."""
    with pytest.raises(CommandError) as raised:
        call_command("fetch_pr", REPOSITORY, "--", number)

    assert raised.value.returncode == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        pytest.param(["acme/nothing", "7"], {}, "not there, or not visible", id="no repository"),
        pytest.param(
            [REPOSITORY, "7"],
            {"GITHUB_TOKEN": "ghp_wrong"},
            "does not accept the token",
            id="bad token",
        ),
        pytest.param(
            [REPOSITORY, "7"],
            {"GITHUB_API_URL": "http://127.0.0.1:1"},
            "no answer from GitHub",
            id="no network",
        ),
    ],
)
def test_the_three_likeliest_mistakes_are_one_clear_line(
    environment: dict[str, str], arguments: list[str], changes: dict[str, str], message: str
) -> None:
    """A traceback does not help an operator."""
    # With DEBUG nothing is said of SQLite and the like.
    environment |= {"GITHUB_TOKEN": DEFAULT_TOKEN, "DEBUG": "1", **changes}

    done = run_manage("fetch_pr", *arguments, environment=environment, timeout=PATIENCE_SECONDS)

    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.strip().splitlines()
    assert message in line


def test_row_is_known_as_merged_before_its_lists_are_fetched() -> None:
    """After a kill, reconcile would not find a row that looks open."""
    team, access = find_access(read_address(REPOSITORY))

    row, requests = get_pull_request(team, access, REPOSITORY.upper(), 7)

    assert (row.state, row.sync_status, requests) == ("merged", "pending", 1)
    assert row.github_repo == REPOSITORY


def test_row_known_only_by_its_id_gets_its_number(sandbox: SandboxServer) -> None:
    """Rows from before numbers were stored must not be doubled."""
    team, access = find_access(read_address(REPOSITORY))
    recording = sandbox.world.recording(REPOSITORY, 7)
    old = PullRequestFactory(
        team=team, github_repo=REPOSITORY, github_pr_id=recording.pull["id"], github_pr_number=None
    )

    row, _ = get_pull_request(team, access, REPOSITORY, 7)

    assert (row, row.github_pr_number, PullRequest.objects.count()) == (old, 7, 1)


def test_repository_that_took_the_name_is_refused(sandbox: SandboxServer) -> None:
    """The team's row must not hold a pull request of another repository."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name=REPOSITORY, github_repo_id=99, **token)

    with pytest.raises(CommandError, match="another repository now"):
        call_command("fetch_pr", REPOSITORY, "7")

    repository.refresh_from_db()
    assert (PullRequest.objects.count(), repository.doubted_at is not None) == (0, True)
