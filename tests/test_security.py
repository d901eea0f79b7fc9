"""The threats of docs/security.md without a test elsewhere, and that all others have one."""

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from pkgutil import iter_modules

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import load_command_class
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.management import commands
from metrics_sync.models import PullRequest
from metrics_sync.sandbox import (
    SandboxServer,
    Token,
    build_pull_request_event,
    make_recording,
    sign,
)
from tests.factories import ApiTokenFactory, PullRequestFactory, TrackedRepositoryFactory

ROOT: Path = settings.BASE_DIR
PAGE = (ROOT / "docs" / "security.md").read_text()
SCRIPT = "<script>alert(1)</script>"


def read_threats() -> dict[str, list[tuple[str, str]]]:
    """Return each threat of the table with its test files and test names."""
    table = PAGE.partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if " | " in line]
    return {row[0].strip(): re.findall(r"`(test_\w+\.py)::(test_\w+)`", row[-1]) for row in rows}


@pytest.mark.parametrize(("threat", "tests"), list(read_threats().items())[1:])
def test_every_threat_has_its_tests(threat: str, tests: list[tuple[str, str]]) -> None:
    """A claim about security without a test cannot be trusted."""
    assert tests, threat
    for file, name in tests:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


@pytest.mark.django_db
def test_title_is_text(admin_client: Client, redis: Redis) -> None:
    """Everybody who may open a pull request writes its title."""
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    row = PullRequestFactory(
        merged=True,
        team=repository.team,
        title=SCRIPT,
        author_login=SCRIPT,
        merged_at=timezone.now(),
    )
    PullRequest.objects.update(sync_status="failed", sync_error=SCRIPT)
    lists = reverse("admin:metrics_sync_pullrequest_changelist")
    change = reverse("admin:metrics_sync_pullrequest_change", args=[row.pk])

    for path in ("/admin/", lists, change):
        text = admin_client.get(path).content.decode()
        assert SCRIPT not in text
        assert "&lt;script&gt;alert(1)" in text


@pytest.mark.django_db
def test_nothing_behind_the_sign_in_may_be_cached(admin_client: Client, redis: Redis) -> None:
    """The next user of the browser or proxy may belong to another team."""
    row = PullRequestFactory(merged=True)
    PullRequest.objects.update(sync_status="queued")
    token = ApiTokenFactory(team=row.team).token
    pages = [
        reverse("admin:index"),
        reverse("admin:metrics_sync_pullrequest_change", args=[row.pk]),
        reverse("metrics_sync:dashboard-live"),
        reverse("metrics_sync:pull-request-live", args=[row.pk]),
        reverse("metrics_sync:waiting"),
        reverse("metrics_sync:reviewers"),
        reverse("metrics_sync:metrics"),
        "/django-rq/",
        "/django-rq/queues/0/",
        "/api/v1/pull-requests",
    ]

    answers = {
        page: admin_client.get(page, headers={"Authorization": f"Bearer {token}"}) for page in pages
    }

    assert {answer.status_code for answer in answers.values()} == {200}
    rules = {page: answer.headers.get("Cache-Control", "") for page, answer in answers.items()}
    assert [page for page, rule in rules.items() if "no-store" not in rule] == []


@pytest.mark.django_db(transaction=True)
def test_no_secret_is_in_redis_or_in_the_log(
    client: Client, sandbox: SandboxServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """More people read these than the database."""
    caplog.set_level("INFO")
    sandbox.world.add_token(Token("ghp_of_the_team"))
    repository = TrackedRepositoryFactory(
        full_name="acme/anvil",
        integration__credential__access_token="ghp_of_the_team",
        integration__webhook_secret="hook_of_the_team",
    )
    recording = sandbox.world.add(make_recording("acme/anvil", 7))
    body = json.dumps(build_pull_request_event(recording, "closed")).encode()
    headers = {
        "X-GitHub-Delivery": "guid",
        "X-GitHub-Event": "pull_request",
        "X-Hub-Signature-256": sign(body, "hook_of_the_team"),
    }
    path = repository.integration.get_webhook_path()
    client.post(path, body, content_type="application/json", headers=headers)
    sandbox.world.revoke_token("ghp_of_the_team")

    fetch_pr_complete_data(PullRequest.objects.get().pk)

    kept = [redis.dump(key) for key in redis.scan_iter()]
    assert kept
    assert not any(b"_of_the_team" in value for value in kept)
    assert "acme/anvil#7" in caplog.text
    assert "_of_the_team" not in caplog.text


@pytest.mark.django_db
def test_other_sites_cannot_act_for_a_user(admin_user: User, redis: Redis) -> None:
    """Any page of the web can send a form to our address."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    PullRequestFactory(merged=True)
    url = reverse("admin:metrics_sync_pullrequest_changelist")

    answer = client.post(url, {"action": "delete_selected", "_selected_action": "1"})

    assert answer.status_code == 403
    assert PullRequest.objects.count() == 1


@pytest.mark.parametrize("name", [module.name for module in iter_modules(commands.__path__)])
def test_no_command_takes_a_secret_as_an_argument(name: str) -> None:
    """Every user of the machine can list its processes."""
    parser: ArgumentParser = load_command_class("metrics_sync", name).create_parser(
        "manage.py", name
    )

    takes_values = [action for action in parser._actions if action.nargs != 0]
    secret = re.compile("token|secret|password|key", re.IGNORECASE)
    assert [action.dest for action in takes_values if secret.search(action.dest)] == []
