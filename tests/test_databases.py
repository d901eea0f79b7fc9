"""A database that hangs: GitHub and people are answered, and what waited goes on by itself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import psycopg
import pytest
from django.db import connection

from metrics_sync.models import ApiToken, GitHubIntegration, WebhookDelivery
from metrics_sync.sandbox import build_pull_request_event, deliver, make_recording
from project.databases import PLANNING, build_options, find_patience
from tests.conftest import PATIENCE_SECONDS, wait_until
from tests.factories import TrackedRepositoryFactory
from tests.swallowing import open_network
from tests.test_settings import read, run
from tests.test_tracing import serve

on_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite is a file: it is there or it is not"
)
#: GitHub gives up after ten seconds.
GITHUB_SECONDS = 10
WEB = {"ALLOWED_HOSTS": "127.0.0.1"}
SLEEP = """
import sys
import manage
sys.argv = ["manage.py", "shell", "--no-imports", "--command", '''
from django.db import OperationalError, connection
for attempt in range(2):
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            cursor.execute("SELECT pg_sleep(60)")
    except OperationalError as error:
        print(error)
''']
manage.main()
"""


def test_each_process_waits_as_long_as_its_asker() -> None:
    """GitHub waits ten seconds; a migration that is cut off half-way helps nobody."""
    web = find_patience("web", statement_seconds=60)
    worker = find_patience("rqworker", statement_seconds=60)
    migrations = find_patience("migrate", statement_seconds=60)

    assert web.connect + (web.answer or 60) < GITHUB_SECONDS
    assert web.lock < web.statement < worker.statement == 60
    assert (migrations.statement, migrations.lock, migrations.answer) == (0, 0, None)


def test_options_of_the_url_have_precedence() -> None:
    """A pooler may take no `options`, and an operator may know better."""
    url = "postgres://host/name?options=-c%20lock_timeout%3D1&keepalives_idle=99"

    options = read("DATABASES", DATABASE_URL=url)["DATABASES"]["default"]["OPTIONS"]

    assert options["options"] == "-c lock_timeout=1"
    assert str(options["keepalives_idle"]) == "99"
    assert options["tcp_user_timeout"] == 20_000


@pytest.mark.parametrize(
    ("query", "threshold"),
    [
        pytest.param("", 5, id="a connection of its own"),
        pytest.param("?disable_server_side_cursors=true", None, id="a pooler's"),
    ],
)
def test_nothing_is_prepared_behind_a_pooler(query: str, threshold: int | None) -> None:
    """The next transaction would be another connection's, which has not prepared it."""
    read_settings = read("DATABASES", DATABASE_URL=f"postgres://host/name{query}")

    assert read_settings["DATABASES"]["default"]["OPTIONS"]["prepare_threshold"] == threshold


@on_postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("process", "values"),
    [("web", ("4s", "3s", "10s")), ("rqworker", ("1min", "30s", "1min")), ("migrate", ("0",) * 3)],
)
def test_postgresql_is_told_how_long_a_process_waits(
    environment: dict[str, str], process: str, values: tuple[str, ...]
) -> None:
    """A name that libpq or the server does not know is found here and not in production."""
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    options = build_options(find_patience(process, statement_seconds=60))

    with psycopg.connect(environment["DATABASE_URL"], **options) as told:
        shown = [told.execute(f"SHOW {name}").fetchone() for name in (*limits, *PLANNING)]

    assert shown == [(value,) for value in (*values, "1.1", "16MB")]


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_command_gives_up_on_a_silent_server_and_goes_on(environment: dict[str, str]) -> None:
    """A worker sat on one job for as long as the network was gone, and after."""
    done = run(SLEEP, **{**environment, "STATEMENT_SECONDS": "1"})
    with connection.cursor() as cursor:
        # They would sleep on, and keep the test's database.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()"
        )

    assert done.returncode == 0, done.stderr
    given_up = "The database said nothing for 2 s; the connection is closed."
    assert done.stdout.splitlines() == [given_up] * 2


def lead(url: str, port: int) -> str:
    """Return a database's URL that leads through another port of this machine."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()


class Hook:
    """Posts merges as GitHub does."""

    def __init__(self, integration: GitHubIntegration, url: str) -> None:
        self.secret = integration.webhook_secret
        self.url, self.address = url, url + integration.get_webhook_path()

    def post(self, number: int) -> int:
        event = build_pull_request_event(make_recording("acme/anvil", number), "closed")
        answer = deliver(
            self.address,
            event="pull_request",
            payload=event,
            secret=self.secret,
            timeout_seconds=GITHUB_SECONDS,
        )
        return answer.status

    def get(self, path: str) -> tuple[int, Any]:
        token = {"Authorization": "Bearer msync_unknown"}
        request = Request(self.url + path, headers=token)  # noqa: S310  (our own)
        try:
            with urlopen(request, timeout=GITHUB_SECONDS) as answer:  # noqa: S310  (our own)
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()


@contextmanager
def open_hook(environment: dict[str, str], log: Path) -> Iterator[Hook]:
    integration = TrackedRepositoryFactory(full_name="acme/anvil").integration
    with serve({**environment, **WEB}, log) as url:
        hook = Hook(integration, url)
        assert hook.post(1) == 202
        yield hook


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_locked_table_is_answered_in_time(environment: dict[str, str], tmp_path: Path) -> None:
    """An index that is built, or a dump that is restored, locks a table for minutes."""
    with open_hook(environment, tmp_path / "log") as hook:
        with psycopg.connect(environment["DATABASE_URL"]) as locker:
            locker.execute(f"LOCK TABLE {WebhookDelivery._meta.db_table}")
            refused = [hook.post(number) for number in (2, 3)]
            alive, _ = hook.get("/healthz")
        released = hook.post(2)

    assert (refused, alive, released) == ([503, 503], 200, 202)
    assert WebhookDelivery.objects.count() == 2


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_network_that_swallows_everything_is_answered_in_time(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Nobody says that the connection is gone, and the server's own limits reach nobody."""
    url = urlsplit(environment["DATABASE_URL"])
    with open_network(url.hostname or "", url.port or 5432) as network:
        given = {**environment, "DATABASE_URL": lead(environment["DATABASE_URL"], network.port)}
        with open_hook(given, tmp_path / "log") as hook:
            network.is_dead.set()
            refused = [hook.post(2), hook.get("/readyz")[0]]
            alive, _ = hook.get("/healthz")
            # One that is not given up holds a thread, until none is left.
            assert network.closed[0].wait(PATIENCE_SECONDS)
            network.is_dead.clear()
            wait_until(lambda: hook.post(3) == 202)

    assert (refused, alive) == ([503, 503], 200)


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_api_says_in_json_that_the_database_hangs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """A program that reads a page of HTML stops with a riddle, and does not try again."""
    with (
        open_hook(environment, tmp_path / "log") as hook,
        psycopg.connect(environment["DATABASE_URL"]) as locker,
    ):
        locker.execute(f"LOCK TABLE {ApiToken._meta.db_table}")
        status, body = hook.get("/api/v1/pull-requests")
        page, _ = hook.get("/admin/login/")

    assert (status, page) == (503, 200)
    assert json.loads(body)["message"] == "The database does not answer; try again."
