"""What GitHub says of a token, and what all workers that use the token do about it."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from asgiref.sync import sync_to_async
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from metrics_sync.access import Access, keep_connected
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GoneError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.github import GitHub
from metrics_sync.github.pages import Page
from metrics_sync.models import IntegrationCredential
from metrics_sync.models.budgets import SHARE, Share
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token
from metrics_sync.snapshot import RateLimit
from tests.conftest import PATIENCE_SECONDS
from tests.factories import MERGED_AT as NOW
from tests.factories import IntegrationCredentialFactory
from tests.processes import run_program

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def credential(db: None) -> IntegrationCredential:
    return IntegrationCredentialFactory(access_token=DEFAULT_TOKEN)


@pytest.fixture
def access(sandbox: SandboxServer, credential: IntegrationCredential) -> Access:
    return Access(sandbox.url, DEFAULT_TOKEN, credential)


def spend(credential: IntegrationCredential, *, limit: int, remaining: int) -> None:
    credential.note_rate_limit(RateLimit(limit, remaining, timezone.now() + HOUR))


async def ask_user(github: GitHub) -> Page:
    return await github.call(github.api.users.get_authenticated)


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
    """A backfill must not use up the requests that the next merge needs."""
    spend(credential, limit=limit, remaining=remaining)

    assert (credential.find_pause() is not None) == merges_pause
    assert (credential.find_pause(is_bulk=True) is not None) == bulk_pauses


def test_pause_ends_when_the_window_does(credential: IntegrationCredential) -> None:
    """How much was left of the last hour does not matter in the next one."""
    with time_machine.travel(NOW, tick=False):
        spend(credential, limit=5000, remaining=0)
        until = credential.find_pause()
    with time_machine.travel(NOW + HOUR, tick=False):
        later = credential.find_pause()

    assert (until, later) == (NOW + HOUR, None)


def test_secondary_limits_pause_longer_each_time(credential: IntegrationCredential) -> None:
    """GitHub can ban an integration that keeps its pace after a secondary limit."""
    pauses = []
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(6):
            credential.note_pause(until=timezone.now() + MINUTE, is_secondary=True)
            pauses.append((credential.find_pause() or NOW) - timezone.now())
            clock.shift(5 * MINUTE)

    assert [pause // MINUTE for pause in pauses] == [1, 2, 4, 8, 15, 15]


def test_secondary_limit_is_forgotten_after_an_hour(credential: IntegrationCredential) -> None:
    """One secondary limit must not slow the token down for ever."""
    with time_machine.travel(NOW, tick=False) as clock:
        credential.note_pause(until=NOW + MINUTE, is_secondary=True)
        was_careful = credential.is_careful
        clock.shift(HOUR + MINUTE)
        is_careful = credential.is_careful
        credential.note_pause(until=timezone.now() + MINUTE, is_secondary=True)

    assert (was_careful, is_careful, credential.secondary_limits) == (True, False, 1)


def test_new_token_starts_afresh(credential: IntegrationCredential) -> None:
    """A new token has a budget of its own."""
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
    """The next worker that wants to use the token must know that GitHub refuses it."""
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
    """GitHub would only repeat its refusal."""
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
    credential.note_rate_limit(RateLimit(limit, remaining, NOW + HOUR))


def set_aside(credential: IntegrationCredential, *, is_bulk: bool = False) -> Share | None:
    """Set aside what a fetch needs; None when there is too little."""
    try:
        return credential.set_requests_aside(is_bulk=is_bulk)
    except BudgetSpentError:
        return None


@time_machine.travel(NOW, tick=False)
def test_all_that_is_set_aside_is_no_more_than_what_is_left(
    credential: IntegrationCredential,
) -> None:
    """Otherwise each worker would count on all of the remaining requests."""
    state(credential, 35)

    shares = [set_aside(IntegrationCredential.objects.get()) is not None for _ in range(5)]

    assert shares == [True, True, True, False, False]


@time_machine.travel(NOW, tick=False)
def test_bulk_work_sets_aside_nothing_of_the_reserve(credential: IntegrationCredential) -> None:
    """Otherwise two reconciles at once could use up the reserve together."""
    state(credential, 1015)

    shares = [set_aside(credential, is_bulk=True) is not None for _ in range(2)]

    assert shares == [True, False]
    assert set_aside(credential) is not None


@time_machine.travel(NOW, tick=False)
def test_shares_of_others_are_waited_for_shortly(credential: IntegrationCredential) -> None:
    """Most fetches need fewer requests than they set aside, so the rest is free long before the
    reset.
    """
    state(credential, 15)
    set_aside(credential)

    with pytest.raises(BudgetSpentError) as caught:
        credential.set_requests_aside(is_bulk=False)

    assert caught.value.until == credential.find_pause() == NOW + timedelta(seconds=15)


@time_machine.travel(NOW, tick=False)
def test_returned_share_is_free_for_another_fetch(credential: IntegrationCredential) -> None:
    """When a fetch has ended, GitHub has stated what it cost, and its share is free again."""
    state(credential, 18)
    share = set_aside(credential)
    meanwhile = set_aside(credential)

    credential.note_rate_limit(RateLimit(5000, 10, NOW + HOUR), returned=share)

    assert (share is not None, meanwhile, set_aside(credential)) == (True, None, share)
    assert set_aside(credential) is None


@time_machine.travel(NOW, tick=False)
def test_nothing_is_set_aside_during_a_pause(credential: IntegrationCredential) -> None:
    """A worker that read the credential before the pause must learn of it, too."""
    state(credential, 5000)
    earlier = IntegrationCredential.objects.get()
    credential.note_pause(until=NOW + MINUTE, is_secondary=False)

    with pytest.raises(BudgetSpentError) as caught:
        earlier.set_requests_aside(is_bulk=False)

    assert caught.value.until == NOW + MINUTE


@time_machine.travel(NOW, tick=False)
def test_nothing_is_set_aside_while_there_is_plenty(
    access: Access, credential: IntegrationCredential
) -> None:
    """Otherwise all workers would wait for each other to write to one row."""
    state(credential, 1010)
    much = credential.has_plenty(is_bulk=False), credential.has_plenty(is_bulk=True)
    state(credential, 1009)

    assert (much, credential.has_plenty(is_bulk=False)) == ((True, False), False)


def test_much_to_fetch_costs_no_query_while_there_is_plenty(
    access: Access, credential: IntegrationCredential
) -> None:
    """The number of queries must not grow with the size of a pull request."""
    with CaptureQueriesContext(connection) as queries:
        access.ask(ask_often)

    assert [query["sql"].split()[0] for query in queries] == ["UPDATE"]


def test_server_without_limits_is_never_counted(
    access: Access, sandbox: SandboxServer, credential: IntegrationCredential
) -> None:
    """An Enterprise Server whose rate limits are switched off states none."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=None))

    with CaptureQueriesContext(connection) as queries:
        access.ask(ask_often)

    assert (len(queries), credential.find_pause(is_bulk=True)) == (0, None)


def test_setting_aside_and_giving_back_are_one_query_each(
    access: Access, credential: IntegrationCredential
) -> None:
    """Every fetch runs both while few requests are left, and all fetches of a credential use one
    row.
    """
    credential.note_rate_limit(RateLimit(5000, 100, timezone.now() + HOUR))

    with CaptureQueriesContext(connection) as queries:
        access.ask(ask_user)

    assert [query["sql"].split()[0] for query in queries] == ["UPDATE", "UPDATE"]


@time_machine.travel(NOW, tick=False)
def test_lowest_number_of_a_window_counts(credential: IntegrationCredential) -> None:
    """The answers to several workers arrive in any order."""
    state(credential, 40)
    state(credential, 45)

    credential.refresh_from_db()
    assert credential.rate_limit_remaining == 40


@pytest.mark.parametrize(
    ("minutes", "is_free"), [(4, False), (6, True)], ids=["in the next period", "after it"]
)
def test_share_of_a_killed_worker_becomes_free(
    credential: IntegrationCredential, minutes: int, is_free: bool
) -> None:
    """A killed worker gives nothing back; its share must not block the others for ever."""
    with time_machine.travel(NOW + 4 * MINUTE, tick=False) as clock:
        state(credential, 25)
        set_aside(credential)
        clock.shift(3 * MINUTE)
        other = set_aside(credential)
        credential.note_rate_limit(RateLimit(5000, 15, NOW + HOUR), returned=other)
        clock.move_to(NOW + 4 * MINUTE + minutes * MINUTE)

        assert (set_aside(credential) is not None) == is_free


def test_share_of_the_period_before_is_given_back(
    credential: IntegrationCredential,
) -> None:
    """A fetch that begins in one period may end in the next one."""
    with time_machine.travel(NOW + 4 * MINUTE, tick=False) as clock:
        state(credential, 25)
        share = set_aside(credential)
        clock.shift(2 * MINUTE)
        set_aside(credential)

        credential.note_rate_limit(RateLimit(5000, 20, NOW + HOUR), returned=share)

        assert (set_aside(credential) is not None, set_aside(credential)) == (True, None)


def test_share_that_ended_by_itself_is_not_given_back_again(
    credential: IntegrationCredential,
) -> None:
    """Otherwise it would free what other fetches have set aside since."""
    with time_machine.travel(NOW, tick=False) as clock:
        state(credential, 15)
        slow = set_aside(credential)
        clock.shift(11 * MINUTE)
        set_aside(credential)

        credential.note_rate_limit(None, returned=slow)

        assert set_aside(credential) is None


def test_new_window_is_full_until_github_says_what_is_left(
    credential: IntegrationCredential,
) -> None:
    """Some fetch must ask first, and all together must not send more than a window allows."""
    with time_machine.travel(NOW, tick=False):
        state(credential, 0, limit=50)
    with time_machine.travel(NOW + HOUR, tick=False):
        shares = [set_aside(credential) is not None for _ in range(6)]

    assert shares == [True] * 5 + [False]


def test_share_counts_in_the_next_window_too(credential: IntegrationCredential) -> None:
    """A fetch that is under way at the reset sends the rest of its requests in the new window."""
    with time_machine.travel(NOW + 59 * MINUTE, tick=False) as clock:
        state(credential, 10, limit=50)
        set_aside(credential)
        clock.shift(MINUTE)
        credential.note_rate_limit(RateLimit(50, 49, NOW + 2 * HOUR))

        shares = [set_aside(credential) is not None for _ in range(4)]

    assert shares == [True] * 3 + [False]


def test_statement_of_an_ended_window_counts_for_nothing(credential: IntegrationCredential) -> None:
    """A late answer about the old window must not stop all workers in the new one."""
    with time_machine.travel(NOW + HOUR, tick=False):
        credential.note_rate_limit(RateLimit(5000, 4000, NOW + 2 * HOUR))
        state(credential, 0)

    credential.refresh_from_db()
    assert credential.rate_limit_remaining == 4000


def test_shorter_pause_does_not_end_a_longer_one(credential: IntegrationCredential) -> None:
    """Two workers met two limits, and both limits must be obeyed."""
    until = timezone.now() + HOUR
    credential.note_pause(until=until, is_secondary=False)

    IntegrationCredential.objects.get().note_pause(
        until=timezone.now() + MINUTE, is_secondary=False
    )

    assert IntegrationCredential.objects.get().find_pause() == until


def test_answers_about_an_old_token_do_not_count(credential: IntegrationCredential) -> None:
    """A new token can be stored while a fetch still runs with the old one."""
    fetching = IntegrationCredential.objects.get()
    credential.store_token("ghp_new")

    fetching.note_rate_limit(RateLimit(5000, 0, timezone.now() + HOUR))
    fetching.note_pause(until=timezone.now() + HOUR, is_secondary=True)

    assert IntegrationCredential.objects.get().find_pause() is None


async def ask_often(github: GitHub) -> None:
    for _ in range(60):
        await ask_user(github)


def test_pause_from_another_worker_ends_a_conversation(
    access: Access, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long conversation that ignores the pause can get the token banned."""
    monkeypatch.setattr("metrics_sync.access.clients.SHARE_SECONDS", 0)

    async def meet_a_limit(github: GitHub) -> None:
        await ask_user(github)
        other = await IntegrationCredential.objects.aget()
        await sync_to_async(other.note_pause)(until=timezone.now() + HOUR, is_secondary=True)
        await ask_often(github)

    with pytest.raises(BudgetSpentError):
        access.ask(meet_a_limit)

    assert len(sandbox.requests) <= SHARE


def test_long_bulk_conversation_stops_where_the_reserve_begins(
    sandbox: SandboxServer, credential: IntegrationCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing of ten years of merges begins with many requests left, and may use up the
    reserve.
    """
    monkeypatch.setattr("metrics_sync.models.budgets.PLENTY", 20)
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=100))
    bulk = Access(sandbox.url, DEFAULT_TOKEN, credential, is_bulk=True)

    bulk.ask(ask_often)

    with pytest.raises(BudgetSpentError, match="reserve"):
        bulk.ask(ask_often)

    assert 20 <= (credential.left or 0) < 20 + SHARE


def test_database_that_fails_at_the_end_costs_no_answer(
    access: Access, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The fetched data are complete, and GitHub states the budget again in its next answer."""

    def fail(*_: object, **__: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(IntegrationCredential, "note_rate_limit", fail)

    assert access.ask(ask_user)
    assert "could not be stored" in caplog.text


def test_conversations_of_one_function_share_their_connections(
    access: Access, sandbox: SandboxServer, credential: IntegrationCredential
) -> None:
    """And their queries are run by the thread that has its connection to the database."""
    spend(credential, limit=5000, remaining=500)
    seen = []

    def ask_twice() -> None:
        for _ in range(2):
            access.ask(ask_seven_times_twice)
            seen.append({id(each) for each in sandbox._runner.server.connections})

    keep_connected(ask_twice)

    assert seen[0] == seen[1]
    assert IntegrationCredential.objects.get().rate_limit_remaining == 5000 - 28


async def ask_seven_times_twice(github: GitHub) -> None:
    """Ask for more than one share, so that another one is set aside meanwhile."""
    await ask_seven_times(github)
    await ask_seven_times(github)


INTERRUPTED = """
import asyncio, os, signal, threading
import django
django.setup()
from metrics_sync.access import run_conversation

# A shell that runs the tests in the background has its children ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def wait():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    await asyncio.sleep(600)

run_conversation(wait)
"""


def test_interrupted_conversation_ends_at_once(tmp_path: Path) -> None:
    """A person who presses Ctrl-C wants the prompt back."""
    program = tmp_path / "interrupted.py"
    program.write_text(INTERRUPTED)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}

    done = run_program(program, [], environment=environment, timeout=PATIENCE_SECONDS)

    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.django_db(transaction=True)
def test_twenty_conversations_at_once_send_no_more_than_is_left(
    sandbox: SandboxServer, transactional_db: None
) -> None:
    """GitHub would refuse the other requests, and may ban a client that keeps sending them."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=100))
    credential = IntegrationCredentialFactory(access_token=DEFAULT_TOKEN)
    Access(sandbox.url, DEFAULT_TOKEN, credential).ask(ask_user)

    def run_conversation(_: int) -> type[Exception] | None:
        own = IntegrationCredential.objects.get(pk=credential.pk)
        try:
            Access(sandbox.url, DEFAULT_TOKEN, own).ask(ask_seven_times)
        except BudgetSpentError as error:
            return type(error)
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(20) as pool:
        outcomes = set(pool.map(run_conversation, range(20)))

    assert outcomes == {None, BudgetSpentError}
    assert {request.status for request in sandbox.requests} == {200}


async def ask_seven_times(github: GitHub) -> None:
    for _ in range(7):
        await ask_user(github)


def test_refusal_of_an_old_token_does_not_revoke_a_new_one(
    access: Access, sandbox: SandboxServer, credential: IntegrationCredential
) -> None:
    """A new token can be stored while a fetch still runs with the old one."""
    sandbox.world.revoke_token(DEFAULT_TOKEN)
    IntegrationCredential.objects.get().store_token("ghp_new")

    with pytest.raises(CredentialRejectedError):
        access.ask(ask_user)

    assert IntegrationCredential.objects.get().revoked_at is None


def test_answer_about_an_old_token_does_not_release_a_new_one(
    credential: IntegrationCredential,
) -> None:
    """While the clock tries a refused token, another one can be stored and refused."""
    asked_about = IntegrationCredential.objects.get()
    credential.store_token("ghp_new")
    credential.mark_revoked()

    asked_about.mark_accepted()

    assert IntegrationCredential.objects.get().revoked_at is not None


def test_pause_is_reported_with_its_date(
    access: Access, credential: IntegrationCredential, sandbox: SandboxServer
) -> None:
    """People read a time without a date as a time of today."""
    until = timezone.now() + HOUR
    credential.note_pause(until=until, is_secondary=False)

    with pytest.raises(BudgetSpentError, match=f"until {until:%Y-%m-%d %H:%M} UTC"):
        access.ask(ask_user)


def test_own_reserve_pauses_no_merges(
    credential: IntegrationCredential,
) -> None:
    """Bulk work that finds only the reserve must not stop the merges that the reserve is for."""
    error = BudgetSpentError("only the reserve is left", until=timezone.now() + HOUR)

    Access("", "", credential).note([error])

    assert credential.find_pause() is None
