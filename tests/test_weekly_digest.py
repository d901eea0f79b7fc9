"""The weekly mail: its recipients, its content, and that it is sent at most once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from django.core import mail
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from metrics_sync.models import PullRequest, Team, WeeklyDigest
from metrics_sync.operate import weekly_digest
from metrics_sync.operate.weekly_digest import find_week, send_digests
from tests.conftest import wait_until
from tests.factories import PullRequestFactory, TeamFactory, UserFactory
from tests.mailbox import open_mailbox

pytestmark = pytest.mark.django_db
#: A Monday.
NOW = datetime(2026, 3, 16, 9, tzinfo=UTC)
LAST_WEEK, WEEK_BEFORE = NOW - timedelta(days=4), NOW - timedelta(days=11)


@pytest.fixture(autouse=True)
def _now(settings: Settings) -> Any:
    settings.METRICS_SYNC_BASE_URL = "https://sync.example"
    with time_machine.travel(NOW, tick=False):
        yield


@pytest.fixture
def wish() -> WeeklyDigest:
    """A member of the team Forge who wants its digest."""
    return ask_for("forge")


def ask_for(slug: str) -> WeeklyDigest:
    user = UserFactory(email=f"lead@{slug}.example")
    team = TeamFactory(name=f"Team {slug}", slug=slug)
    team.members.add(user)
    return WeeklyDigest.objects.create(team=team, user=user)


def merge(team: Team, merged_at: datetime, **values: Any) -> None:
    row = PullRequestFactory(team=team, state="merged", merged_at=merged_at)
    well = {"sync_status": "complete", "completed_at": merged_at, "merged_without_review": False}
    PullRequest.objects.filter(pk=row.pk).update(**{**well, **values})


def read_mail() -> str:
    [message] = mail.outbox
    return f"{message.subject}\n{message.body}"


def test_digest_has_the_week_and_the_week_before(wish: WeeklyDigest) -> None:
    """A number needs the week before for comparison."""
    for hours in (2, 4, 9):
        merge(wish.team, LAST_WEEK, review_wait_hours=hours, cycle_time_hours=20, review_rounds=1)
    merge(wish.team, WEEK_BEFORE, review_wait_hours=7, cycle_time_hours=30, review_rounds=2)
    merge(wish.team, NOW, review_wait_hours=99)

    assert send_digests() == {"sent": 1, "failed": 0}

    words = " ".join(read_mail().split())
    assert mail.outbox[0].to == ["lead@forge.example"]
    assert "Team forge: the week of 2026-03-09" in words
    assert "Merged: 3 (the week before: 1)" in words
    assert "First review after (median): 4.0 h (the week before: 7.0 h)" in words
    assert "Review rounds (median): 1 (the week before: 2)" in words
    assert "Cycle time (median): 20.0 h (the week before: 30.0 h)" in words
    assert "https://sync.example/admin/?team=forge&from=2026-03-09&to=2026-03-15" in words


def test_digest_says_what_waits(wish: WeeklyDigest) -> None:
    """Merges that are not complete are missing from the numbers."""
    merge(wish.team, LAST_WEEK, sync_status="pending", completed_at=None)
    merge(wish.team, LAST_WEEK, sync_status="queued")
    merge(wish.team, WEEK_BEFORE, sync_status="failed", completed_at=None)

    send_digests()

    assert "Not complete now: 1 waiting, 1 failed or partial." in read_mail()
    assert "First review after (median):     unknown" in read_mail()


def test_digest_has_nothing_of_another_team(wish: WeeklyDigest) -> None:
    """Each team's mail has that team's numbers only."""
    other = ask_for("vault")
    merge(other.team, LAST_WEEK)
    merge(other.team, LAST_WEEK, sync_status="failed")

    send_digests()

    texts = {message.to[0]: message.body for message in mail.outbox}
    assert "vault" not in texts["lead@forge.example"]
    assert "0 waiting, 0 failed" in texts["lead@forge.example"]
    assert "0 waiting, 1 failed" in texts["lead@vault.example"]


@pytest.mark.parametrize("changes", ["member", "active", "address"])
def test_nobody_else_gets_it(wish: WeeklyDigest, changes: str) -> None:
    """Users who have left the team must not receive its numbers."""
    user = wish.user
    if changes == "member":
        wish.team.members.remove(user)
    user.is_active, user.email = changes != "active", user.email if changes != "address" else ""
    user.save()

    assert send_digests() == {"sent": 0, "failed": 0}
    assert mail.outbox == []


def test_digest_is_sent_once_a_week(wish: WeeklyDigest) -> None:
    """The clock checks every hour whether a digest is due."""
    sent = []
    for hours in (0, 1, 100, 160, 168, 169):
        with time_machine.travel(NOW + timedelta(hours=hours), tick=False):
            sent.append(send_digests()["sent"])

    assert sent == [1, 0, 0, 0, 1, 0]


def test_second_clock_sends_nothing_more(wish: WeeklyDigest) -> None:
    """Both clocks have read that it is due; one statement decides which sends it."""
    also_read = WeeklyDigest.objects.due(date(2026, 3, 9)).get()

    assert wish.claim(date(2026, 3, 9))
    assert not also_read.claim(date(2026, 3, 9))


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_two_clocks_at_the_same_moment_send_one(wish: WeeklyDigest) -> None:
    """The second clock waits for the first, and must then check again."""
    week = date(2026, 3, 9)

    def claim_apart() -> bool:
        try:
            return wish.claim(week)
        finally:
            connection.close()

    with ThreadPoolExecutor() as pool:
        with transaction.atomic():
            first = wish.claim(week)
            second = pool.submit(claim_apart)
            wait_until(is_somebody_waiting)
        assert (first, second.result()) == (True, False)


def is_somebody_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        [(waiting,)] = cursor.fetchall()
    return bool(waiting)


def test_digest_of_a_killed_worker_is_not_sent_twice(
    wish: WeeklyDigest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker may have died before the mail server's answer or after it."""

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(weekly_digest.EmailMessage, "send", die)
        with pytest.raises(KeyboardInterrupt):
            send_digests()

    assert send_digests() == {"sent": 0, "failed": 0}


def test_mail_server_that_is_down_costs_no_digest(wish: WeeklyDigest, settings: Settings) -> None:
    """Nothing is claimed before the mail server answers."""
    smtp = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = smtp, "127.0.0.1", 1
    with pytest.raises(OSError, match="refused"):
        send_digests()

    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    assert send_digests() == {"sent": 1, "failed": 0}


def use_smtp(settings: Settings, url: str) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", urlsplit(url).port


@pytest.mark.parametrize("refusal", [b"", b"421 too much"], ids=["silent", "421"])
def test_connection_that_ends_costs_one_digest(
    wish: WeeklyDigest, settings: Settings, refusal: bytes
) -> None:
    """On the same connection every later mail would fail, and a week's mails would be lost."""
    ask_for("vault")
    ask_for("works")
    with open_mailbox(refusals=[refusal]) as (url, texts):
        use_smtp(settings, url)

        assert send_digests() == {"sent": 2, "failed": 1}

    assert [text.partition(":")[0] for text in texts] == ["Team vault", "Team works"]


def test_nothing_is_claimed_after_the_mail_server_went_down(
    wish: WeeklyDigest, settings: Settings
) -> None:
    """The remaining mails are sent an hour later."""
    later = ask_for("vault")
    greetings = [b"220 ready", b"421 going down"]
    with open_mailbox(refusals=[b"421 going down"], greetings=greetings) as (url, _):
        use_smtp(settings, url)
        with pytest.raises(OSError, match="going down"):
            send_digests()

    assert list(WeeklyDigest.objects.due(date(2026, 3, 9))) == [later]


def test_team_whose_week_cannot_be_read_holds_up_nobody(
    wish: WeeklyDigest, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement may be cancelled; nothing is claimed before the text is written."""
    ask_for("vault")
    faults = [OperationalError("canceling statement due to statement timeout")]

    def cancel(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "metrics_sync_pullrequest" in sql and faults:
            raise faults.pop()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(cancel):
        assert send_digests() == {"sent": 1, "failed": 1}

    assert "The week of Team forge cannot be read; digests that wait: 1" in caplog.text
    assert send_digests() == {"sent": 1, "failed": 0}


def test_name_of_two_lines_is_one_subject(wish: WeeklyDigest) -> None:
    """Django refuses a line break in a subject, but only after the mail was claimed."""
    Team.objects.update(name="Team\r\nforge")

    assert send_digests() == {"sent": 1, "failed": 0}
    assert mail.outbox[0].subject == "Team forge: the week of 2026-03-09"


def test_address_that_is_none_fails_alone(
    wish: WeeklyDigest, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Addresses are typed by hand, and the mails after this one must be sent."""
    type(wish.user).objects.update(email="lead\n@forge.example")
    ask_for("vault")
    with open_mailbox() as (url, texts):
        use_smtp(settings, url)

        assert send_digests() == {"sent": 1, "failed": 1}

    assert len(texts) == 1
    assert "The digest Team forge for" in caplog.text


def test_week_of_a_team_is_read_once(wish: WeeklyDigest) -> None:
    """For a team of thirty, the same rows would be read thirty times."""
    fellow = UserFactory(email="fellow@forge.example")
    wish.team.members.add(fellow)
    WeeklyDigest.objects.create(team=wish.team, user=fellow)

    with CaptureQueriesContext(connection) as made:
        assert send_digests() == {"sent": 2, "failed": 0}

    assert sum("metrics_sync_pullrequest" in query["sql"] for query in made) == 3


@pytest.mark.parametrize(
    ("now", "week"),
    [
        pytest.param(datetime(2026, 3, 16, 5, 59, tzinfo=UTC), date(2026, 3, 2), id="too early"),
        pytest.param(datetime(2026, 3, 16, 6, tzinfo=UTC), date(2026, 3, 9), id="six hours later"),
        pytest.param(datetime(2026, 3, 22, 23, tzinfo=UTC), date(2026, 3, 9), id="on Sunday"),
    ],
)
def test_week_is_over_since_six_hours(now: datetime, week: date) -> None:
    """Merges of Sunday night are fetched by then."""
    assert find_week(now) == week


def test_member_asks_for_it_and_ends_it_in_the_admin(client: Client, wish: WeeklyDigest) -> None:
    """No operator is needed, and nobody can order it for somebody else or for another team."""
    mine, other = TeamFactory(slug="mine"), TeamFactory(slug="other")
    user = UserFactory(email="me@example.com")
    mine.members.add(user)
    client.force_login(user)
    add = reverse("admin:metrics_sync_weeklydigest_add")

    for team in (mine, other):
        client.post(add, {"team": team.pk})
    made = list(WeeklyDigest.objects.exclude(pk=wish.pk).values_list("team", "user"))
    [row] = WeeklyDigest.objects.filter(user=user)
    for pk in (row.pk, wish.pk):
        client.post(reverse("admin:metrics_sync_weeklydigest_delete", args=[pk]), {"post": "yes"})

    assert made == [(mine.pk, user.pk)]
    assert list(WeeklyDigest.objects.all()) == [wish]


def test_fellow_member_cannot_end_it(client: Client, wish: WeeklyDigest) -> None:
    """Each member decides about their own mail."""
    fellow = UserFactory()
    wish.team.members.add(fellow)
    client.force_login(fellow)

    url = reverse("admin:metrics_sync_weeklydigest_delete", args=[wish.pk])

    assert client.post(url, {"post": "yes"}).status_code == 403
    assert WeeklyDigest.objects.exists()


def test_user_without_an_address_is_told(client: Client) -> None:
    """Otherwise the order would be kept, and no mail ever sent."""
    user = UserFactory(email="")
    team = TeamFactory()
    team.members.add(user)
    client.force_login(user)

    page = client.post(reverse("admin:metrics_sync_weeklydigest_add"), {"team": team.pk})

    assert "no e-mail address" in page.content.decode()
    assert not WeeklyDigest.objects.exists()
