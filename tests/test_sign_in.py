"""Sign-in: failures are logged and limited, and a lock says how it ends."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client, RequestFactory
from pytest_django import Settings

from project.sign_in import find_client_address, find_client_network

LOGIN = "/admin/login/"
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOME, ELSEWHERE, PROXY = "192.0.2.7", "198.51.100.9", "10.0.0.1"


@pytest.fixture
def operator(db: None) -> User:
    return User.objects.create_superuser("operator", password="right")


def sign_in(client: Client, password: str, *, name: str = "operator", address: str = HOME) -> int:
    data = {"username": name, "password": password}
    return client.post(LOGIN, data, REMOTE_ADDR=address).status_code


def fail(client: Client, *, times: int, address: str = HOME) -> list[int]:
    return [sign_in(client, "wrong", address=address) for _ in range(times)]


@pytest.mark.usefixtures("operator")
def test_who_keeps_failing_is_locked_out_with_a_way_out(client: Client) -> None:
    """A machine tries a million passwords a day; a user who forgot one needs advice."""
    statuses = fail(client, times=5)

    answer = client.post(LOGIN, {"username": "operator", "password": "right"}, REMOTE_ADDR=HOME)

    assert statuses == [200] * 4 + [429]
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "900")
    assert "Wait 15 minutes" in answer.content.decode()
    assert "axes_reset_username" in answer.content.decode()


@pytest.mark.usefixtures("operator")
def test_lock_opens_after_its_time_whatever_is_tried_meanwhile(client: Client) -> None:
    """Otherwise an attacker could lock out the owner for ever."""
    with time_machine.travel(NOW, tick=False) as clock:
        fail(client, times=5)
        clock.shift(timedelta(minutes=14))
        fail(client, times=3)
        clock.shift(timedelta(minutes=2))

        assert sign_in(client, "right") == 302


@pytest.mark.usefixtures("operator")
def test_operator_opens_the_lock(client: Client) -> None:
    """The page tells users to ask for this command."""
    fail(client, times=5)

    call_command("axes_reset_username", "operator")

    assert sign_in(client, "right") == 302


@pytest.mark.usefixtures("operator")
def test_owner_signs_in_from_elsewhere_all_the_same(client: Client) -> None:
    """Everybody who knows a name could lock out its owner."""
    fail(client, times=9, address=ELSEWHERE)

    assert sign_in(client, "right", address=HOME) == 302


@pytest.mark.usefixtures("operator")
def test_success_forgets_the_failures_before(client: Client) -> None:
    """Four typing errors a week are no attack."""
    for _ in range(3):
        assert fail(client, times=4) == [200] * 4
        assert sign_in(client, "right") == 302


@pytest.mark.usefixtures("operator")
def test_every_try_is_in_the_log_without_its_password(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators look for attacks in the log; a name must not forge its lines."""
    caplog.set_level("INFO", logger="project.sign_in")

    fail(client, times=1)
    sign_in(client, "wrong", name="eve\n2026 INFO operator signed in")
    sign_in(client, "right")

    lines = [record.getMessage() for record in caplog.records if record.name == "project.sign_in"]
    assert lines == [
        f"Sign-in as 'operator' from {HOME} failed",
        f"Sign-in as 'eve\\n2026 INFO operator signed in' from {HOME} failed",
        f"'operator' signed in from {HOME}",
    ]
    assert "wrong" not in caplog.text


@pytest.mark.parametrize("query", ["?next=%00", "?%00=(", f"?next={'a' * 3000}"])
@pytest.mark.usefixtures("operator")
def test_odd_addresses_of_the_login_are_no_fault_of_ours(client: Client, query: str) -> None:
    """The address is stored with the failure, and PostgreSQL refuses a NUL."""
    data = {"username": "operator", "password": "wrong"}

    assert client.post(LOGIN + query, data).status_code == 200


@pytest.mark.parametrize(
    ("forwarded", "peer", "found"),
    [
        pytest.param("", HOME, HOME, id="no proxy"),
        pytest.param(ELSEWHERE, HOME, HOME, id="written by a stranger"),
        pytest.param(HOME, PROXY, HOME, id="written by the proxy"),
        pytest.param(f"{ELSEWHERE}, {HOME}", PROXY, HOME, id="begun by a stranger"),
        pytest.param(f"{HOME}, 10.0.0.2", PROXY, HOME, id="two proxies"),
        pytest.param("unknown", PROXY, PROXY, id="no address"),
        pytest.param("", "", None, id="no peer"),
    ],
)
def test_forwarded_address_is_believed_from_trusted_proxies_only(
    settings: Settings, forwarded: str, peer: str, found: str | None
) -> None:
    """An attacker could write another address in each request."""
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    request = RequestFactory().get(LOGIN, headers=headers, REMOTE_ADDR=peer)

    assert find_client_address(request) == found


def test_addresses_of_one_network_count_as_one() -> None:
    """A machine with IPv6 has billions of addresses."""
    requests = [
        RequestFactory().get(LOGIN, REMOTE_ADDR=f"2001:db8:0:7:{n}::1") for n in range(1, 4)
    ]

    assert {find_client_network(request) for request in requests} == {"2001:db8:0:7::"}
