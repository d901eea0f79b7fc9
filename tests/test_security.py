"""The threats of docs/security.md that are tested nowhere else, and that the others are."""

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

from metrics_sync.management import commands
from metrics_sync.models import PullRequest
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

ROOT: Path = settings.BASE_DIR
PAGE = (ROOT / "docs" / "security.md").read_text()
SCRIPT = "<script>alert(1)</script>"


def read_threats() -> dict[str, list[tuple[str, str]]]:
    """Return each threat of the table, with the file and the name of the tests it names."""
    table = PAGE.partition("## Threats")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if " | " in line]
    return {row[0].strip(): re.findall(r"`(test_\w+\.py)::(test_\w+)`", row[-1]) for row in rows}


@pytest.mark.parametrize(("threat", "tests"), list(read_threats().items())[1:])
def test_every_threat_has_its_tests(threat: str, tests: list[tuple[str, str]]) -> None:
    """A claim about security that nobody checks is a wish."""
    assert tests, threat
    for file, name in tests:
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


@pytest.mark.django_db
def test_title_is_text(admin_client: Client, redis: Redis) -> None:
    """Whoever may open a pull request writes its title."""
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
def test_other_sites_cannot_act_for_a_user(admin_user: User, redis: Redis) -> None:
    """A form on any page of the web can be sent to our address."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    PullRequestFactory(merged=True)
    url = reverse("admin:metrics_sync_pullrequest_changelist")

    answer = client.post(url, {"action": "delete_selected", "_selected_action": "1"})

    assert answer.status_code == 403
    assert PullRequest.objects.count() == 1


@pytest.mark.parametrize("name", [module.name for module in iter_modules(commands.__path__)])
def test_no_command_takes_a_secret_as_an_argument(name: str) -> None:
    """Everybody on the machine can list its processes."""
    parser: ArgumentParser = load_command_class("metrics_sync", name).create_parser(
        "manage.py", name
    )

    takes_values = [action for action in parser._actions if action.nargs != 0]
    secret = re.compile("token|secret|password|key", re.IGNORECASE)
    assert [action.dest for action in takes_values if secret.search(action.dest)] == []
