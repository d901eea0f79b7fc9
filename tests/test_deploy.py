"""The examples of docs/deploy, as far as they can be tried without a machine to deploy to."""

import os
import re
import secrets
import shlex
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from django.conf import settings
from django.db import connection

from project import production_env
from tests.conftest import PATIENCE_SECONDS
from tests.test_readme import read_environment
from tests.test_settings import run

ROOT: Path = settings.BASE_DIR
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()

#: What the database's own image is told, and nobody else.
OF_THE_DATABASE = {"POSTGRES_USER", "POSTGRES_PASSWORD"}
#: What compose passes on to no process, and why.
NOT_OF_COMPOSE = {
    "DEBUG": "the example is for production",
    "SECURE_HSTS_SECONDS": "its default is right there",
    "GITHUB_TOKEN": "an operator gives it to one command",
    "BIND": "the image has it, and the port is published",
    "PORT": "it is the port that is published",
    "WORKERS": "the command names it",
}


def read_procfile() -> dict[str, list[str]]:
    """Return the words of each process, up to its options."""
    lines = (line.partition(": ") for line in (ROOT / "Procfile").read_text().splitlines())
    return {name: shlex.split(command.partition(" --")[0]) for name, _, command in lines}


def list_variables(value: Any) -> set[str]:
    return set(re.findall(r"\$\{([A-Z_]+)", yaml.safe_dump(value)))


def test_compose_names_no_variable_that_is_not_documented() -> None:
    """A variable that nobody reads is a setting that does nothing."""
    services = COMPOSE["services"].values()
    given = {name for service in services for name in service.get("environment", {})}

    assert given | list_variables(COMPOSE) <= read_environment() | OF_THE_DATABASE


def fill(match: "re.Match[str]") -> str:
    return match[2] if match[1] == "-" else "x"


def test_compose_passes_on_every_variable() -> None:
    """One that stands in `.env` and gets nowhere is looked for long."""
    given = set(COMPOSE["services"]["web"]["environment"])

    assert given | set(NOT_OF_COMPOSE) == read_environment()
    assert not given & set(NOT_OF_COMPOSE)


def test_compose_gives_what_production_needs() -> None:
    """The example is what is copied."""
    environment = COMPOSE["services"]["web"]["environment"]
    filled = {
        name: re.sub(r"\$\{[A-Z_]+:([-?])(.*?)\}", fill, value)
        for name, value in environment.items()
    }
    values = {"SECRET_KEY": "", "TOKEN_ENCRYPTION_KEYS": "", **filled, "SENTRY_DSN": ""}
    values["BASE_URL"] = "https://sync.example"

    result = run("from project import settings", **values)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", list(read_procfile()))
def test_compose_runs_what_the_procfile_names(name: str) -> None:
    """A service without its clock reconciles nothing, and looks well."""
    command = COMPOSE["services"][name].get("command")
    if command is None:
        [line] = re.findall(r"^CMD (.*)$", CONTAINERFILE, re.MULTILINE)
        command = yaml.safe_load(line)

    assert command[: len(read_procfile()[name])] == read_procfile()[name]


def test_image_has_what_it_copies_and_is_not_root() -> None:
    """It is built on another machine, and long after it was written."""
    copied = re.findall(r"^COPY (\S+) ", CONTAINERFILE, re.MULTILINE)

    assert {"manage.py", "project", "metrics_sync"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    assert re.search(r"^USER [1-9]\d*$", CONTAINERFILE, re.MULTILINE)


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_unit_is_one_that_systemd_takes(path: Path, tmp_path: Path) -> None:
    """A line that it does not know, it ignores."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd is not installed")
    for unit in UNITS:
        # The programs are looked for, and are here elsewhere than there.
        text = unit.read_text().replace("/srv/metrics_sync/.venv", sys.prefix)
        (tmp_path / unit.name).write_text(text)

    done = subprocess.run(
        [verify, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / path.name)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_unit_runs_what_the_procfile_names(path: Path) -> None:
    """Four examples of the same processes must not say four things."""
    name = path.stem.removeprefix("metrics-sync-")
    [line] = re.findall(r"^ExecStart=\S+/(\S+ .*)$", path.read_text(), re.MULTILINE)

    wanted = read_procfile()[name]
    assert shlex.split(line)[: len(wanted)] == wanted
    procfile = (ROOT / "Procfile").read_text()
    numbers = re.findall(rf"^{name}: .*\$\{{(\w+):-(\d+)\}}", procfile, re.MULTILINE)
    for variable, default in numbers:
        assert f"${{{variable}}}" in line
        assert f"\nEnvironment={variable}={default}\n" in path.read_text()
    assert {path.stem for path in UNITS} == {f"metrics-sync-{name}" for name in read_procfile()}


@pytest.mark.parametrize("path", UNITS, ids=[path.stem for path in UNITS])
def test_unit_comes_up_with_a_database_that_comes_late(path: Path) -> None:
    """After a reboot nobody is there to start what gave up."""
    text = path.read_text()

    assert not re.search(r"^(Requires|Requisite|BindsTo|PartOf)=", text, re.MULTILINE)
    assert re.search(r"^Restart=(always|on-failure)$", text, re.MULTILINE)
    assert re.search(r"^After=.*\bpostgresql.service\b", text, re.MULTILINE)


def test_web_server_reloads_without_closing_its_port() -> None:
    """A delivery that finds it closed is lost until somebody looks."""
    text = (DEPLOY / "metrics-sync-web.service").read_text()

    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in text


@pytest.mark.parametrize(
    ("given", "bound"), [({}, "127.0.0.1:8000"), ({"BIND": "10.0.0.1", "PORT": "1"}, "10.0.0.1:1")]
)
def test_web_server_lets_nobody_else_in_unless_told_to(given: dict[str, str], bound: str) -> None:
    """`X-Forwarded-Proto` is believed, and who tries it out has no firewall."""
    result = run("from project import serving; print(serving.bind)", **given)

    assert result.stdout.split() == [bound]


def test_web_server_leaves_what_is_loaded_out_of_garbage_collection() -> None:
    """A full collection would walk through all of Django while somebody waits for a page."""
    result = run(
        "import gc; from gunicorn.app.wsgiapp import WSGIApplication;"
        "gc.unfreeze(); WSGIApplication().cfg.post_worker_init(None);"
        "print(gc.get_freeze_count() > 0)",
        "--config",
        "python:project.serving",
        "project.asgi",
    )

    assert result.stdout.split() == ["True"], result.stderr


@pytest.mark.parametrize("source", ["Containerfile", "metrics-sync-web.service"])
def test_web_server_takes_its_options(source: str) -> None:
    """gunicorn renames options between versions."""
    text = (DEPLOY / source).read_text()
    [words] = re.findall(r'"gunicorn", (".*")\]|/gunicorn (.*)$', text, re.MULTILINE)
    options = [word.strip('",') for word in shlex.split(words[0] or words[1])]

    code = "import sys; from gunicorn.app.wsgiapp import run; sys.exit(run())"
    result = run(code, "--check-config", *options, ALLOWED_HOSTS="x")

    assert result.returncode == 0, result.stderr


def run_script(name: str, *arguments: str | Path, **environment: str) -> Any:
    return subprocess.run(
        [DEPLOY / name, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def read_file(path: Path) -> dict[str, str]:
    words = shlex.split(path.read_text(), comments=True)
    return dict(word.split("=", 1) for word in words)


def test_production_starts_with_the_file_that_is_written(tmp_path: Path) -> None:
    """The first thing that an operator does with it is to start the service."""
    path = tmp_path / "production.env"

    assert not production_env.main(["https://sync.example/", str(path)])

    values = read_file(path)
    code = "from project import settings; print(settings.ALLOWED_HOSTS, settings.BASE_URL)"
    result = run(code, **values)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["['sync.example']", "https://sync.example"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert values.keys() <= read_environment() | OF_THE_DATABASE


def test_secrets_that_are_in_use_are_not_written_over(tmp_path: Path) -> None:
    """With the keys all stored tokens would be lost."""
    path = tmp_path / "production.env"
    path.write_text("in use")

    assert "File exists" in production_env.main(["https://sync.example", str(path)])
    assert path.read_text() == "in use"


def test_address_without_a_scheme_is_refused(tmp_path: Path) -> None:
    """It would become part of every webhook's address."""
    answer = production_env.main(["sync.example", str(tmp_path / "file")])

    assert "https://sync.example" in answer
    assert list(tmp_path.iterdir()) == []


def make_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE kept (value)")
    database.close()


def test_copy_of_the_database_is_for_who_made_it_only(tmp_path: Path) -> None:
    """It holds every title and comment of every team."""
    make_database(tmp_path / "db")

    done = run_script("backup.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/db")

    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((tmp_path / "copy").stat().st_mode) == 0o600


@pytest.mark.parametrize("rest", ["", "-wal", "-shm"])
def test_restore_refuses_what_is_left_of_the_lost_database(tmp_path: Path, rest: str) -> None:
    """SQLite would write an old -wal into the copy."""
    make_database(tmp_path / "copy")
    (tmp_path / f"db{rest}").touch()

    done = run_script("restore.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/db")

    assert done.returncode == 1
    assert f"db{rest} exists" in done.stderr


@pytest.mark.parametrize(("script", "program"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_password_of_the_database_is_no_argument(tmp_path: Path, script: str, program: str) -> None:
    """Every user of the machine sees the arguments of every process."""
    (tmp_path / program).write_text('#!/bin/sh\necho "$PGPASSWORD $*"\n')
    (tmp_path / program).chmod(0o700)
    path = f"{tmp_path}:{os.environ['PATH']}"
    url = "postgres://me:p%40ss@127.0.0.1:5432/name"
    (tmp_path / "restore").write_text("a copy")

    done = run_script(f"{script}.sh", tmp_path / script, PATH=path, DATABASE_URL=url)

    password, _, arguments = done.stdout.partition(" ")
    assert (password, "p%40ss" in arguments) == ("p@ss", False)
    assert "postgres://me@127.0.0.1:5432/name" in arguments


def test_password_of_the_new_role_is_no_argument(tmp_path: Path) -> None:
    """The documented command as it is printed: `sudo` logs its arguments."""
    [command] = re.findall(
        r"^\$ (sudo -u postgres psql .*?^END)$",
        (ROOT / "docs" / "deploy.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    (tmp_path / "sudo").write_text('#!/bin/sh\necho "$*"\ncat\n')
    (tmp_path / "sudo").chmod(0o700)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "POSTGRES_PASSWORD": "p-ss"}

    printed = subprocess.check_output(["/bin/sh", "-c", command], env=environment, text=True)

    arguments, _, statements = printed.partition("\n")
    assert "p-ss" not in arguments
    assert "CREATE ROLE metrics_sync LOGIN PASSWORD 'p-ss';" in statements


@pytest.mark.skipif(
    connection.vendor != "postgresql" or not shutil.which("pg_restore"), reason="needs PostgreSQL"
)
@pytest.mark.django_db(transaction=True)
def test_role_that_does_not_own_the_extension_restores(tmp_path: Path) -> None:
    """A superuser installs it where the role may not; a comment on it is for its owner only."""
    name = f"restore_{secrets.token_hex(6)}"
    server = urlsplit(os.environ["DATABASE_URL"])
    copied = server._replace(path=f"/{name}").geturl()
    plain = server._replace(netloc=f"{name}:x@{server.hostname}:{server.port}", path=f"/{name}")
    with psycopg.connect(server.geturl(), autocommit=True) as superuser:
        superuser.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
        try:
            superuser.execute(f"CREATE DATABASE {name} OWNER {name}")
            with psycopg.connect(copied) as database:
                database.execute("CREATE EXTENSION pg_trgm")
            run_script("backup.sh", tmp_path / "copy", DATABASE_URL=copied)

            done = run_script("restore.sh", tmp_path / "copy", DATABASE_URL=plain.geturl())
        finally:
            superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            superuser.execute(f"DROP ROLE {name}")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", ["backup.sh", "restore.sh"])
def test_script_without_a_file_says_how_it_is_used(script: str) -> None:
    """Who restores is in a hurry."""
    done = run_script(script, DATABASE_URL="postgres://me:secret@127.0.0.1/name")

    assert done.returncode == 2
    assert f"usage: {script} FILE" in done.stderr
    assert "postgres://me@127.0.0.1/name" in done.stderr


def test_backup_of_a_misspelt_database_makes_no_file(tmp_path: Path) -> None:
    """An empty copy is noticed on the day that it is needed."""
    done = run_script("backup.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/typo")

    assert done.returncode == 1
    assert "correct DATABASE_URL" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_backup_of_an_empty_database_makes_no_file(tmp_path: Path) -> None:
    """SQLite makes an empty database of any name that is opened."""
    sqlite3.connect(tmp_path / "db").close()
    (tmp_path / "db").touch()

    done = run_script("backup.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/db")

    assert (done.returncode, "is an empty database" in done.stderr) == (1, True)
    assert not (tmp_path / "copy").exists()


def test_backup_overwrites_no_file(tmp_path: Path) -> None:
    """The last good copy is the one that is there."""
    make_database(tmp_path / "db")
    (tmp_path / "copy").write_text("the last good one")

    done = run_script("backup.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/db")

    assert (done.returncode, "exists" in done.stderr) == (1, True)
    assert (tmp_path / "copy").read_text() == "the last good one"


@pytest.mark.parametrize("content", [None, "", "not a database"], ids=["none", "empty", "other"])
def test_restore_of_what_is_no_copy_makes_no_database(tmp_path: Path, content: str | None) -> None:
    """It would start, and be empty."""
    if content is not None:
        (tmp_path / "copy").write_text(content)

    done = run_script("restore.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/db")

    assert (done.returncode, "copy" in done.stderr) == (1, True)
    assert not (tmp_path / "db").exists()


def test_backup_and_restore_return_the_rows(tmp_path: Path) -> None:
    """A script that succeeds proves nothing; the rows do."""
    make_database(tmp_path / "db")
    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("INSERT INTO kept VALUES ('row')")

    run_script("backup.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/db")
    done = run_script("restore.sh", tmp_path / "copy", DATABASE_URL=f"sqlite:///{tmp_path}/new")

    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "new") as database:
        assert database.execute("SELECT value FROM kept").fetchall() == [("row",)]
