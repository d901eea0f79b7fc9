"""Settings, as a new process reads them from the environment."""

import json
import os
import shutil
import stat
import subprocess
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import connection

from tests.conftest import PATIENCE_SECONDS
from tests.processes import run_program

BASE_DIR: Path = settings.BASE_DIR

READ = """
import json, sys
from project import settings
print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}, default=str))
"""
LOG = """
import logging, logging.config
from project import settings
logging.config.dictConfig(settings.LOGGING)
logger = logging.getLogger("metrics_sync.jobs")
try:
    1 / 0
except ZeroDivisionError:
    logger.exception("Fetched %s:\\n%s requests", 'acme/anvil#7 "quoted"', 7)
"""
VAR = """
from project import settings
print(settings.SECRET_KEY, *settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS)
"""


def run(
    code: str, *arguments: str, base: Path = BASE_DIR, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run code with the given environment and what every production needs."""
    needed = {
        "SECRET_KEY": "secret",
        "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "DATABASE_URL": "postgres://localhost/metrics_sync",
    }
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with NamedTemporaryFile("w", suffix=".py") as file:
        file.write(code)
        file.flush()
        return run_program(
            Path(file.name),
            arguments,
            environment={**kept, **needed, **environment},
            timeout=PATIENCE_SECONDS,
            folder=base,
            warnings_are="error",
        )


def read(*names: str, **environment: str) -> dict[str, Any]:
    """Return settings as they are with that environment."""
    result = run(READ, *names, **environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", ["SECRET_KEY", "TOKEN_ENCRYPTION_KEYS"])
def test_missing_secret_is_one_clear_line(name: str) -> None:
    """Everybody would know a default."""
    result = run(READ, **{name: ""})

    assert result.returncode == 1
    assert f"ImproperlyConfigured: {name} is not set." in result.stderr.splitlines()[-1]


def test_production_starts_closed() -> None:
    """The defaults must be safe."""
    values = read(
        "DEBUG",
        "ALLOWED_HOSTS",
        "METRICS_SYNC_GITHUB_WEBHOOK_SECRET",
        "METRICS_SYNC_GITHUB_API_URL",
    )

    assert values == {
        "DEBUG": False,
        "ALLOWED_HOSTS": [],
        "METRICS_SYNC_GITHUB_WEBHOOK_SECRET": "",
        "METRICS_SYNC_GITHUB_API_URL": "https://api.github.com",
    }


@pytest.mark.parametrize(
    ("environment", "secure", "seconds"),
    [
        pytest.param({}, True, 30 * 86400, id="production"),
        pytest.param({"DEBUG": "1"}, False, 0, id="development"),
        pytest.param(
            {"SECURE_COOKIES": "0", "SECURE_HSTS_SECONDS": "0"}, False, 0, id="told otherwise"
        ),
    ],
)
def test_production_wants_tls(environment: dict[str, str], *, secure: bool, seconds: int) -> None:
    """Nobody sets a variable that they do not know."""
    names = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_HSTS_SECONDS")

    assert list(read(*names, **environment).values()) == [secure, secure, seconds]


def test_development_makes_its_secrets_once_and_for_itself_only(tmp_path: Path) -> None:
    """Sessions and stored tokens must survive a restart; other users must not read the keys."""
    shutil.copytree(BASE_DIR / "project", tmp_path / "project")
    options = {"DEBUG": "1", "SECRET_KEY": "", "TOKEN_ENCRYPTION_KEYS": ""}

    first, second = (run(VAR, base=tmp_path, **options).stdout for _ in range(2))

    assert first == second != ""
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "var").iterdir()}
    assert modes == {"secret_key": 0o600, "token_encryption_keys": 0o600}


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "of an older release"])
def test_folder_of_secrets_is_for_its_user_only(tmp_path: Path, *, is_new: bool) -> None:
    """The database of development is in it too, and may hold tokens of real teams."""
    shutil.copytree(BASE_DIR / "project", tmp_path / "project")
    folder = tmp_path / "var"
    if not is_new:
        folder.mkdir(mode=0o755)

    run(VAR, base=tmp_path, DEBUG="1", SECRET_KEY="")

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folder_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    """A database may lie in a folder with other files."""
    tmp_path.chmod(0o755)

    result = run(VAR, DATABASE_URL=f"sqlite:///{tmp_path}/metrics_sync.sqlite3")

    assert (result.returncode, stat.S_IMODE(tmp_path.stat().st_mode)) == (0, 0o755)


def test_keys_are_separated_by_commas() -> None:
    """The first key encrypts and all decrypt; a space after a comma is no part of a key."""
    name = "METRICS_SYNC_TOKEN_ENCRYPTION_KEYS"

    assert read(name, TOKEN_ENCRYPTION_KEYS="new, old") == {name: ["new", "old"]}


@pytest.mark.parametrize("url", ["redis://cache:6379/3", "rediss://cache/0?ssl_cert_reqs=none"])
def test_queues_give_up_on_a_silent_redis_soon(url: str) -> None:
    """The webhook's answer waits for the job to be queued."""
    queues = read("RQ_QUEUES", REDIS_URL=url)["RQ_QUEUES"]

    assert list(queues) == ["pr-data", "pr-data-bulk"]
    for queue in queues.values():
        assert queue["URL"].startswith(url)
        assert queue["URL"].count("?") == 1
        assert queue["URL"].endswith("socket_connect_timeout=1&socket_timeout=2")


def test_sqlite_lets_web_and_workers_work_side_by_side(tmp_path: Path) -> None:
    """Otherwise one of two writing processes fails with `database is locked`."""
    url = f"sqlite:///{tmp_path / 'a' / 'new folder' / 'metrics.sqlite3'}"

    options = read("DATABASES", DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]

    assert (options["timeout"], options["transaction_mode"]) == (20, "IMMEDIATE")
    assert (tmp_path / "a" / "new folder").is_dir()


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="a pragma of SQLite")
def test_sqlite_readers_never_wait_for_writers() -> None:
    """The dashboard is read while workers write."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)


def test_postgresql_connections_are_kept_and_checked() -> None:
    """A connection that the server closed would fail a delivery."""
    database = read("DATABASES")["DATABASES"]["default"]

    assert (database["CONN_MAX_AGE"], database["CONN_HEALTH_CHECKS"]) == (60, True)
    assert database["OPTIONS"]["connect_timeout"] == 5


def test_json_log_is_one_object_a_line() -> None:
    """A log store would split a plain traceback into thirty entries."""
    result = run(LOG, LOG_FORMAT="json")

    [line] = result.stderr.splitlines()
    entry = json.loads(line)
    assert entry["message"] == 'Fetched acme/anvil#7 "quoted":\n7 requests'
    assert (entry["level"], entry["logger"]) == ("ERROR", "metrics_sync.jobs")
    assert "ZeroDivisionError" in entry["exc_info"]
    assert datetime.fromisoformat(entry["time"]).tzinfo


def test_console_log_is_for_people() -> None:
    """This is the format without any configuration."""
    lines = run(LOG).stderr.splitlines()

    assert "ERROR" in lines[0]
    assert "metrics_sync.jobs: Fetched acme/anvil#7" in lines[0]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_proxy_that_is_no_address_is_one_clear_line() -> None:
    """With a host name no proxy would be trusted, and nobody locked out."""
    result = run(READ, TRUSTED_PROXIES="10.0.0.1, proxy.acme.example")

    assert result.returncode == 1
    assert "TRUSTED_PROXIES must be addresses or networks" in result.stderr.splitlines()[-1]


def test_unknown_log_format_is_refused() -> None:
    """A mistyped value must not produce unreadable logs."""
    result = run(READ, LOG_FORMAT="xml")

    assert result.returncode == 1
    assert "LOG_FORMAT is 'xml'; it must be console or json." in result.stderr.splitlines()[-1]


def test_hosts_and_origins_follow_from_the_base_url() -> None:
    """The operator should state the service's address only once."""
    names = "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "BASE_URL"

    values = read(*names, BASE_URL="https://sync.example:8443/", ALLOWED_HOSTS="inner")

    assert values == {
        "ALLOWED_HOSTS": ["inner", "sync.example"],
        "CSRF_TRUSTED_ORIGINS": ["https://sync.example:8443"],
        "BASE_URL": "https://sync.example:8443",
    }


@pytest.mark.parametrize("url", ["sync.example", "ftp://sync.example", "https://sync.example/path"])
def test_base_url_that_is_none_is_one_clear_line(url: str) -> None:
    """A wrong address would be part of each printed address."""
    result = run("from project import settings", BASE_URL=url)

    assert result.returncode == 1
    assert f"BASE_URL: {url!r}" in result.stderr.splitlines()[-1]


def test_lines_of_the_web_server_have_the_same_format() -> None:
    """A log store that expects JSON drops other lines, such as those of a crash."""
    code = """
import logging.config
from project import serving
logging.config.dictConfig(serving.logconfig_dict)
logging.getLogger("gunicorn.access").info("GET /healthz")
logging.getLogger("gunicorn.error").info("Booting")
"""
    result = run(code, LOG_FORMAT="json")

    entries = [json.loads(line) for line in result.stderr.splitlines()]
    assert [entry["logger"] for entry in entries] == ["gunicorn.access", "gunicorn.error"]
