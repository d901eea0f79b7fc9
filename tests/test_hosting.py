"""The app in somebody else's Django project: what it needs there, and a merge from end to end."""

import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.core.checks import run_checks
from pytest_django import Settings
from redis import Redis

from metrics_sync.conf import AppSettings, app_settings
from metrics_sync.jobs import BULK, MERGES
from metrics_sync.operate.host_settings import LARGEST_DELIVERY, OLD_NAMES, check_old_names
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from tests.conftest import PATIENCE_SECONDS, wait_until

REPOSITORY = "acme/anvil"
PAGE = (django_settings.BASE_DIR / "docs" / "reusable.md").read_text()


def read_block(name: str) -> str:
    """Return the block of docs/reusable.md that begins with a comment of this name."""
    start = PAGE.index(f"```python\n# {name}\n") + len("```python\n")
    return PAGE[start : PAGE.index("```", start)]


class Host:
    """A project made with `startproject`, and changed as docs/reusable.md says."""

    def __init__(self, root: Path, *, redis_url: str, api_url: str) -> None:
        self.root = root
        self.heard = root / "heard.txt"
        self.environment = {
            name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
        } | {
            "PYTHONPATH": str(django_settings.BASE_DIR),
            "PYTHONWARNINGS": "error",
            "REDIS_URL": redis_url,
            "GITHUB_API_URL": api_url,
            "GITHUB_TOKEN": DEFAULT_TOKEN,
            "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "HEARD": str(self.heard),
        }
        start = [sys.executable, "-m", "django", "startproject", "host", str(root)]
        subprocess.run(start, env=self.environment, check=True)
        self.append("host/settings.py", read_block("settings.py"))
        self.append("host/urls.py", read_block("urls.py"))
        (root / "surveys").mkdir()
        self.append("surveys/__init__.py", "")
        self.append("surveys/apps.py", read_block("surveys/apps.py"))
        self.append("surveys/receivers.py", read_block("surveys/receivers.py"))

    def append(self, name: str, text: str) -> None:
        with (self.root / name).open("a") as file:
            file.write(f"\n{text}")

    def try_to(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the project, in which Python's warnings are errors."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def manage(self, *arguments: str) -> str:
        """Run a command of the project that must go well; returns its stdout."""
        done = self.try_to(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> tuple[psutil.Popen, str]:
        """Serve the project; returns the process and the address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [sys.executable, "manage.py", "runserver", "--noreload", address]
        server = psutil.Popen(command, env=self.environment, cwd=self.root)
        wait_until(lambda: is_up(f"http://{address}/metrics/healthz"))
        return server, f"http://{address}"


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:  # noqa: S310  (loopback)
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


@pytest.fixture
def host(tmp_path: Path, sandbox: SandboxServer, broker_url: str, redis: Redis) -> Host:
    return Host(tmp_path, redis_url=broker_url, api_url=sandbox.url)


def test_project_as_documented_is_in_order(host: Host) -> None:
    """Who follows the page must not meet a warning, nor a migration that is wanted."""
    host.manage("check", "--fail-level", "WARNING")
    host.manage("makemigrations", "--check", "--dry-run")


def test_merge_reaches_the_receivers_of_the_project(host: Host, sandbox: SandboxServer) -> None:
    """Signed webhook, other queues, real processes: the whole way in a project not our own."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    host.manage("migrate")
    server, root = host.start()
    try:
        connect = ("connect", REPOSITORY, "--team", "forge", "--base-url", root, "--json")
        connected = json.loads(host.manage(*connect))
        answer = deliver(
            connected["webhook_url"],
            event="pull_request",
            payload=build_pull_request_event(recording, "closed"),
            secret=connected["webhook_secret"],
        )
    finally:
        server.kill()
        server.wait()

    host.manage("rqworker", "merges", "merges-bulk", "--burst")

    [row] = map(json.loads, host.manage("export", "--format", "jsonl").splitlines())
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


def test_pages_work_beside_those_of_the_project(host: Host) -> None:
    """The admin's first page is the project's own; without `ninja` there is no page to try out."""
    host.append("host/settings.py", 'INSTALLED_APPS.remove("ninja")')
    host.manage("migrate")

    seen = host.manage("shell", "--no-imports", "-c", LOOK).splitlines()

    assert [line.split()[0] for line in seen] == ["200"] * 6 + ["404"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param('INSTALLED_APPS.remove("unfold")', "E103", id="no theme"),
        pytest.param('INSTALLED_APPS.remove("django_rq")', "E103", id="no queues"),
        pytest.param("INSTALLED_APPS.append(INSTALLED_APPS.pop(0))", "E104", id="theme too late"),
        pytest.param("del METRICS_SYNC_TOKEN_ENCRYPTION_KEYS", "E001", id="no keys"),
        pytest.param("del RQ_QUEUES", "RQ_QUEUES", id="no queues at all"),
    ],
)
def test_check_says_what_the_project_lacks(host: Host, change: str, found: str) -> None:
    """Else a page, a webhook or a worker would say it, later and less clearly."""
    host.append("host/settings.py", change)

    done = host.try_to("check")

    assert done.returncode == 1
    assert found in done.stderr


def list_ids() -> list[str]:
    """Return what is found of the project's settings; those from 101 on are about that."""
    ids = [str(message.id) for message in run_checks()]
    return [name for name in ids if re.match(r"metrics_sync\.[EW]1", name)]


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        pytest.param("RQ_QUEUES", {BULK: {}}, "E101", id="no queue of merges"),
        pytest.param("RQ_QUEUES", {MERGES: {}}, "E101", id="no bulk queue"),
        pytest.param("RQ_QUEUES", {MERGES: {"DB": 0}, BULK: {"DB": 1}}, "E102", id="two places"),
        pytest.param("USE_TZ", False, "E105", id="no time zones"),
        pytest.param("DATA_UPLOAD_MAX_MEMORY_SIZE", 2_621_440, "W101", id="Django's own limit"),
    ],
)
def test_setting_that_does_harm_is_found(
    settings: Settings, name: str, value: Any, found: str
) -> None:
    """A project has reasons of its own for its settings, and cannot know ours."""
    setattr(settings, name, value)

    assert list_ids() == [f"metrics_sync.{found}"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("DATA_UPLOAD_MAX_MEMORY_SIZE", LARGEST_DELIVERY, id="exactly enough"),
        pytest.param("DATA_UPLOAD_MAX_MEMORY_SIZE", None, id="no limit"),
        pytest.param(
            "RQ_QUEUES", {MERGES: {"DEFAULT_TIMEOUT": 5}, BULK: {}}, id="same place, other times"
        ),
    ],
)
def test_setting_that_does_no_harm_is_left_alone(settings: Settings, name: str, value: Any) -> None:
    """Findings that are always there are not read."""
    setattr(settings, name, value)

    assert list_ids() == []


def test_settings_that_the_project_does_not_name_have_defaults(settings: Settings) -> None:
    """And those that it names are its own."""
    del settings.METRICS_SYNC_RATE_LIMIT_RESERVE
    settings.METRICS_SYNC_RETENTION_DAYS = 7

    assert (app_settings.RATE_LIMIT_RESERVE, app_settings.RETENTION_DAYS) == (1000, 7)


@pytest.mark.parametrize("name", OLD_NAMES)
def test_setting_without_the_prefix_is_found(settings: Settings, name: str) -> None:
    """A project that named its settings so would fall back to the defaults without a word."""
    delattr(settings, f"METRICS_SYNC_{name}")
    setattr(settings, name, "of an older release")

    [found] = check_old_names()

    assert f"METRICS_SYNC_{name}" in str(found.hint)


def test_setting_of_another_app_may_have_an_old_name(settings: Settings) -> None:
    """Other apps speak to GitHub, too."""
    settings.GITHUB_APP_ID = "29310"

    assert check_old_names() == []


def test_every_setting_is_in_the_page() -> None:
    """Nobody can name a setting that they do not know of."""
    documented = set(re.findall(r"^\| `METRICS_SYNC_([A-Z_]+)` \|", PAGE, re.MULTILINE))

    assert documented == {name for name in vars(AppSettings) if name.isupper()}


def test_settings_may_be_written_as_people_do(settings: Settings) -> None:
    """A slash too many would make the App's own GitHub another one, and an id is a number."""
    settings.METRICS_SYNC_GITHUB_API_URL = "https://ghe.acme.com/api/v3/"
    settings.METRICS_SYNC_GITHUB_APP_ID = 29310

    assert app_settings.GITHUB_API_URL == "https://ghe.acme.com/api/v3"
    assert app_settings.GITHUB_APP_ID == "29310"
