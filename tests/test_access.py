"""What GitHub said of a token, and what it means for everybody who uses it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone

from metrics_sync.access import Access
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GoneError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.models import IntegrationCredential
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token
from metrics_sync.snapshot import RateLimit
from tests.factories import MERGED_AT as NOW
from tests.factories import IntegrationCredentialFactory

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def credential(db: None) -> IntegrationCredential:
    return IntegrationCredentialFactory(access_token=DEFAULT_TOKEN)


@pytest.fixture
def access(sandbox: SandboxServer, credential: IntegrationCredential) -> Access:
    return Access(sandbox.url, DEFAULT_TOKEN, credential)


def spend(credential: IntegrationCredential, *, limit: int, remaining: int) -> None:
    credential.settle_lease(0, stated=RateLimit(limit, remaining, timezone.now() + HOUR))


async def ask_user(github: object) -> object:
    return await github.call(github.api.users.get_authenticated)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("limit", "remaining", "merges_pause", "bulk_pauses"),
    [
        pytest.param(5000, 5000, False, False, id="plenty"),
        pytest.param(5000, 1009, False, True, id="only the reserve is left"),
        pytest.param(5000, 0, True, True, id="nothing is left"),
        pytest.param(60, 22, False, False, id="a small limit has a small reserve"),
        pytest.param(60, 21, False, True, id="only the small reserve is left"),
    ],
)
def test_bulk_work_leaves_a_reserve_for_merges(
    credential: IntegrationCredential,
    limit: int,
    remaining: int,
    merges_pause: bool,
    bulk_pauses: bool,
) -> None:
    """A backfill must not eat the budget that the next merge needs."""
    spend(credential, limit=limit, remaining=remaining)

    assert (credential.find_pause() is not None) == merges_pause
    assert (credential.find_pause(is_bulk=True) is not None) == bulk_pauses


def test_pause_ends_when_the_window_does(credential: IntegrationCredential) -> None:
    """What was left of the last hour says nothing about this one."""
    with time_machine.travel(NOW, tick=False):
        spend(credential, limit=5000, remaining=0)
        until = credential.find_pause()
    with time_machine.travel(NOW + HOUR, tick=False):
        later = credential.find_pause()

    assert (until, later) == (NOW + HOUR, None)


def test_secondary_limits_pause_longer_each_time(credential: IntegrationCredential) -> None:
    """Going on asking at the same pace can get an integration banned."""
    pauses = []
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(6):
            credential.note_pause(until=timezone.now() + MINUTE, is_secondary=True)
            pauses.append((credential.find_pause() or NOW) - timezone.now())
            clock.shift(5 * MINUTE)

    assert [pause // MINUTE for pause in pauses] == [1, 2, 4, 8, 15, 15]


def test_secondary_limit_is_forgotten_after_an_hour(credential: IntegrationCredential) -> None:
    """One bad moment must not slow a token down for ever."""
    with time_machine.travel(NOW, tick=False) as clock:
        credential.note_pause(until=NOW + MINUTE, is_secondary=True)
        was_careful = credential.is_careful
        clock.shift(HOUR + MINUTE)
        is_careful = credential.is_careful
        credential.note_pause(until=timezone.now() + MINUTE, is_secondary=True)

    assert (was_careful, is_careful, credential.secondary_limits) == (True, False, 1)


def test_new_token_starts_afresh(credential: IntegrationCredential) -> None:
    """Its budget is its own."""
    spend(credential, limit=5000, remaining=0)
    credential.note_pause(until=timezone.now() + HOUR, is_secondary=True)
    credential.mark_revoked()

    credential.store_token("ghp_new")

    credential.refresh_from_db()
    assert (credential.access_token, credential.revoked_at) == ("ghp_new", None)
    assert (credential.find_pause(is_bulk=True), credential.is_careful) == (None, False)


def test_answers_are_noted_for_all_workers(
    access: Access, credential: IntegrationCredential
) -> None:
    """Each worker is a process of its own."""
    access.ask(ask_user)

    credential.refresh_from_db()
    assert (credential.rate_limit, credential.rate_limit_remaining) == (5000, 4999)


def test_refused_token_is_noted(
    access: Access, sandbox: SandboxServer, credential: IntegrationCredential
) -> None:
    """The next who wants to ask must know."""
    sandbox.world.revoke_token(DEFAULT_TOKEN)
    with pytest.raises(CredentialRejectedError):
        access.ask(ask_user)
    credential.refresh_from_db()
    asked = len(sandbox.requests)

    with pytest.raises(CredentialRejectedError, match=r"manage\.py connect"):
        Access(sandbox.url, DEFAULT_TOKEN, credential).ask(ask_user)

    assert len(sandbox.requests) == asked


def test_nothing_is_asked_during_a_pause(
    access: Access, sandbox: SandboxServer, credential: IntegrationCredential
) -> None:
    """It is known what GitHub would say."""
    credential.note_pause(until=timezone.now() + MINUTE, is_secondary=False)

    with pytest.raises(RateLimitedError):
        access.ask(ask_user)

    assert sandbox.requests == []


def test_latest_of_several_limits_is_noted_once(credential: IntegrationCredential) -> None:
    """Six sections that meet one secondary limit are one event."""
    until = timezone.now() + 2 * MINUTE
    errors = [SecondaryLimitError("limit", until=until - MINUTE) for _ in range(5)]
    errors.append(SecondaryLimitError("limit", until=until))

    Access("", "", credential).note([*errors, GoneError("gone")])

    assert (credential.secondary_limits, credential.revoked_at) == (1, None)
    assert credential.find_pause() == until


def state(credential: IntegrationCredential, remaining: int, *, limit: int = 5000) -> None:
    """Note what GitHub says of a window that ends in an hour."""
    credential.settle_lease(0, stated=RateLimit(limit, remaining, NOW + HOUR))


@time_machine.travel(NOW, tick=False)
def test_leases_together_are_no_more_than_what_is_left(credential: IntegrationCredential) -> None:
    """Each worker would take what is left for its own."""
    state(credential, 35)

    leased = [credential.lease_requests() for _ in range(5)]

    credential.refresh_from_db()
    assert (leased, credential.rate_limit_leased) == ([True, True, True, False, False], 30)
    assert credential.find_pause() == NOW + HOUR


@time_machine.travel(NOW, tick=False)
def test_bulk_lease_leaves_the_reserve(credential: IntegrationCredential) -> None:
    """Two reconciles at once could take it together."""
    state(credential, 1015)

    leased = [credential.lease_requests(is_bulk=is_bulk) for is_bulk in (True, True, False)]

    assert leased == [True, False, True]


@time_machine.travel(NOW, tick=False)
def test_settled_lease_may_be_had_again(credential: IntegrationCredential) -> None:
    """Most conversations need less than they set aside."""
    state(credential, 10)
    credential.lease_requests()

    credential.settle_lease(10, stated=RateLimit(5000, 10, NOW + HOUR))

    assert credential.lease_requests()


@time_machine.travel(NOW, tick=False)
def test_least_that_is_stated_of_a_window_counts(credential: IntegrationCredential) -> None:
    """Answers to several workers overtake each other."""
    state(credential, 40)
    state(credential, 45)

    credential.refresh_from_db()
    assert credential.rate_limit_remaining == 40


def test_lease_of_a_killed_worker_ends_with_the_window(credential: IntegrationCredential) -> None:
    """Nobody gives it back."""
    with time_machine.travel(NOW, tick=False):
        state(credential, 10, limit=50)
        killed = credential.lease_requests()
    with time_machine.travel(NOW + HOUR, tick=False):
        leased = [credential.lease_requests() for _ in range(6)]

    assert (killed, leased) == (True, [True] * 5 + [False])


def test_window_that_github_says_nothing_of_ends_soon(credential: IntegrationCredential) -> None:
    """Workers that all die before the first answer must not lock the token."""
    with time_machine.travel(NOW, tick=False):
        state(credential, 0, limit=50)
    with time_machine.travel(NOW + HOUR, tick=False) as clock:
        taken = [credential.lease_requests() for _ in range(6)]
        clock.shift(MINUTE)
        credential.refresh_from_db()

        assert (taken.count(True), credential.lease_requests()) == (5, True)


def test_statement_of_an_ended_window_counts_for_nothing(credential: IntegrationCredential) -> None:
    """An answer that comes late would stop everybody for nothing."""
    with time_machine.travel(NOW + HOUR, tick=False):
        credential.settle_lease(0, stated=RateLimit(5000, 4000, NOW + 2 * HOUR))
        state(credential, 0)

    credential.refresh_from_db()
    assert credential.rate_limit_remaining == 4000


@pytest.mark.django_db(transaction=True)
def test_twenty_conversations_at_once_send_no_more_than_is_left(
    sandbox: SandboxServer, transactional_db: None
) -> None:
    """GitHub would refuse the rest, and ban who goes on."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=100))
    credential = IntegrationCredentialFactory(access_token=DEFAULT_TOKEN)
    Access(sandbox.url, DEFAULT_TOKEN, credential).ask(ask_user)

    def converse(_: int) -> type[Exception] | None:
        own = IntegrationCredential.objects.get(pk=credential.pk)
        try:
            Access(sandbox.url, DEFAULT_TOKEN, own).ask(ask_seven_times)
        except BudgetSpentError as error:
            return type(error)
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(20) as pool:
        outcomes = set(pool.map(converse, range(20)))

    assert outcomes == {None, BudgetSpentError}
    assert {request.status for request in sandbox.requests} == {200}


async def ask_seven_times(github: object) -> None:
    for _ in range(7):
        await ask_user(github)


def test_refusal_of_an_old_token_does_not_revoke_a_new_one(
    access: Access, sandbox: SandboxServer, credential: IntegrationCredential
) -> None:
    """Somebody stores a new token while a fetch runs with the old one."""
    sandbox.world.revoke_token(DEFAULT_TOKEN)
    IntegrationCredential.objects.get().store_token("ghp_new")

    with pytest.raises(CredentialRejectedError):
        access.ask(ask_user)

    assert IntegrationCredential.objects.get().revoked_at is None


def test_shortage_that_github_did_not_tell_pauses_nobody_else(
    credential: IntegrationCredential,
) -> None:
    """Bulk work that finds only the reserve left must not stop the merges it is kept for."""
    error = BudgetSpentError("only the reserve is left", until=timezone.now() + HOUR)

    Access("", "", credential).note([error])

    assert credential.find_pause() is None
