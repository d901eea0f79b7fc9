"""What a person does in a browser: sign in, look, and fetch a pull request again."""

import shutil
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer
from redis import Redis
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import visibility_of_element_located
from selenium.webdriver.support.wait import WebDriverWait

from metrics_sync.models import PullRequest
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

PATIENCE_SECONDS = 20
FLAGS = [
    "--headless=new",
    "--window-size=1400,900",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    service = webdriver.ChromeService(driver)
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


class Visitor:
    """A person with a browser."""

    def __init__(self, browser: webdriver.Chrome, root: str) -> None:
        self.browser, self.root = browser, root

    def see(self, text: str) -> WebElement:
        """Wait for a text to be on the page."""
        where = (By.XPATH, f"//*[text()[contains(., '{text}')]]")
        wait = WebDriverWait(self.browser, PATIENCE_SECONDS)
        return wait.until(visibility_of_element_located(where), f"waited in vain for {text!r}")

    def sign_in(self, user: User) -> None:
        self.browser.get(self.root)
        self.browser.find_element(By.NAME, "username").send_keys(user.username)
        self.browser.find_element(By.NAME, "password").send_keys("password")
        self.browser.find_element(By.CSS_SELECTOR, "form [type=submit]").click()


@pytest.fixture
def visitor(
    chromium: webdriver.Chrome, live_server: LiveServer, admin_user: User
) -> Iterator[Visitor]:
    visitor = Visitor(chromium, live_server.url)
    visitor.sign_in(admin_user)
    yield visitor
    chromium.delete_all_cookies()


@pytest.fixture
def pull_request(transactional_db: None, redis: Redis) -> PullRequest:
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    PullRequestFactory(merged=True, team=repository.team, merged_at=timezone.now())
    PullRequest.objects.update(sync_status="failed")
    return PullRequest.objects.get()


def test_visitor_fetches_a_failed_pull_request_again(
    pull_request: PullRequest, visitor: Visitor
) -> None:
    """The way from the alarm to its end takes three clicks."""
    visitor.see("1 failed").click()
    visitor.see(str(pull_request)).click()
    visitor.see("Fetch again").click()
    visitor.see("Everything of this pull request")
    visitor.browser.find_element(By.CSS_SELECTOR, "#modal-content [type=submit]").click()

    visitor.see("Queued to be fetched again: 1.")
    pull_request.refresh_from_db()
    assert pull_request.sync_status == "queued"


def test_summary_fits_a_phone(pull_request: PullRequest, visitor: Visitor) -> None:
    """A page that scrolls sideways hides its numbers."""
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    visitor.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    visitor.browser.refresh()
    visitor.see("Merged in the last 30 days")

    width = visitor.browser.execute_script("return document.documentElement.scrollWidth")
    visitor.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 390
