"""Each problem that doctor finds is reported once, and so is its end."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.core import mail
from pytest_django import Settings

from metrics_sync.models import Notice
from metrics_sync.operate.doctor import Finding
from metrics_sync.operate.notifying import report, report_changes
from tests.chat import open_chat

pytestmark = pytest.mark.django_db
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
DEAD = Finding("tokens", "acme: GitHub refuses the token", "Run `manage.py connect` again.")
WELL = Finding("tokens", "acme: 4711 requests left")


@pytest.fixture(autouse=True)
def to_somebody(settings: Settings) -> None:
    settings.METRICS_SYNC_NOTIFY_EMAILS = ["ops@acme.example"]


def go_through(*rounds: list[Finding]) -> list[int]:
    """Run these rounds, ten minutes apart; return the number of mails after each."""
    sent = []
    for number, findings in enumerate(rounds):
        with time_machine.travel(START + timedelta(minutes=10 * number), tick=False):
            report(findings)
        sent.append(len(mail.outbox))
    return sent


def test_problem_is_mailed_once_with_the_way_out() -> None:
    """Nobody reads a mail that comes every ten minutes."""
    assert go_through([DEAD], [DEAD], [DEAD], [DEAD]) == [0, 1, 1, 1]

    [message] = mail.outbox
    assert message.to == ["ops@acme.example"]
    assert DEAD.text in message.subject
    assert DEAD.advice in message.body


def test_problem_that_one_round_found_is_not_mailed() -> None:
    """During a deployment the workers are missing for a moment."""
    assert go_through([DEAD], [WELL], [DEAD], [WELL]) == [0, 0, 0, 0]
    assert not Notice.objects.exists()


def test_end_of_a_problem_is_mailed_once() -> None:
    """An operator who was woken wants to sleep again."""
    assert go_through([DEAD], [DEAD], [WELL], [WELL], [WELL]) == [0, 1, 1, 2, 2]

    assert f"WELL AGAIN  tokens: {DEAD.text}" in mail.outbox[1].body


def test_problem_that_comes_back_is_mailed_again() -> None:
    """The operator believed that it was solved."""
    rounds = [[DEAD], [DEAD], [WELL], [WELL], [DEAD], [DEAD]]

    assert go_through(*rounds) == [0, 1, 1, 2, 2, 3]


def test_problem_that_is_away_for_one_round_is_the_same() -> None:
    """The token was not checked in a round in which GitHub did not answer."""
    assert go_through([DEAD], [DEAD], [WELL], [DEAD], [DEAD]) == [0, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("the oldest row has waited for 12 min", "the oldest row has waited for 22 min"),
        ("jobs that ended silently: 6, by SIGKILL", "jobs that ended silently: 9, out of memory"),
    ],
)
def test_problem_whose_numbers_change_is_mailed_once(first: str, second: str) -> None:
    """Its duration, for example, grows in each round."""
    rounds = [[Finding("work", text, "Look.")] for text in (first, second, first)]

    assert go_through(*rounds) == [0, 1, 1]


def test_problem_of_another_repository_is_mailed_too() -> None:
    """The digits of a name are not such a number."""
    first, second = (
        Finding("webhooks", f"acme/service-{number}: no webhook", "Add it.") for number in (1, 2)
    )

    assert go_through([first], [first], [first, second], [first, second]) == [0, 1, 1, 2]


def test_two_problems_are_one_mail() -> None:
    """Problems that begin together are read together."""
    other = Finding("redis", "does not answer", "Start it, or correct REDIS_URL.")

    assert go_through([DEAD, other], [DEAD, other]) == [0, 1]
    assert mail.outbox[0].subject == "metrics_sync: 2 new problems"


def test_chat_is_told_in_its_format(settings: Settings) -> None:
    """Slack and many other chats read `text`."""
    with open_chat(200) as (settings.METRICS_SYNC_NOTIFY_WEBHOOK_URL, texts):
        go_through([DEAD], [DEAD], [DEAD])

    [text] = texts
    assert DEAD.text in text
    assert DEAD.advice in text


def test_mail_is_not_repeated_for_a_chat_that_refuses(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The mail arrived, and the log says why the chat refused."""
    with open_chat(500) as (settings.METRICS_SYNC_NOTIFY_WEBHOOK_URL, _):
        assert go_through([DEAD], [DEAD], [DEAD]) == [0, 1, 1]

    assert "was not sent" in caplog.text


def test_report_that_no_way_took_is_sent_by_a_later_round(settings: Settings) -> None:
    """The mail server may be down for the same reason."""
    settings.METRICS_SYNC_NOTIFY_EMAILS = []
    with (
        open_chat(500) as (settings.METRICS_SYNC_NOTIFY_WEBHOOK_URL, _),
        pytest.raises(OSError, match="500"),
    ):
        go_through([DEAD], [DEAD])
    with open_chat(200) as (settings.METRICS_SYNC_NOTIFY_WEBHOOK_URL, texts):
        go_through([DEAD], [DEAD])

    assert len(texts) == 1


def test_nothing_is_examined_without_recipients(settings: Settings) -> None:
    """Doctor sends GitHub a dozen requests for each token."""
    settings.METRICS_SYNC_NOTIFY_EMAILS = []

    assert report_changes() == {"problems": 0, "ended": 0}
