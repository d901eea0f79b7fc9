"""The app in another Django project: what it needs there, and a merge from end to end."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings
from redis import Redis

from metrics_sync.conf import AppSettings, app_settings
from metrics_sync.jobs import BULK, MERGES
from metrics_sync.operate.host_settings import LARGEST_DELIVERY, OLD_NAMES, check_old_names
from metrics_sync.sandbox import (
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from tests.hosting import PAGE, Host, read_block

REPOSITORY = "acme/anvil"


@pytest.fixture
def bare(tmp_path: Path, broker_url: str, redis: Redis) -> Iterator[Host]:
    """A project as Django makes it."""
    project = Host(tmp_path, redis_url=broker_url, api_url="http://127.0.0.1:1")
    project.run("django-admin startproject host .")
    yield project
    project.stop()


@pytest.fixture
def host(tmp_path: Path, sandbox: SandboxServer, broker_url: str, redis: Redis) -> Iterator[Host]:
    """A project as the page makes it."""
    project = Host(tmp_path, redis_url=broker_url, api_url=sandbox.url)
    project.follow_page()
    yield project
    project.stop()


@pytest.mark.long(seconds=9)
def test_project_as_documented_is_in_order(host: Host) -> None:
    """A reader of the page must meet neither a warning nor a missing migration."""
    host.run("python manage.py check --fail-level WARNING")
    host.run("python manage.py makemigrations --check --dry-run")


@pytest.mark.long(seconds=10)
def test_merge_reaches_the_receivers_of_the_project(host: Host, sandbox: SandboxServer) -> None:
    """This shows the whole way in another project: signed webhook, other queues, real processes."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    host.run("python manage.py migrate")
    host.serve()
    connect = f"python manage.py connect {REPOSITORY} --team forge --base-url {host.url} --json"
    connected = json.loads(host.run(connect))

    answer = deliver(
        connected["webhook_url"],
        event="pull_request",
        payload=build_pull_request_event(recording, "closed"),
        secret=connected["webhook_secret"],
    )
    host.run("python manage.py rqworker merges merges-bulk --burst")

    [row] = map(json.loads, host.run("python manage.py export --format jsonl").splitlines())
    assert (answer.status, row["sync_status"], row["review_rounds"]) == (202, "complete", 1)
    assert host.heard.read_text().splitlines() == [
        "merged acme/anvil#7 (forge)",
        "complete acme/anvil#7 (forge)",
    ]


LOOK = """
from django.contrib.auth.models import User
from django.test import Client
from metrics_sync.models import PullRequest, Team

team = Team.objects.create(slug="forge")
row = PullRequest.objects.create(team=team, github_repo="acme/anvil", github_pr_id=1)
client = Client(SERVER_NAME="localhost")
client.force_login(User.objects.create_superuser("root"))
for path in [
    "/admin/", "/admin/metrics_sync/pullrequest/", "/admin/metrics_sync/apitoken/add/",
    f"/admin/metrics_sync/pullrequest/{row.pk}/change/", "/admin/auth/user/",
    "/metrics/api/v1/openapi.json", "/metrics/api/v1/docs",
]:
    print(client.get(path).status_code, path)
"""


@pytest.mark.long(seconds=7)
def test_pages_work_beside_those_of_the_project(host: Host) -> None:
    """The admin's first page is the project's own; without `ninja` there is no page to try out."""
    host.append("host/settings.py", 'INSTALLED_APPS.remove("ninja")')
    host.run("python manage.py migrate")

    seen = host.run(f"python manage.py shell --no-imports -c {quote(LOOK)}").splitlines()

    assert [line.split()[0] for line in seen] == ["200"] * 6 + ["404"]


#: As if neither the extras nor a driver of PostgreSQL were installed.
WITHOUT_EXTRAS = """
import sys

sys.modules.update(dict.fromkeys(["ninja", "psycopg", "pydantic", "unfold"]))
"""
#: The fewest settings with which the app works.
FEWEST = """
import os

INSTALLED_APPS += ["django_rq", "metrics_sync"]
RQ_QUEUES = dict.fromkeys(["pr-data", "pr-data-bulk"], {"URL": os.environ["REDIS_URL"]})
METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = os.environ["TOKEN_ENCRYPTION_KEYS"]
METRICS_SYNC_GITHUB_WEBHOOK_SECRET = "a secret of this project alone"
"""
CALL = """
from django.test import Client

client = Client(SERVER_NAME="localhost")
for path in ["healthz", "readyz", "metrics", "", "api/v1/openapi.json", "dashboard/live/"]:
    print(client.get(f"/metrics/{path}").status_code, path)
print(client.post("/metrics/webhooks/github/", {}, "application/json").status_code, "webhook")
"""
ANSWERS = {
    "healthz": 200,
    "readyz": 200,
    "metrics": 401,
    "": 404,
    "api/v1/openapi.json": 404,
    "dashboard/live/": 404,
    "webhook": 401,
}


def call(project: Host) -> dict[str, int]:
    """Return the status of each address of the app."""
    project.append("host/urls.py", read_block("urls.py"))
    project.run("python manage.py migrate")
    lines = project.run(f"python manage.py shell --no-imports -c {quote(CALL)}").splitlines()
    return {path: int(status) for status, _, path in (line.partition(" ") for line in lines)}


@pytest.mark.long(seconds=8)
def test_project_without_extras_has_all_but_pages_and_api(bare: Host) -> None:
    """A project may need neither; `check` says why the pages are missing."""
    bare.append("host/settings.py", WITHOUT_EXTRAS + FEWEST)

    checked = bare.try_to("python manage.py check")

    assert (checked.returncode, "metrics_sync.I101" in checked.stderr) == (0, True)
    assert call(bare) == ANSWERS


USERS = """
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class User(AbstractBaseUser):
    id = models.BigAutoField(primary_key=True)
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
"""
NO_ADMIN = """
AUTH_USER_MODEL = "accounts.User"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "accounts", "django_rq", "metrics_sync"
]
MIDDLEWARE = []
"""


@pytest.mark.long(seconds=8)
def test_project_without_admin_and_with_users_of_its_own_works(bare: Host) -> None:
    """Such a project has no superusers, no sessions and nobody who signs in."""
    bare.append("accounts/__init__.py", "")
    bare.append("accounts/models.py", USERS)
    bare.append("host/settings.py", WITHOUT_EXTRAS + FEWEST + NO_ADMIN)
    (bare.root / "host/urls.py").write_text("from django.urls import path\nurlpatterns = []\n")
    bare.run("python manage.py makemigrations accounts")

    checked = bare.try_to("python manage.py check")

    assert (checked.returncode, re.findall(r"metrics_sync\.E\d+|I\d+", checked.stderr)) == (0, [])
    assert call(bare) == ANSWERS


OWN_USER = """
from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    pass
"""
ADD_TEAM = """
from django.contrib.auth import get_user_model
from django.test import Client

client = Client(SERVER_NAME="localhost")
client.force_login(get_user_model().objects.create_superuser("root"))
print(client.get("/admin/metrics_sync/team/add/").status_code)
"""


@pytest.mark.long(seconds=8)
def test_pages_do_not_need_an_admin_of_users(host: Host) -> None:
    """Otherwise Django would refuse to start, because members could not be searched for."""
    host.append("surveys/models.py", OWN_USER)
    host.append("host/settings.py", 'AUTH_USER_MODEL = "surveys.User"')
    host.run("python manage.py makemigrations surveys")
    host.run("python manage.py migrate")

    assert host.run(f"python manage.py shell --no-imports -c {quote(ADD_TEAM)}") == "200\n"


@pytest.mark.long(seconds=4)
def test_check_names_all_that_is_missing_at_once(bare: Host) -> None:
    """Correcting one setting at a time and starting again takes all day."""
    bare.append("host/settings.py", WITHOUT_EXTRAS + 'INSTALLED_APPS += ["metrics_sync"]')

    done = bare.try_to("python manage.py check")

    found = re.findall(r"metrics_sync\.(\w\d+)\)", done.stderr)
    assert (done.returncode, sorted(found)) == (1, ["E001", "E101", "E103", "W101", "W103"])


@pytest.mark.long(seconds=8)
def test_command_of_the_project_is_not_hidden(bare: Host) -> None:
    """Adding our app must not change the `manage.py export` of another app."""
    theirs = "from django.core.management import BaseCommand\n\n\n"
    theirs += "class Command(BaseCommand):\n    def handle(self, **options): print('theirs')\n"
    bare.append("tools/management/commands/export.py", theirs)
    bare.append("host/settings.py", FEWEST + 'INSTALLED_APPS.insert(0, "tools")')
    bare.run("python manage.py migrate")

    assert bare.run("python manage.py export") == "theirs\n"
    assert bare.run("python manage.py metrics_sync export --format csv").startswith("team,")

    bare.append("host/settings.py", "INSTALLED_APPS.append(INSTALLED_APPS.pop(0))")
    assert "hides the command export of tools" in bare.try_to("python manage.py check").stderr


@pytest.mark.long(seconds=4)
@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param('INSTALLED_APPS.remove("unfold.contrib.filters")', "E103", id="half a theme"),
        pytest.param("INSTALLED_APPS.append(INSTALLED_APPS.pop(0))", "E104", id="theme too late"),
    ],
)
def test_check_says_what_the_project_lacks(host: Host, change: str, found: str) -> None:
    """Otherwise a page, a webhook or a worker would fail later and less clearly."""
    host.append("host/settings.py", change)

    done = host.try_to("python manage.py check")

    assert done.returncode == 1
    assert found in done.stderr


HERE = {"HOST": "here", "PORT": 6379}


def list_ids() -> list[str]:
    """Return what is found of the project's settings; those from 101 on are about that."""
    ids = [str(message.id) for message in run_checks()]
    return [name for name in ids if re.match(r"metrics_sync\.[EW]1", name)]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        pytest.param("RQ_QUEUES", {BULK: HERE}, "E101", id="no queue of merges"),
        pytest.param("RQ_QUEUES", {MERGES: HERE}, "E101", id="no bulk queue"),
        pytest.param("RQ_QUEUES", {MERGES: HERE, BULK: {}}, "E107", id="no place"),
        pytest.param("RQ_QUEUES", {MERGES: HERE, BULK: {"HOST": "there"}}, "E102", id="two places"),
        pytest.param("USE_TZ", False, "E105", id="no time zones"),
        pytest.param("DATA_UPLOAD_MAX_MEMORY_SIZE", 2_621_440, "W101", id="Django's own limit"),
    ],
)
def test_setting_that_does_harm_is_found(
    settings: Settings, name: str, value: Any, found: str
) -> None:
    """The project's authors cannot know what our app needs."""
    setattr(settings, name, value)

    assert list_ids() == [f"metrics_sync.{found}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("DATA_UPLOAD_MAX_MEMORY_SIZE", LARGEST_DELIVERY, id="exactly enough"),
        pytest.param("DATA_UPLOAD_MAX_MEMORY_SIZE", None, id="no limit"),
        pytest.param(
            "RQ_QUEUES",
            {MERGES: {**HERE, "DEFAULT_TIMEOUT": 5}, BULK: HERE},
            id="same place, other times",
        ),
    ],
)
def test_setting_that_does_no_harm_is_left_alone(settings: Settings, name: str, value: Any) -> None:
    """Nobody reads findings that are always there."""
    setattr(settings, name, value)

    assert list_ids() == []


def test_settings_that_the_project_does_not_name_have_defaults(settings: Settings) -> None:
    """The settings that it names keep their values."""
    del settings.METRICS_SYNC_RATE_LIMIT_RESERVE
    settings.METRICS_SYNC_RETENTION_DAYS = 7

    assert (app_settings.RATE_LIMIT_RESERVE, app_settings.RETENTION_DAYS) == (1000, 7)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_setting_without_the_prefix_is_found(settings: Settings, name: str) -> None:
    """The app would silently use the default instead."""
    delattr(settings, f"METRICS_SYNC_{name}")
    setattr(settings, name, "of an older release")

    [found] = check_old_names()

    assert f"METRICS_SYNC_{name}" in str(found.hint)


def test_setting_of_another_app_may_have_an_old_name(settings: Settings) -> None:
    """Other apps have settings for GitHub, too."""
    settings.GITHUB_APP_ID = "29310"

    assert check_old_names() == []


def test_every_setting_is_in_the_page() -> None:
    """Nobody can set what is not documented."""
    documented = set(re.findall(r"^\| `METRICS_SYNC_([A-Z_]+)` \|", PAGE, re.MULTILINE))

    assert documented == {name for name in vars(AppSettings) if name.isupper()}


def test_settings_may_be_written_as_people_do(settings: Settings) -> None:
    """One slash too many would look like another GitHub, and an id may be a number."""
    settings.METRICS_SYNC_GITHUB_API_URL = "https://ghe.acme.com/api/v3/"
    settings.METRICS_SYNC_GITHUB_APP_ID = 29310

    assert app_settings.GITHUB_API_URL == "https://ghe.acme.com/api/v3"
    assert app_settings.GITHUB_APP_ID == "29310"
