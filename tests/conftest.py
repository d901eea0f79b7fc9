"""Fixtures that many tests share: Redis, a pretend GitHub, workers, a browser; none is a mock."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import hypothesis
import psutil
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client, override_settings
from pytest_django import DjangoDbBlocker, Settings
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from metrics_sync.ingest import throttling
from metrics_sync.observe import counting
from metrics_sync.sandbox import SandboxServer
from metrics_sync.sandbox.broker import open_broker
from metrics_sync.work import counts
from tests.processes import run_manage

if TYPE_CHECKING:  # most tests need no browser
    from playwright.sync_api import BrowserContext, Page

MANAGE = [sys.executable, str(django_settings.BASE_DIR / "manage.py")]
#: The longest wait for another process; far more than any needs, also on a busy machine.
PATIENCE_SECONDS = 300

#: The fixtures through which a test gets the database or Redis, directly or by another fixture.
SERVICES = {"db", "transactional_db", "live_server", "broker_url"}

_sandbox_port = 0

# No deadline: tests share the processors, so the time an example takes proves nothing.
hypothesis.settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two processes share a core: while one waits, the other works."""
    return 2 * (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark the tests that need a service, and let each process begin with its longest tests."""
    for item in items:
        if item.get_closest_marker("django_db") or SERVICES & {*getattr(item, "fixturenames", ())}:
            item.add_marker("services")
    yield
    items[:] = deal(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def deal(items: list[pytest.Item], count: int) -> list[pytest.Item]:
    """Put a share of the long tests, the longest first, before each of so many slices.

    `--dist worksteal` gives each process a slice; who has done it takes tests from the end of
    another's. So a long test is never the last one, and the short ones of a module stay together.
    """
    long = sorted(filter(read_length, items), key=read_length, reverse=True)
    short = deque(item for item in items if not read_length(item))
    dealt: list[pytest.Item] = []
    for place in range(count):
        share = long[place::count]
        size = (len(items) - len(dealt)) // (count - place) - len(share)
        dealt += share + [short.popleft() for _ in range(min(size, len(short)))]
    return dealt + list(short)


def read_length(item: pytest.Item) -> int:
    """Return the seconds that a test of `make test-all` takes alone; 0 for all others."""
    marker = item.get_closest_marker("long")
    return int(marker.kwargs["seconds"]) if marker else 0


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder of this run, the same one for all its processes."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    request: pytest.FixtureRequest,
    django_test_environment: None,
    django_db_modify_db_settings_parallel_suffix: None,
    django_db_blocker: DjangoDbBlocker,
    shared_folder: Path,
) -> Iterator[None]:
    """Copy the tests' database on PostgreSQL: to run all migrations takes 20 times as long."""
    if connection.vendor != "postgresql":
        yield
        return
    from tests.sharing import open_migrated

    keep = request.config.getvalue("reuse_db")
    with django_db_blocker.unblock(), open_migrated(shared_folder, keep=keep) as name:
        connection.settings_dict["TEST"]["TEMPLATE"] = name
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Mark all migrations as run if the tables were made from the models."""
    if not connection.settings_dict["TEST"]["MIGRATE"]:
        with django_db_blocker.unblock():
            call_command("migrate", fake=True, verbosity=0)


@pytest.fixture(autouse=True)
def forgetful() -> None:
    """Reset what modules keep in this process; `test_suite` finds modules that are missing here."""
    throttling.forget()
    counting.take()
    counts._wait_until = counts._next_save_at = 0.0


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """The URL of a Redis that only this process of this run uses."""
    index = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    with open_broker(os.environ.get("REDIS_URL", ""), index=index, count=count) as url:
        yield url


@pytest.fixture(scope="session")
def farm_database(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    shared_folder: Path,
    worker_id: str,
) -> Iterator[str]:
    """The name of a database with 50,000 pull requests; `--reuse-db` keeps what is copied."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL makes 50,000 rows in seconds")
    from tests.farm import open_farm
    from tests.sharing import copy_database, drop_database

    empty = connection.settings_dict["TEST"]["TEMPLATE"]
    options = {"empty": empty, "folder": shared_folder, "keep": request.config.getvalue("reuse_db")}
    with (
        django_db_blocker.unblock(),
        open_farm(50_000, detailed=500, **options) as filled,
    ):
        own = copy_database(filled, worker_id)
        yield own
        drop_database(own)


@pytest.fixture(scope="module")
def farm(
    farm_database: str, broker_url: str, django_db_blocker: DjangoDbBlocker
) -> Iterator[LiveServer]:
    """A server with the 50,000 pull requests, shared by a module's tests, which must not write."""
    from tests.sharing import use_database

    queues = {
        name: {**queue, "URL": broker_url} for name, queue in django_settings.RQ_QUEUES.items()
    }
    with (
        django_db_blocker.unblock(),
        use_database(farm_database),
        override_settings(RQ_QUEUES=queues),
    ):
        server = LiveServer("localhost")
        yield server
        server.stop()


@pytest.fixture(scope="module")
def site(farm: LiveServer) -> Iterator["BrowserContext"]:
    """A browser in which a superuser has signed in to that server.

    Playwright runs an event loop in this thread, where Django refuses database access by default.
    """
    from playwright.sync_api import expect

    from tests.browser import DESKTOP, PATIENCE_MS, find_chromium, open_chromium

    if find_chromium() is None and "CI" not in os.environ:
        pytest.skip("chromium is not installed")
    user, _ = User.objects.get_or_create(username="lead", is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(user)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": farm.url}
    with open_chromium() as browser, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        context = browser.new_context(base_url=farm.url, viewport=DESKTOP, timezone_id="Asia/Tokyo")
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        context.add_cookies([cookie])
        yield context


@pytest.fixture
def errors() -> list[str]:
    """The page's errors: those of scripts, failed requests, and requests to other hosts."""
    return []


@pytest.fixture
def page(site: "BrowserContext", farm: LiveServer, errors: list[str]) -> Iterator["Page"]:
    """A new page of the browser; the test fails if the page had errors."""
    from tests.browser import watch

    page = site.new_page()
    watch(page, farm.url, errors)
    yield page
    page.close()
    assert errors == []


@pytest.fixture
def redis(broker_url: str, settings: Settings) -> Iterator[Redis]:
    """An empty Redis that the queues use."""
    use_redis(settings, broker_url)
    with Redis.from_url(broker_url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def redis_down(settings: Settings) -> None:
    """Queues whose Redis does not answer."""
    use_redis(settings, "redis://127.0.0.1:1/0")


def use_redis(settings: Settings, url: str) -> None:
    settings.RQ_QUEUES = {name: {**queue, "URL": url} for name, queue in settings.RQ_QUEUES.items()}


@pytest.fixture
def sandbox(settings: Settings) -> Iterator[SandboxServer]:
    """A pretend GitHub; the service sends its requests there."""
    server = start_sandbox()
    settings.METRICS_SYNC_GITHUB_API_URL = server.url
    yield server
    server.stop()


def start_sandbox() -> SandboxServer:
    """Start one at the last one's port: ghapi builds and keeps 4 MB for each new address."""
    global _sandbox_port  # noqa: PLW0603  (one for the whole process)
    with suppress(OSError):
        server = SandboxServer(port=_sandbox_port).start()
        _sandbox_port = urlsplit(server.url).port or 0
        return server
    # Another process has taken the port.
    return SandboxServer().start()


@pytest.fixture(scope="session")
def app_keys() -> tuple[str, str]:
    """The private and the public key of a GitHub App, in PEM form."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture
def app(settings: Settings, sandbox: SandboxServer, app_keys: tuple[str, str]) -> SandboxServer:
    """The pretend GitHub, where the service is an App with the id 29310."""
    settings.METRICS_SYNC_GITHUB_APP_ID = "29310"
    settings.METRICS_SYNC_GITHUB_APP_PRIVATE_KEY = app_keys[0]
    sandbox.world.add_app("29310", app_keys[1])
    return sandbox


@pytest.fixture
def environment(transactional_db: None, broker_url: str, redis: Redis) -> dict[str, str]:
    """The environment in which another process uses this test's database, Redis and GitHub."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        database_url = f"sqlite:///{name}"
    else:
        database_url = (
            urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(name)}").geturl()
        )
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "DATABASE_URL": database_url,
        "REDIS_URL": broker_url,
        "GITHUB_API_URL": django_settings.METRICS_SYNC_GITHUB_API_URL,
    }


class Workers:
    """Starts workers as the Procfile does, each as a process."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.queues = ("pr-data", "pr-data-bulk")
        self.environment = environment
        self.started: list[psutil.Popen] = []

    def drain(self) -> None:
        """Run a worker until both queues are empty."""
        command = ["rqworker", *self.queues, "--burst"]
        done = run_manage(*command, environment=self.environment, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr

    def start(self, *queues: str) -> psutil.Popen:
        """Start a worker on these queues, or on all; it runs until the end of the test."""
        command = [*MANAGE, "rqworker", *(queues or self.queues), "--with-scheduler"]
        worker = psutil.Popen(command, env=self.environment)
        self.started.append(worker)
        return worker

    def kill(self) -> None:
        """End every worker started here, and its children, with SIGKILL."""
        for worker in self.started:
            if worker.poll() is None:
                family = [worker, *worker.children(recursive=True)]
                for process in family:
                    process.kill()
                psutil.wait_procs(family)
        self.started.clear()


@pytest.fixture
def workers(sandbox: SandboxServer, environment: dict[str, str]) -> Iterator[Workers]:
    environment["GITHUB_API_URL"] = sandbox.url
    started = Workers(environment)
    yield started
    started.kill()


def wait_until(is_true: Callable[[], bool], *, patience: float = PATIENCE_SECONDS) -> None:
    """Check ten times a second until the condition holds; fail when patience is over."""
    deadline = time.monotonic() + patience
    while not is_true():
        assert time.monotonic() < deadline, f"waited {patience} s in vain"
        time.sleep(0.1)
