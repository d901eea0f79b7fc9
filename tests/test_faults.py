"""The error pages: each says what to do next."""

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from project.faults import show_fault
from tests.factories import UserFactory


def test_address_of_nothing_leads_on(client: Client, db: None) -> None:
    """A mistyped address once showed two words without a link."""
    answer = client.get("/nothing/here/")

    assert answer.status_code == 404
    assert "Page not found" in answer.content.decode()
    assert 'href="/"' in answer.content.decode()


def test_page_that_an_account_may_not_see_says_who_can_help(client: Client, db: None) -> None:
    """Users who are not superusers once got an empty page for the queues."""
    client.force_login(UserFactory())

    answer = client.get("/django-rq/")

    assert answer.status_code == 403
    assert "Ask an administrator" in answer.content.decode()


def test_fault_is_shown_without_the_database(rf: RequestFactory) -> None:
    """The database may have failed."""
    try:
        int("secret")
    except ValueError:
        answer = show_fault(rf.get("/"))

    assert answer.status_code == 500
    assert "Try again in a minute" in answer.content.decode()
    assert "secret" not in answer.content.decode()


@pytest.mark.parametrize(
    ("is_staff", "password", "text"),
    [
        pytest.param(True, "wrong", "The username or the password is wrong", id="wrong password"),
        pytest.param(False, "right", "This account has no access", id="not staff"),
    ],
)
def test_sign_in_says_what_is_wrong(
    client: Client, db: None, is_staff: bool, password: str, text: str
) -> None:
    """A user without access was once asked for the password again and again."""
    User.objects.create_user("mona", password="right", is_staff=is_staff)

    answer = client.post("/admin/login/", {"username": "mona", "password": password})

    assert text in answer.content.decode()
