"""`manage.py connect`: from a token to the address and secret of a webhook."""

import io
import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from metrics_sync.ingest import REPOSITORY_EVENTS
from metrics_sync.models import (
    AuditEntry,
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    Team,
    TrackedRepository,
)
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, Token
from metrics_sync.work.queueing import MERGES
from tests.factories import PullRequestFactory

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
    """After one command the operator can go to GitHub's settings."""
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
    """A dump of the database must not reveal them."""
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
    """Tokens expire, and GitHub's settings must not have to change."""
    first = connect(capsys, monkeypatch)
    IntegrationCredential.objects.get().mark_revoked()
    sandbox.world.add_token(Token("ghp_new"))

    second = connect(capsys, monkeypatch, token="ghp_new")

    credential = IntegrationCredential.objects.get()
    assert first == second
    assert (credential.access_token, credential.revoked_at) == ("ghp_new", None)


def test_new_token_releases_what_waits_for_the_limit_of_the_old_one(
    sandbox: SandboxServer,
    redis: Redis,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    """The merges must not wait for the end of the old token's hour."""
    connect(capsys, monkeypatch)
    PullRequestFactory(team=Team.objects.get(), github_repo=REPOSITORY, state="merged")
    PullRequest.objects.update(sync_status="queued", sync_job_id="job")
    redis.zadd(f"rq:scheduled:{MERGES}", {"job": time.time() + 3000})
    sandbox.world.add_token(Token("ghp_new"))

    with django_capture_on_commit_callbacks(execute=True):
        connect(capsys, monkeypatch, token="ghp_new")

    assert redis.zscore(f"rq:scheduled:{MERGES}", "job") <= time.time()


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
        pytest.param({"repository": "acme/../anvil"}, "OWNER/NAME", id="no name"),
        pytest.param({"repository": "acme"}, "An owner alone needs --app", id="owner"),
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
    """No request is sent."""
    with pytest.raises(CommandError, match=message) as raised:
        connect(capsys, monkeypatch, **options)

    assert raised.value.returncode == 2


@pytest.mark.parametrize(
    "pasted",
    [
        "https://github.com/acme/anvil/pull/7",
        "git@github.com:acme/anvil.git",
        "acme/anvil#7",
        " acme/anvil ",
    ],
)
def test_repository_may_be_pasted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pasted: str
) -> None:
    """People copy the address of a page."""
    assert connect(capsys, monkeypatch, repository=pasted)["repository"] == REPOSITORY


def test_address_at_another_github_is_refused(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token would be sent to the wrong GitHub."""
    with pytest.raises(CommandError, match=r"--api-url https://ghe\.acme\.com/api/v3") as raised:
        connect(
            capsys,
            monkeypatch,
            "--api-url",
            "https://ghe.other.com/api/v3",
            repository="https://ghe.acme.com/acme/anvil",
        )

    assert (raised.value.returncode, sandbox.requests) == (2, [])


def test_team_ignores_case_and_a_new_one_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A team made by a typing error would have no members."""
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    call_command("connect", REPOSITORY, "--team", "Platform")
    first = capsys.readouterr().err
    call_command("connect", REPOSITORY, "--team", "PLATFORM")
    second = capsys.readouterr().err

    assert "Created the team Platform." in first
    assert "Made" not in second
    assert list(Team.objects.values_list("slug", "name")) == [("platform", "Platform")]


def test_address_of_the_service_needs_a_scheme_and_should_be_reachable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub could not deliver."""
    with pytest.raises(CommandError, match="with its scheme"):
        connect(capsys, monkeypatch, "--base-url", "sync.example")
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    call_command("connect", REPOSITORY, "--team", "platform", "--base-url", "http://localhost:80")

    assert "GitHub cannot reach http://localhost:80" in capsys.readouterr().err


def test_printed_address_follows_from_the_settings(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator should set the address only once."""
    settings.METRICS_SYNC_BASE_URL = "https://sync.example/"

    printed = connect(capsys, monkeypatch)

    assert printed["webhook_url"].startswith("https://sync.example/webhooks/github/")


def test_token_of_the_environment_is_taken_without_the_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secret stores pass tokens in the environment."""
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    call_command("connect", REPOSITORY, "--team", "platform")

    assert "Connected acme/anvil (team platform)." in capsys.readouterr().out


def test_token_that_cannot_read_the_owners_other_repositories_is_refused(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """These repositories share the token, and their next fetch would fail."""
    connect(capsys, monkeypatch)
    sandbox.world.add_token(Token("ghp_narrow", repositories=frozenset({"acme/hammer"})))

    with pytest.raises(CommandError, match=r"cannot read acme/anvil.*Nothing was stored"):
        connect(capsys, monkeypatch, token="ghp_narrow", repository="acme/hammer")

    assert IntegrationCredential.objects.get().access_token == DEFAULT_TOKEN
    assert TrackedRepository.objects.count() == 1


def test_repository_that_was_renamed_stays_one(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The webhook of the rename may be lost, and the operator uses the new name."""
    connect(capsys, monkeypatch)
    sandbox.world.rename_repository(REPOSITORY, "acme/hammock")

    connect(capsys, monkeypatch, repository="acme/hammock")

    assert [row.full_name for row in TrackedRepository.objects.all()] == ["acme/hammock"]


def test_repository_that_was_made_anew_is_another_one(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deleted repository keeps its pull requests; GitHub is asked what became of it."""
    connect(capsys, monkeypatch)
    first = TrackedRepository.objects.get()
    row = PullRequestFactory(team=first.team, github_repo=REPOSITORY)
    sandbox.world.delete_repository(REPOSITORY)
    sandbox.world.add_repository(REPOSITORY, repository_id=99)

    connect(capsys, monkeypatch)

    row.refresh_from_db()
    first.refresh_from_db()
    assert (row.repository, first.doubted_at is not None) == (first, True)
    anew = TrackedRepository.objects.exclude(pk=first.pk).get()
    assert (anew.github_repo_id, anew.full_name) == (99, REPOSITORY)


def test_repository_that_is_connected_is_one_that_github_has_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From now on the shared webhook serves the team."""
    connect(capsys, monkeypatch)

    row = TrackedRepository.objects.get()
    assert row.verified_at is not None
    assert (row.verify_at, row.doubted_at) == (None, None)


def test_token_that_may_not_read_what_is_needed_is_refused_by_name(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the first merge would fail, when nobody looks."""
    sandbox.faults.add(Fault(FaultKind.PERMISSION, path=r"/pulls$"))

    with pytest.raises(CommandError, match="may not read pull_requests"):
        connect(capsys, monkeypatch)

    assert Team.objects.count() == 0


def test_token_that_may_read_pull_requests_needs_no_issues(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub shows the comments and the timeline of a pull request to either of the two."""
    sandbox.faults.add(Fault(FaultKind.PERMISSION, path=r"/anvil/issues(/comments)?$"))

    assert connect(capsys, monkeypatch)["repository"] == REPOSITORY


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (r"/commits$", "contents: of more than 250 commits"),
        (r"/check-runs$", "checks: check runs are not read; an App or a classic token"),
        (r"/status$", "statuses: "),
    ],
)
def test_token_without_what_is_optional_is_told_what_follows(
    sandbox: SandboxServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    told: str,
) -> None:
    """Metrics must not require access to the source code."""
    sandbox.faults.add(Fault(FaultKind.PERMISSION, path=path))
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    call_command("connect", REPOSITORY, "--team", "platform")

    assert f"The token may not read {told}" in capsys.readouterr().err
    assert TrackedRepository.objects.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://ghe.acme.com/api/v3", "https://"),
        ("https://127.0.0.1/api/v3", "this machine"),
        ("https://169.254.169.254/api/v3", "this machine"),
        ("https://user@ghe.acme.com/api/v3", "no user"),
    ],
)
def test_token_is_sent_to_no_unsafe_address(
    sandbox: SandboxServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    message: str,
) -> None:
    """Whoever runs that address could use the token."""
    with pytest.raises(CommandError, match=message) as raised:
        connect(capsys, monkeypatch, "--api-url", url)

    assert (raised.value.returncode, sandbox.requests) == (2, [])


# As a GitHub App.


@pytest.fixture
def installed(app: SandboxServer) -> SandboxServer:
    """A GitHub where the App is installed on acme."""
    app.world.add_repository("vault/secret", private=True)
    app.world.add_installation(5, "acme")
    return app


def connect_app(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, Any]:
    call_command(
        "connect", name, "--app", "--team", "platform", "--json", "--base-url", "https://a.b"
    )
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.usefixtures("installed")
def test_app_connects_all_that_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    """No token to store, and none that expires with whoever made it."""
    printed = connect_app(capsys, "acme")

    assert printed == {
        "team": "platform",
        "repository": None,
        "repositories": ["acme/anvil", "acme/hammer"],
        "webhook_url": "https://a.b/webhooks/github/",
        "webhook_secret": None,
    }
    integration = GitHubIntegration.objects.get()
    assert integration.follows_installation
    assert integration.repositories.count() == 2
    assert integration.credential.access_token.startswith("ghs_")


@pytest.mark.usefixtures("installed")
def test_app_that_is_connected_again_releases_what_waits(
    capsys: pytest.CaptureFixture[str], django_capture_on_commit_callbacks: Any
) -> None:
    """Its new installation may read what the old one might not."""
    connect_app(capsys, "acme")
    later = timezone.now() + timedelta(days=1)
    PullRequestFactory(
        team=Team.objects.get(),
        github_repo=REPOSITORY,
        state="merged",
        sync_status="failed",
        retry_at=later,
    )

    with django_capture_on_commit_callbacks(execute=True):
        connect_app(capsys, "acme")

    assert PullRequest.objects.get().retry_at < later


@pytest.mark.usefixtures("installed")
def test_app_connects_one_repository_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """The others may be secret to this team."""
    printed = connect_app(capsys, "acme/anvil")

    assert (printed["repository"], printed["repositories"]) == (REPOSITORY, [REPOSITORY])
    assert TrackedRepository.objects.get().full_name == REPOSITORY
    assert not GitHubIntegration.objects.get().follows_installation


@pytest.mark.usefixtures("installed")
def test_app_takes_the_place_of_a_token_and_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moving over must not need a new webhook, nor leave an unused token behind."""
    first = connect(capsys, monkeypatch)
    connect_app(capsys, "acme")
    kinds = list(IntegrationCredential.objects.values_list("kind", flat=True))
    last = connect(capsys, monkeypatch)

    assert (kinds, first) == (["app"], last)
    credential = IntegrationCredential.objects.get()
    assert (credential.kind, credential.access_token) == ("token", DEFAULT_TOKEN)
    assert not GitHubIntegration.objects.get().follows_installation


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("vault", "not installed there", id="account"),
        pytest.param("vault/secret", "install it on vault", id="repository"),
    ],
)
def test_app_that_is_not_installed_there_says_so(
    capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    """GitHub only says 404."""
    with pytest.raises(CommandError, match=message):
        connect_app(capsys, name)

    assert Team.objects.count() == 0


def test_app_that_is_not_set_up_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the first thing that is tried."""
    with pytest.raises(CommandError, match="GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY"):
        connect_app(capsys, "acme")


@pytest.mark.usefixtures("installed")
def test_who_connected_what_is_in_the_audit_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no token or secret is, encrypted or not."""
    monkeypatch.setenv("LOGNAME", "olga")
    printed = connect(capsys, monkeypatch)
    connect_app(capsys, "acme")

    entries = list(AuditEntry.objects.values_list("actor", "team__slug", "subject", "change"))
    text = str(entries)
    assert {entry[:2] for entry in entries} == {("manage.py connect by olga", "platform")}
    assert "new access token stored" in text
    assert "linked to installation 5 on acme" in text
    assert "uses a GitHub App installation in place of a personal access token" in text
    assert not any(word in text for word in ("ghp_", "ghs_", printed["webhook_secret"], "gAAAA"))


MAY_REGISTER = Token("ghp_hooks", scopes="public_repo, write:repo_hook")
ADDRESS = ("--create-webhook", "--base-url", "https://sync.example")


def test_webhook_is_registered_with_what_the_service_handles(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five fields and seven boxes at GitHub are five and seven ways to be wrong."""
    sandbox.world.add_token(MAY_REGISTER)

    printed = connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)

    [hook] = sandbox.world.hooks.values()
    assert (printed["webhook"], printed["webhook_error"]) == ("created", None)
    assert (hook.url, hook.secret) == (printed["webhook_url"], printed["webhook_secret"])
    assert set(hook.events) == REPOSITORY_EVENTS
    assert hook.content_type == "json"
    assert AuditEntry.objects.filter(change__contains="created at GitHub").exists()


def test_webhook_that_is_there_is_brought_up_to_date(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would deliver everything twice."""
    sandbox.world.add_token(MAY_REGISTER)
    connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)
    [hook] = sandbox.world.hooks.values()
    hook.url = hook.url.replace("sync.example", "old.example")
    hook.secret, hook.events, hook.is_active = "old", ("push",), False

    printed = connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)

    [again] = sandbox.world.hooks.values()
    assert printed["webhook"] == "updated"
    assert (again.url, again.secret) == (printed["webhook_url"], printed["webhook_secret"])
    assert (set(again.events), again.is_active) == (REPOSITORY_EVENTS, True)


def test_webhook_of_the_right_address_is_the_one_that_is_changed(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub refuses a second one of that address, which changing an older one would make."""
    sandbox.world.add_token(MAY_REGISTER)
    connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)
    [old] = sandbox.world.hooks.values()
    url, old.url = old.url, old.url.replace("sync.example", "old.example")
    right = sandbox.world.add_hook(url, secret="old", full_name=old.full_name)

    printed = connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)

    assert (printed["webhook"], right.secret) == ("updated", printed["webhook_secret"])
    assert "old.example" in old.url


def test_answer_that_was_lost_registers_no_second_webhook(
    sandbox: SandboxServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is sent again, and GitHub says that there is one."""
    sandbox.world.add_token(MAY_REGISTER)
    connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)
    # The first list is from before it.
    sandbox.faults.add(Fault(FaultKind.WRONG_TYPE, path="/hooks$", body=[], times=1))

    printed = connect(capsys, monkeypatch, *ADDRESS, token=MAY_REGISTER.value)

    assert (printed["webhook"], len(sandbox.world.hooks)) == ("updated", 1)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(None, "404", id="classic token"),
        pytest.param("repository_hooks=write", "repository_hooks=write", id="fine-grained token"),
    ],
)
def test_token_that_may_not_register_is_told_what_it_needs(
    sandbox: SandboxServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str | None,
    said: str,
) -> None:
    """The repository is connected all the same, and the webhook can be added by hand."""
    if fault is not None:
        sandbox.faults.add(Fault(FaultKind.PERMISSION, path="/hooks", permissions=fault))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{DEFAULT_TOKEN}\n"))
    arguments = ("connect", REPOSITORY, "--team", "platform", "--token-stdin", *ADDRESS)

    with pytest.raises(SystemExit) as exit_:
        call_command(*arguments)

    out, err = capsys.readouterr()
    integration = GitHubIntegration.objects.get()
    assert exit_.value.code == 1
    assert said in err
    assert '"Webhooks: write"' in err
    assert "write:repo_hook" in err
    assert integration.webhook_secret in out
    assert TrackedRepository.objects.filter(is_active=True).count() == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        pytest.param(["--base-url", "http://localhost:8000"], "public Internet", id="local"),
        pytest.param(["--base-url", "https://127.0.0.1"], "public Internet", id="local number"),
        pytest.param(["--base-url", "http://sync.example"], "HTTPS", id="plain HTTP"),
        pytest.param(["--app", "--base-url", "https://sync.example"], "the App", id="App"),
    ],
)
def test_webhook_that_github_could_not_use_is_refused_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    """GitHub would say so only after the token was stored."""
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    with pytest.raises(CommandError, match=reason) as raised:
        call_command("connect", REPOSITORY, "--team", "platform", "--create-webhook", *arguments)

    assert raised.value.returncode == 2
    assert not Team.objects.exists()
