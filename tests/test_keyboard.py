"""A team lead without a mouse: seven pages, walked through with Tab, Shift+Tab and Enter alone."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import BrowserContext, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from metrics_sync.models import PullRequest
from tests.browser import PHONE, watch

pytestmark = [pytest.mark.long(seconds=15), pytest.mark.django_db]

SIZES = {"light": {"width": 1280, "height": 900}, "dark": PHONE}
PAGES = {
    "sign in": "admin:login",
    "dashboard": "admin:index",
    "list": "admin:metrics_sync_pullrequest_changelist",
    "pull request": "admin:metrics_sync_pullrequest_change",
    "waiting": "metrics_sync:waiting",
    "reviewers": "metrics_sync:reviewers",
    "tracked repositories": "admin:metrics_sync_trackedrepository_changelist",
}
#: A date has a stop for each of its parts, and one for its calendar.
MOST_STOPS_IN_ONE = 4
MOST_STOPS = 1000
PASSWORD = "correct horse"

#: Notes what has the focus; returns what is wrong with how it is shown, how often it has had the
#: focus in a row, and whether the focus has left the page. An outline has to have three times the
#: contrast: https://www.w3.org/TR/WCAG22/#non-text-contrast
LOOK = """() => {
    const one = document.activeElement;
    if (!one || one === document.body) return { hasLeft: true };
    window.walked ??= [];
    const hasLeft = window.walked.length > 1 && window.walked[0] === one;
    const previous = window.walked.at(-1);
    window.stops = previous === one ? window.stops + 1 : 1;
    window.walked.push(one);
    const brush = (window.brush ??= Object.assign(document.createElement('canvas'),
        { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true }));
    const read = colour => {
        brush.clearRect(0, 0, 1, 1);
        brush.fillStyle = colour;
        brush.fillRect(0, 0, 1, 1);
        return [...brush.getImageData(0, 0, 1, 1).data];
    };
    const measure = ([...channels]) => channels.slice(0, 3).map(channel => channel / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    let behind = one.parentElement;
    while (behind && read(getComputedStyle(behind).backgroundColor)[3] < 255) {
        behind = behind.parentElement;
    }
    const ground = behind ? read(getComputedStyle(behind).backgroundColor) : [255, 255, 255];
    const style = getComputedStyle(one);
    const light = [measure(read(style.outlineColor)), measure(ground)].sort((a, b) => b - a);
    const box = one.getBoundingClientRect();
    const middle = [
        Math.min(Math.max(box.left + box.width / 2, 1), innerWidth - 1),
        Math.min(Math.max(box.top + box.height / 2, 1), innerHeight - 1),
    ];
    const top = document.elementFromPoint(...middle);
    const isOutside = box.bottom <= 0 || box.top >= innerHeight || box.right <= 0
        || box.left >= innerWidth;
    const faults = Object.entries({
        'no outline': style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2,
        'an outline like the background': (light[0] + 0.05) / (light[1] + 0.05) < 3,
        'no size': box.width < 2 || box.height < 2,
        'out of sight': isOutside,
        'covered': !isOutside && box.height < innerHeight
            && !(one.contains(top) || top?.contains(one)),
        'an order of its own': one.tabIndex > 0,
    }).filter(([, isSo]) => isSo).map(([fault]) => fault);
    return {
        hasLeft, stops: window.stops,
        faults: faults.map(fault => `${fault}: ${one.outerHTML.slice(0, 160)}`),
    };
}"""
#: What a click does something to and what has not had the focus, nor anything in or around it.
FIND_MISSED = """() => {
    const walked = new Set(window.walked);
    const clickable = 'a[href], button, input:not([type=hidden]), select, summary, textarea,'
        + ' [x-on\\\\:click], [role=button], [onclick]';
    const isReached = one => walked.has(one) || [...walked].some(
        other => other.contains(one) || one.contains(other));
    return [...document.querySelectorAll(clickable)].filter(one =>
        !one.disabled && one.getBoundingClientRect().width > 0
        && one.checkVisibility({ visibilityProperty: true, opacityProperty: true })
        && !isReached(one)).map(one => one.outerHTML.slice(0, 160));
}"""


@pytest.fixture
def stranger(site: BrowserContext, farm: LiveServer, errors: list[str]) -> Iterator[Page]:
    """A page of somebody who has not signed in."""
    assert site.browser is not None
    page = site.browser.new_page(base_url=farm.url)
    watch(page, farm.url, errors)
    yield page
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def lead_without_mouse(site: BrowserContext) -> Iterator[User]:
    """A superuser with a password."""
    user = User.objects.create_superuser("keyboard", password=PASSWORD)
    yield user
    user.delete()


def find_address(name: str) -> str:
    if name != "pull request":
        return reverse(PAGES[name])
    row = PullRequest.objects.get(title="Move all services to the new build")
    return reverse(PAGES[name], args=[row.pk])


def walk(page: Page) -> list[str]:
    """Press Tab until the focus leaves the page; return what was wrong on the way."""
    faults: list[str] = []
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        look: dict[str, Any] = page.evaluate(LOOK)
        if look["hasLeft"]:
            return faults
        if look["stops"] > MOST_STOPS_IN_ONE:
            return [*faults, f"the focus is caught: {look}"]
        faults += look["faults"]
    return [*faults, "the focus never leaves the page"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_keyboard_reaches_all_and_is_seen(
    page: Page, stranger: Page, name: str, scheme: Any
) -> None:
    """Who cannot point must get everywhere, and see where that is."""
    page = stranger if name == "sign in" else page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(SIZES[scheme])
    page.goto(find_address(name))
    page.locator(f"html{'.dark' if scheme == 'dark' else ''}:not([x-cloak])").wait_for()

    faults = walk(page)

    assert "\n".join([*faults, *(f"missed: {one}" for one in page.evaluate(FIND_MISSED))]) == ""


def reach(page: Page, name: str, *, key: str = "Tab") -> Locator:
    """Press a key until a link of this name has the focus."""
    focused = page.locator("a:focus")
    for _ in range(MOST_STOPS):
        page.keyboard.press(key)
        if focused.count() and name in focused.inner_text():
            return focused
    raise AssertionError(f"{key} leads to no link “{name}” on {page.url}")


def test_pages_are_walked_with_three_keys(stranger: Page, lead_without_mouse: User) -> None:
    """From signing in to the tracked repositories and back, past the navigation where one likes."""
    page, press = stranger, stranger.keyboard.press
    page.set_viewport_size(SIZES["light"])
    page.goto("/admin/")
    for text in (lead_without_mouse.username, PASSWORD):
        press("Tab")
        page.keyboard.type(text)
    with page.expect_navigation(url="**/admin/"):
        press("Enter")

    press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    expect(page.locator(":focus")).to_be_in_viewport()
    press("Enter")
    press("Tab")
    expect(page.locator("#main :focus")).to_be_in_viewport()
    for name, address in (
        ("Pull requests", "**/pullrequest/"),
        ("farm/service-", "**/pullrequest/*/change/"),
        ("Waiting now", "**/waiting/"),
        ("Reviewers", "**/reviewers/"),
        ("Tracked repositories", "**/trackedrepository/"),
    ):
        reach(page, name)
        with page.expect_navigation(url=address):
            press("Enter")
    reach(page, "farm/service-")
    reach(page, "Reviewers", key="Shift+Tab")
    with page.expect_navigation(url="**/reviewers/"):
        press("Enter")
