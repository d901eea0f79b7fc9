"""What GitHub said of a token, and what it means for everybody who uses it."""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from metrics_sync.access import Access
from metrics_sync.exceptions import (
    CredentialRejectedError,
    GoneError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.models import IntegrationCredential
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer
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
    credential.note_rate_limit(RateLimit(limit, remaining, timezone.now() + HOUR))
    credential.refresh_from_db()


async def ask_user(github: object) -> object:
    return await github.call(github.api.users.get_authenticated)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("limit", "remaining", "merges_pause", "bulk_pauses"),
    [
        pytest.param(5000, 5000, False, False, id="plenty"),
        pytest.param(5000, 999, False, True, id="only the reserve is left"),
        pytest.param(5000, 0, True, True, id="nothing is left"),
        pytest.param(60, 12, False, False, id="a small limit has a small reserve"),
        pytest.param(60, 11, False, True, id="only the small reserve is left"),
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

    Access("", "", credential).note(None, [*errors, GoneError("gone")])

    assert (credential.secondary_limits, credential.revoked_at) == (1, None)
    assert credential.find_pause() == until
