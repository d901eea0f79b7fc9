"""The policy that browsers get: no page breaks it, and it allows no more than needed."""

import shutil
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import ConsoleMessage, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from metrics_sync.work.queueing import MERGES, enqueue_fetch
from tests.factories import FetchRunFactory, PullRequestFactory, TrackedRepositoryFactory

PASSWORD = "password"


@pytest.fixture
def addresses(transactional_db: None, redis: Redis) -> list[str]:
    """One page of each kind, with rows on it."""
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    row = PullRequestFactory(merged=True, team=repository.team)
    run = FetchRunFactory(pull_request=row)
    row.refresh_from_db()
    assert enqueue_fetch(row, queue_name=MERGES)
    row.refresh_from_db()
    lists = ["pullrequest", "fetchrun", "webhookdelivery", "trackedrepository", "githubintegration"]
    return [
        "/",
        "/admin/password_change/",
        "/api/v1/docs",
        *(reverse(f"admin:metrics_sync_{name}_changelist") for name in lists),
        reverse("admin:metrics_sync_pullrequest_change", args=[row.pk]),
        reverse("admin:metrics_sync_fetchrun_change", args=[run.pk]),
        reverse("admin:metrics_sync_team_add"),
        "/django-rq/",
        "/django-rq/queues/0/",
        "/django-rq/queues/0/failed/",
        f"/django-rq/queues/0/{row.sync_job_id}/",
        "/django-rq/workers/0/",
    ]


@pytest.fixture
def administrator(addresses: list[str], admin_user: User) -> User:
    return admin_user


def open_pages(page: Page, root: str, user: str, addresses: list[str]) -> Iterator[str]:
    """Yield each breach of the policy that the browser reports."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            complaints.append(f"{page.url}: {message.text}")

    page.on("console", note)
    page.goto(f"{root}/admin/login/")
    page.fill("[name=username]", user)
    page.fill("[name=password]", PASSWORD)
    page.click("form [type=submit]")
    for address in addresses:
        answer = page.goto(f"{root}{address}", wait_until="networkidle")
        assert answer is not None
        assert answer.status == 200, address
    yield from complaints


@pytest.mark.long(seconds=14)
@pytest.mark.django_db(transaction=True)
def test_no_page_breaks_the_policy(
    live_server: LiveServer, addresses: list[str], administrator: User
) -> None:
    """A button that the browser blocks looks broken."""
    binary, user = shutil.which("chromium"), administrator.get_username()
    if binary is None:
        pytest.skip("chromium is not installed")

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        with playwright.chromium.launch(executable_path=binary, args=options) as browser:
            complaints = list(open_pages(browser.new_page(), live_server.url, user, addresses))

    assert complaints == []


def read_policy(answer_headers: dict[str, str]) -> dict[str, set[str]]:
    parts = answer_headers["Content-Security-Policy"].split("; ")
    return {name: set(values) for name, *values in map(str.split, parts)}


@pytest.mark.django_db
def test_pages_take_nothing_from_other_hosts(admin_client: Client, redis: Redis) -> None:
    """A foreign script could read every pull request."""
    answer = admin_client.get("/admin/")

    own = {"'self'", "'unsafe-eval'", "'unsafe-inline'", "'none'", "data:"}
    policy = read_policy(dict(answer.headers))
    assert set().union(*policy.values()) <= own
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == {"'none'"}


@pytest.mark.django_db
def test_scripts_inside_pages_run_on_the_queues_pages_only(
    admin_client: Client, redis: Redis
) -> None:
    """A script inside a title must not run."""
    of_admin, of_queues = (
        read_policy(dict(admin_client.get(path).headers)) for path in ("/admin/", "/django-rq/")
    )

    assert of_admin["script-src"] == {"'self'", "'unsafe-eval'"}
    assert of_queues["script-src"] == {"'self'", "'unsafe-eval'", "'unsafe-inline'"}


@pytest.mark.django_db
def test_every_answer_has_the_security_headers(client: Client) -> None:
    """Browsers guess types, and tell other sites where a visitor comes from."""
    headers = client.get("/admin/login/", secure=True).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Strict-Transport-Security"] == "max-age=2592000"


@pytest.mark.django_db
def test_session_stays_with_browser_and_tls(client: Client, admin_user: User) -> None:
    """A stolen session has all rights of its user."""
    credentials = {"username": admin_user.get_username(), "password": PASSWORD}
    client.post("/admin/login/", credentials, secure=True)

    cookie = client.cookies["sessionid"]
    assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "Lax")
