"""Makes another Django project that uses the app, as docs/reusable.md says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
from cryptography.fernet import Fernet
from django.conf import settings

from metrics_sync.sandbox import DEFAULT_TOKEN
from metrics_sync.sandbox.broker import find_free_port
from tests.conftest import PATIENCE_SECONDS, wait_until
from tests.network import answers

PAGE = (settings.BASE_DIR / "docs" / "reusable.md").read_text()


def read_block(name: str) -> str:
    """Return the block of the page that begins with a comment of this name."""
    start = PAGE.index(f"```python\n# {name}\n") + len("```python\n")
    return PAGE[start : PAGE.index("```", start)]


def read_commands() -> list[str]:
    """Return the commands that the page shows, in order."""
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)$", "".join(blocks), re.MULTILINE)


class Host:
    """A project in a folder of its own, and the processes that it runs.

    `python` is the interpreter; without one it is the tests' own, with this repository's app.
    """

    def __init__(
        self, root: Path, *, python: Path | None = None, redis_url: str = "", api_url: str = ""
    ) -> None:
        self.root = root
        self.heard = root / "heard.txt"
        self.address = f"127.0.0.1:{find_free_port()}"
        self.url = f"http://{self.address}"
        foreign = {"DJANGO_SETTINGS_MODULE", "PYTHONPATH", "PYTHONWARNINGS", "DATABASE_URL"}
        self.environment = {n: v for n, v in os.environ.items() if n not in foreign} | {
            "PATH": f"{(python or Path(sys.executable)).parent}{os.pathsep}{os.environ['PATH']}",
            "REDIS_URL": redis_url,
            "GITHUB_API_URL": api_url,
            "GITHUB_TOKEN": DEFAULT_TOKEN,
            "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "HEARD": str(self.heard),
        }
        if python is None:
            self.environment |= {"PYTHONPATH": str(settings.BASE_DIR), "PYTHONWARNINGS": "error"}
        self._running: list[psutil.Popen] = []

    def follow_page(self) -> None:
        """Make a project, and edit its files as the page says."""
        self.run("django-admin startproject host .")
        for name in ("settings.py", "settings.py, with SQLite only", "urls.py"):
            self.append(f"host/{name.partition(',')[0]}", read_block(name))
        self.append("surveys/__init__.py", "")
        for name in ("surveys/apps.py", "surveys/receivers.py"):
            self.append(name, read_block(name))

    def append(self, name: str, text: str) -> None:
        """Add text to a file, which may be new."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"\n{text}")

    def try_to(self, command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command line in the project's folder."""
        return subprocess.run(
            ["/bin/bash", "-c", command],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    def run(self, command: str) -> str:
        """Run a command line that must succeed; returns its stdout."""
        done = self.try_to(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, command: str) -> None:
        """Start a process that runs until `stop`."""
        process = psutil.Popen(
            ["/bin/bash", "-c", f"exec {command}"], env=self.environment, cwd=self.root
        )
        self._running.append(process)

    def serve(self) -> None:
        """Start the web server, and wait until it answers."""
        self.start(f"python manage.py runserver --noreload {self.address}")
        wait_until(lambda: answers(f"{self.url}/metrics"))

    def stop(self) -> None:
        """Kill the started processes and their children."""
        for process in self._running:
            family = [process, *process.children(recursive=True)]
            for one in family:
                one.kill()
            psutil.wait_procs(family)
        self._running.clear()
