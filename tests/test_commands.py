"""The rules of all commands: exit statuses, one-line errors, no secrets, and `--help`."""

import json
import os
import pty
import subprocess
from pathlib import Path
from pkgutil import iter_modules

import pytest
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection

from metrics_sync.management import commands
from metrics_sync.models import IntegrationCredential
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer
from tests.conftest import MANAGE, PATIENCE_SECONDS
from tests.factories import PullRequestFactory
from tests.processes import run_manage

NEEDED = {"SECRET_KEY": "s" * 60, "TOKEN_ENCRYPTION_KEYS": "a" * 43 + "="}

#: `metrics_sync` only hands its arguments on to one of the others.
NAMES = [one.name for one in iter_modules(commands.__path__) if one.name != "metrics_sync"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with only the given environment."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return run_manage(*arguments, environment={**kept, **environment}, timeout=PATIENCE_SECONDS)


@pytest.mark.long(seconds=5)
def test_help_needs_no_settings() -> None:
    """A new user reads `--help` first, and wants no warning."""
    done = subprocess.run(
        [*MANAGE, "connect", "--help"],
        env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "--team" in done.stdout


FAULTS = [
    pytest.param({"SECRET_KEY": ""}, "SECRET_KEY is not set", id="missing setting"),
    pytest.param({"RATE_LIMIT_RESERVE": "many"}, "RATE_LIMIT_RESERVE is not", id="no number"),
    pytest.param({"DATABASE_URL": "//u:pw@h"}, "DATABASE_URL must begin", id="database's URL"),
    pytest.param({"REDIS_URL": "localhost"}, "REDIS_URL must begin", id="Redis's URL"),
    pytest.param({"GITHUB_API_URL": "here"}, "GITHUB_API_URL is 'here'", id="refused by a check"),
    pytest.param(
        {"DATABASE_URL": "postgres://u:pw@127.0.0.1:1/x"},
        "The database does not answer",
        id="no database",
    ),
    pytest.param({}, "migrations. Run `manage.py migrate`.", id="migrations to run"),
]


@pytest.mark.parametrize(("environment", "message"), FAULTS)
def test_fault_is_one_line_and_an_object(
    environment: dict[str, str], message: str, tmp_path: Path
) -> None:
    """An operator reads one line, a program one object; neither reads a traceback."""
    database = {"DATABASE_URL": f"sqlite:///{tmp_path / 'empty.sqlite3'}", "DEBUG": "0"}
    allowed = {"ALLOWED_HOSTS": "localhost"}

    done = run("reconcile", "--json", **{**NEEDED, **database, **allowed, **environment})

    lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr
    assert message in lines[0]
    assert message in json.loads(done.stdout)["error"]
    assert "pw" not in done.stderr


def test_django_s_own_commands_say_it_in_one_line(tmp_path: Path) -> None:
    """`migrate` is the first command that meets a wrong DATABASE_URL."""
    done = run("migrate", **NEEDED, DATABASE_URL="postgres://127.0.0.1:1/x")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("manage.py: The database does not answer")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_json_and_no_abbreviations(name: str) -> None:
    """A user who knows one command knows the options of all."""
    command = load_command_class("metrics_sync", name)

    parser = command.create_parser("manage.py", name)

    assert "--json" in parser.format_help()
    assert not parser.allow_abbrev


@pytest.mark.long(seconds=5)
def test_closed_pipe_is_one_line(environment: dict[str, str]) -> None:
    """`export | head` ends like this."""
    PullRequestFactory.create_batch(2, merged=True)
    reader, writer = os.pipe()
    os.close(reader)

    done = subprocess.run(
        [*MANAGE, "export", "--format", "csv"],
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    os.close(writer)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "manage.py export: The output was closed before everything was written."
    )
    assert "Traceback" not in done.stderr


@pytest.mark.django_db
def test_interrupted_command_sums_up(capsys: pytest.CaptureFixture[str]) -> None:
    """After an hour the operator wants to know what was done."""
    for row in PullRequestFactory.create_batch(3, merged=True):
        type(row).objects.filter(pk=row.pk).update(metrics_version=1)
    updates = 0

    def press_ctrl_c(execute, sql, *arguments):  # type: ignore[no-untyped-def]
        nonlocal updates
        updates += sql.startswith("UPDATE")
        if updates == 3:
            raise KeyboardInterrupt
        return execute(sql, *arguments)

    with connection.execute_wrapper(press_ctrl_c), pytest.raises(CommandError, match="Stopped"):
        call_command("recompute_metrics", "--json")

    assert json.loads(capsys.readouterr().out) == {"measured": 2, "found": 3}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--token", "hunter2hunter2"], id="abbreviated option"),
        pytest.param(["--token-stdin=hunter2hunter2"], id="value of a flag"),
        pytest.param(["hunter2hunter2"], id="one argument too many"),
        pytest.param(["--api-url", "ghp_hunter2hunter2"], id="in another place"),
    ],
)
def test_secret_on_the_command_line_is_refused_and_not_repeated(arguments: list[str]) -> None:
    """Messages end up in the logs of CI."""
    with pytest.raises(CommandError) as raised:
        call_command("connect", "acme/anvil", "--team", "platform", *arguments)

    assert raised.value.returncode == 2
    assert "hunter2" not in str(raised.value)


@pytest.mark.long(seconds=4)
@pytest.mark.parametrize("option", [[], ["--token-stdin"]])
def test_terminal_is_asked_for_the_token_and_shows_none(
    sandbox: SandboxServer, environment: dict[str, str], option: list[str]
) -> None:
    """The token must not be in the shell's history or on the screen."""
    sandbox.world.add_repository("acme/anvil")
    terminal, end = pty.openpty()
    command = [*MANAGE, "connect", "acme/anvil", "--team", "platform", *option]
    with subprocess.Popen(
        command,
        env={**environment, "GITHUB_API_URL": sandbox.url},
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(end)
        shown = b""
        while b"GitHub token" not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, f"{DEFAULT_TOKEN}\n".encode())
        out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        shown += _read_rest(terminal)
    os.close(terminal)

    assert process.returncode == 0, shown
    assert "Connected acme/anvil" in out
    assert DEFAULT_TOKEN not in out + shown.decode()
    assert IntegrationCredential.objects.get().access_token == DEFAULT_TOKEN


def _read_rest(terminal: int) -> bytes:
    rest = b""
    try:
        while chunk := os.read(terminal, 1024):
            rest += chunk
    except OSError:
        # So Linux says that the other end is closed.
        pass
    return rest
