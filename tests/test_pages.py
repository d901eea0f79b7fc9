"""What a person does in a browser: sign in, look, watch merges arrive, and put things right."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer
from redis import Redis

from metrics_sync.models import PullRequest
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from tests.browser import DESKTOP, PATIENCE_MS, find_chromium, open_chromium
from tests.conftest import Workers
from tests.factories import (
    CommitFactory,
    PRCheckRunFactory,
    PRCommentFactory,
    PRReviewFactory,
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

Answer = TypeVar("Answer")

pytestmark = pytest.mark.long(seconds=15)


class Visitor:
    """A person with a browser, which lives in a thread of its own.

    Playwright runs an event loop in its thread, and Django refuses the database there.
    """

    def __init__(self, thread: ThreadPoolExecutor, browser: Browser, root: str) -> None:
        self.thread, self.root = thread, root
        self.hosts: set[str] = set()
        #: Errors of scripts, and what the browser could not load.
        self.errors: list[str] = []
        self.page = thread.submit(self._open, browser).result()

    def _open(self, browser: Browser) -> Page:
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: self.errors.append(f"{page.url}: {error}"))
        page.on("console", self._note_error)
        return page

    def _note_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.location['url']}: {message.text}")

    def do(self, action: Callable[[Page], Answer]) -> Answer:
        return self.thread.submit(action, self.page).result()

    def visit(self, path: str) -> None:
        self.do(lambda page: page.goto(self.root + path))

    def see(self, selector: str, text: str) -> None:
        """Wait for the only element of the selector to hold the text."""
        self.do(
            lambda page: expect(page.locator(selector)).to_contain_text(text, timeout=PATIENCE_MS)
        )

    def press(self, name: str, within: str = "body") -> None:
        self.do(lambda page: page.locator(within).get_by_role("button", name=name).click())

    def sign_in(self, user: User) -> None:
        def fill(page: Page) -> None:
            page.get_by_label("Username").fill(user.get_username())
            page.get_by_label("Password").fill("password")
            page.get_by_role("button", name="Log in").click()

        self.visit("/")
        self.do(fill)


@pytest.fixture(scope="module")
def chromium() -> Iterator[tuple[ThreadPoolExecutor, Browser]]:
    if find_chromium() is None and "CI" not in os.environ:
        pytest.skip("chromium is not installed")
    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        browser = thread.submit(lambda: stack.enter_context(open_chromium())).result()
        yield thread, browser
        thread.submit(stack.close).result()


@pytest.fixture
def stranger(
    chromium: tuple[ThreadPoolExecutor, Browser], live_server: LiveServer, redis: Redis
) -> Iterator[Visitor]:
    """Somebody who has not signed in: no other host is asked, and no script fails."""
    visitor = Visitor(*chromium, live_server.url)
    yield visitor
    visitor.do(lambda page: page.close())
    assert visitor.errors == []
    assert visitor.hosts <= {urlsplit(live_server.url).netloc}


@pytest.fixture
def visitor(stranger: Visitor, admin_user: User) -> Visitor:
    stranger.sign_in(admin_user)
    return stranger


@pytest.fixture
def pull_request(transactional_db: None, redis: Redis) -> PullRequest:
    """A merge of today that failed, with something of each kind in its history."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    repository = TrackedRepositoryFactory(full_name="acme/anvil", **token)
    now = timezone.now()
    row = PullRequestFactory(
        merged=True,
        team=repository.team,
        pr_created_at=now - timedelta(hours=5),
        merged_at=now,
        review_wait_hours="1.00",
        review_rounds=1,
        cycle_time_hours="5.00",
    )
    CommitFactory(pull_request=row, committed_at=now - timedelta(hours=4))
    PRReviewFactory(pull_request=row, submitted_at=now - timedelta(hours=3))
    PRCommentFactory(pull_request=row, created_at=now - timedelta(hours=2))
    PRCheckRunFactory(pull_request=row, completed_at=now - timedelta(hours=1), conclusion="failure")
    PullRequest.objects.update(sync_status="failed", sync_error="files: GitHub answered 502")
    return PullRequest.objects.get()


def page_of(row: PullRequest) -> str:
    return reverse("admin:metrics_sync_pullrequest_change", args=[row.pk])


def test_visitor_watches_a_merge_arrive_and_complete(
    visitor: Visitor, sandbox: SandboxServer, workers: Workers
) -> None:
    """Who waits for a merge must not have to reload the page."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    integration = TrackedRepositoryFactory(full_name="acme/anvil", **token).integration
    recording = sandbox.world.add(make_recording("acme/anvil", 7, merged=False))
    visitor.visit("/")
    visitor.do(lambda page: page.evaluate("window.isTheSamePage = true"))
    visitor.see("#completeness", "No merges in the last 12 weeks")

    sandbox.world.merge("acme/anvil", 7, merged_at=f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}")
    deliver(
        visitor.root + integration.get_webhook_path(),
        event="pull_request",
        payload=build_pull_request_event(recording, "closed"),
        secret=integration.webhook_secret,
    )
    visitor.see("#latest", "queued")
    workers.drain()
    visitor.see("#completeness", "The one merge is complete")

    visitor.see("#latest", "acme/anvil#7")
    assert visitor.do(lambda page: page.evaluate("window.isTheSamePage"))


def test_visitor_fetches_a_failed_pull_request_again(
    pull_request: PullRequest, visitor: Visitor
) -> None:
    """The way from the alarm to its end takes three clicks."""
    visitor.do(lambda page: page.get_by_role("link", name="1 failed").click())
    visitor.do(lambda page: page.get_by_role("link", name=str(pull_request)).click())
    visitor.do(lambda page: page.locator("#header-inner").get_by_text("Fetch again").click())
    visitor.see("#modal-content", "All its data are fetched")
    visitor.press("Fetch again", within="#modal-content")

    visitor.see("#main", "Queued to be fetched again: 1.")
    pull_request.refresh_from_db()
    assert pull_request.sync_status == "queued"


def test_visitor_reconciles_what_failed(pull_request: PullRequest, visitor: Visitor) -> None:
    """What is wrong is put right where it is seen, with one click."""
    visitor.see("#completeness", "files: GitHub answered 502")
    visitor.press("Reconcile 1")

    visitor.see("#main", "Queued to be fetched again: 1.")
    visitor.see("#completeness", "1 being fetched")
    pull_request.refresh_from_db()
    assert pull_request.sync_status == "queued"


def test_page_of_a_pull_request_follows_its_fetch(
    pull_request: PullRequest, visitor: Visitor
) -> None:
    """Who pressed “Fetch again” waits on this page for what comes of it."""
    PullRequest.objects.update(sync_status="queued")
    visitor.visit(page_of(pull_request))
    status = "#pull-request-header [role=status]"
    visitor.see(status, "queued")

    PullRequest.objects.update(sync_status="running")
    visitor.see(status, "running")
    PullRequest.objects.update(sync_status="complete")

    visitor.see(status, "complete")
    is_live = visitor.do(lambda page: page.locator("#pull-request-header[data-live]").count())
    assert not is_live


def test_list_follows_its_rows_and_keeps_what_is_selected(
    pull_request: PullRequest, visitor: Visitor
) -> None:
    """A list that forgets the selection cannot be worked with."""
    PullRequest.objects.update(sync_status="running")
    visitor.visit(reverse("admin:metrics_sync_pullrequest_changelist"))
    visitor.do(lambda page: page.locator(".action-select").check())

    PullRequest.objects.update(sync_status="complete")

    visitor.see(f"#status-{pull_request.pk}", "complete")
    assert visitor.do(lambda page: page.locator(".action-select").is_checked())
    visitor.do(lambda page: page.locator("#live-list:not([data-live])").wait_for(state="attached"))
    assert visitor.do(lambda page: page.locator("#main").count()) == 1


def test_hidden_page_asks_for_nothing_until_it_is_seen_again(
    pull_request: PullRequest, visitor: Visitor
) -> None:
    """A tab that was forgotten must not be a burden for days."""

    def look(page: Page, *, hidden: bool) -> None:
        page.evaluate(
            """hidden => {
                Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
                document.dispatchEvent(new Event('visibilitychange'));
            }""",
            hidden,
        )

    def count_requests_while_hidden(page: Page) -> int:
        # From here on time passes only when it is told to.
        page.clock.pause_at(timezone.now() + timedelta(hours=1))
        look(page, hidden=True)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        # Long enough for two of them.
        page.clock.run_for(7_000)
        page.evaluate("1")
        count = len(asked)
        with page.expect_request("**/dashboard/live/**"):
            look(page, hidden=False)
        return count

    visitor.do(lambda page: page.clock.install())
    visitor.visit("/")
    visitor.see("#completeness", "needs attention")

    assert visitor.do(count_requests_while_hidden) == 0


def test_charts_are_drawn_and_have_tables(pull_request: PullRequest, visitor: Visitor) -> None:
    """A picture that does not come up, or that nobody can read aloud, says nothing."""
    count = "canvases => canvases.map(canvas => Chart.getChart(canvas)?.data.labels.length)"
    visitor.do(lambda page: page.locator("canvas").nth(4).wait_for(state="attached"))
    drawn = visitor.do(lambda page: page.locator("canvas").evaluate_all(count))
    visitor.do(lambda page: page.get_by_text("As a table").first.press("Enter"))

    assert drawn == [12, 12, 12, 12, 7]
    visitor.see("#trends details[open]", "60.0 min")


#: The colours of the words of the first chart and of the page.
READ_INK = """() => {
    const chart = Chart.getChart(document.querySelector('canvas.chart'));
    return [chart?.options.scales.x.ticks.color, getComputedStyle(document.body).color];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_of_charts_have_the_colour_of_the_page(visitor: Visitor, scheme: str) -> None:
    """One grey for both backgrounds is too dark for one of them."""
    visitor.see("#completeness", "No merges")
    visitor.do(lambda page: page.emulate_media(color_scheme=scheme))
    visitor.visit("/admin/")

    visitor.do(lambda page: page.wait_for_function(f"() => new Set(({READ_INK})()).size === 1"))


def test_dates_replace_the_weeks_that_were_chosen(
    pull_request: PullRequest, visitor: Visitor
) -> None:
    """Of two periods in one form nobody knows which is meant."""
    weeks = "document.querySelector('.selection select[name=weeks]').value"
    visitor.do(lambda page: page.get_by_label("From", exact=True).fill("2026-01-05"))
    visitor.do(lambda page: page.get_by_label("To", exact=True).fill("2026-02-01"))
    chosen = visitor.do(lambda page: page.evaluate(weeks))
    visitor.press("Show")

    visitor.see("#completeness", "No merges from 2026-01-05 to 2026-02-01")
    visitor.see("#trends", "compared with 2025-12-08 to 2026-01-04")
    visitor.do(lambda page: page.get_by_label("Period").select_option("4"))
    emptied = visitor.do(lambda page: page.get_by_label("From", exact=True).input_value())
    assert (chosen, emptied) == ("", "")


def test_selection_is_kept_in_the_address(pull_request: PullRequest, visitor: Visitor) -> None:
    """What one found is sent to the others as a link."""
    visitor.do(lambda page: page.get_by_label("Repository", exact=True).select_option("acme/anvil"))
    visitor.do(lambda page: page.get_by_label("Period").select_option("4"))
    visitor.press("Show")
    visitor.see("#completeness", "needs attention")

    address = visitor.do(lambda page: page.url)
    assert address.endswith("?team=&repository=acme%2Fanvil&weeks=4&from=&to=&bots=&by=&sort=")


def test_empty_dashboard_says_what_to_do(visitor: Visitor) -> None:
    """It is what every new installation shows first."""
    visitor.see("#content", "manage.py connect OWNER/NAME")


def test_user_cannot_open_the_pages_of_another_team(
    pull_request: PullRequest, stranger: Visitor
) -> None:
    """A link that was passed on shows nothing to whom it is not for."""
    user = UserFactory()
    user.set_password("password")
    user.save()
    TeamFactory(members=[user])
    stranger.sign_in(user)

    stranger.visit(page_of(pull_request))

    text = stranger.do(lambda page: page.locator("body").inner_text())
    assert "Perhaps it was deleted" in text
    assert pull_request.title not in text
    assert pull_request.github_repo not in text


def test_who_has_no_scripts_can_sign_in(
    chromium: tuple[ThreadPoolExecutor, Browser], live_server: LiveServer, db: None
) -> None:
    """The theme hides its pages until scripts have run: there was nothing to see."""
    thread, browser = chromium

    def is_form_seen() -> bool:
        with browser.new_context(java_script_enabled=False) as context:
            page = context.new_page()
            page.goto(f"{live_server.url}/admin/login/")
            return page.get_by_label("Username").is_visible()

    assert thread.submit(is_form_seen).result()


def test_keyboard_skips_the_navigation(visitor: Visitor) -> None:
    """Who has no mouse would press Tab twenty times on each page."""

    def skip(page: Page) -> str:
        page.goto(visitor.root + "/admin/")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        return str(page.evaluate("document.activeElement.id"))

    visitor.do(lambda page: page.wait_for_url("**/admin/"))
    assert visitor.do(skip) == "main"
