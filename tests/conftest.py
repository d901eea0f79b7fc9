"""What tests share: a Redis of their own and a pretend GitHub, both real servers."""

import os
from collections.abc import Iterator

import pytest
from pytest_django.fixtures import SettingsWrapper
from redis import Redis

from metrics_sync.sandbox import SandboxServer
from metrics_sync.sandbox.broker import open_broker


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """The URL of a Redis that only this run uses."""
    with open_broker(os.environ.get("REDIS_URL", "")) as url:
        yield url


@pytest.fixture
def redis(broker_url: str, settings: SettingsWrapper) -> Iterator[Redis]:
    """An empty Redis that the queues use."""
    _use_redis(settings, broker_url)
    with Redis.from_url(broker_url) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def redis_down(settings: SettingsWrapper) -> None:
    """Queues whose Redis does not answer."""
    _use_redis(settings, "redis://127.0.0.1:1/0")


def _use_redis(settings: SettingsWrapper, url: str) -> None:
    settings.RQ_QUEUES = {
        name: {**queue, "URL": url} for name, queue in settings.RQ_QUEUES.items()
    }


@pytest.fixture
def sandbox(settings: SettingsWrapper) -> Iterator[SandboxServer]:
    """A pretend GitHub, which is where the service asks."""
    with SandboxServer() as server:
        settings.GITHUB_API_URL = server.url
        yield server
