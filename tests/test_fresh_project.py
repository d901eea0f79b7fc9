"""docs/reusable.md to the letter: an empty virtual environment, the wheel, and a merge."""

import json
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from django.conf import settings

from metrics_sync.sandbox import DEFAULT_TOKEN, build_pull_request_event, deliver, make_recording
from tests.conftest import wait_until
from tests.hosting import Host, read_commands
from tests.test_package import REQUIRED

#: What the page leaves to the reader.
CHECKOUT, ADDRESS = "/path/to/metrics_sync", "https://tools.example"
RECORDING = make_recording("acme/anvil", 7)


@pytest.fixture
def github(tmp_path: Path) -> Iterator[str]:
    """The address of a pretend GitHub that is a process of its own."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps(RECORDING.to_json()))
    command = [sys.executable, "-m", "metrics_sync.sandbox", "--load", str(folder)]
    process = psutil.Popen(command, cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True)
    yield re.findall(r"GITHUB_API_URL=(\S+)", process.stdout.readline())[0]
    process.terminate()
    process.communicate()


@pytest.fixture
def host(tmp_path: Path, broker_url: str, github: str) -> Iterator[Host]:
    """An empty folder, and a virtual environment with nothing but pip."""
    venv.create(tmp_path / "venv", with_pip=True)
    root = tmp_path / "project"
    root.mkdir()
    (root / "token.txt").write_text(DEFAULT_TOKEN)
    python = tmp_path / "venv" / "bin" / "python"
    host = Host(root, python=python, redis_url=broker_url, api_url=github)
    yield host
    host.stop()


def list_oldest() -> str:
    """Return the oldest version of each package within our ranges, as constraints of pip."""
    floors = (
        (required.name, version.version)
        for required in REQUIRED
        for version in required.specifier
        if version.operator == ">="
    )
    return "\n".join(f"{name}=={version}" for name, version in floors)


@pytest.mark.long(seconds=100)
@pytest.mark.parametrize("constraints", ["", list_oldest()], ids=["newest", "oldest"])
def test_merge_arrives_in_a_project_made_as_the_page_says(host: Host, constraints: str) -> None:
    """Who follows the page has nothing of ours but the wheel, and versions of their own."""
    host.append("constraints.txt", constraints)
    host.environment["PIP_CONSTRAINT"] = str(host.root / "constraints.txt")
    build, install, *prepare, serve, work, clock = read_commands()
    host.run(build.replace(CHECKOUT, str(settings.BASE_DIR)))
    host.run(install)
    host.follow_page()
    told = [host.run(command.replace(ADDRESS, host.url)) for command in prepare]
    [(url, secret)] = re.findall(r"Webhook URL: +(\S+)\nWebhook secret: +(\S+)", told[-1])

    assert serve == "python manage.py runserver"
    host.serve()
    host.start(work)
    host.start(clock)
    answer = deliver(
        url,
        event="pull_request",
        payload=build_pull_request_event(RECORDING, "closed"),
        secret=secret,
    )

    assert answer.status == 202
    for path in ("static/metrics_sync/theme.css", "metrics/api/v1/openapi.json"):
        with urlopen(f"{host.url}/{path}") as shown:  # noqa: S310  (loopback)
            assert shown.status == 200
    wait_until(lambda: "complete" in (host.heard.read_text() if host.heard.exists() else ""))
    assert host.heard.read_text().splitlines() == [
        "merged acme/anvil#7 (forge)",
        "complete acme/anvil#7 (forge)",
    ]
