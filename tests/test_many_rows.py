"""What a team lead does with 50,000 pull requests: by keyboard, at a desk and on a phone."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from metrics_sync.models import Team
from tests.browser import PHONE

pytestmark = [pytest.mark.long(seconds=6), pytest.mark.django_db]

LIST = "/admin/metrics_sync/pullrequest/"
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": PHONE}


@pytest.fixture
def phone(page: Page) -> Page:
    """A page as wide as a phone."""
    page.set_viewport_size(PHONE)
    return page


def follow(page: Page, link: Locator) -> None:
    """Press Enter on a link, and wait for the page behind it."""
    with page.expect_navigation():
        link.press("Enter")


def count_listed(page: Page) -> int:
    """Return how many rows the list says it has."""
    told = page.get_by_text(re.compile(r"^[\s-]*\d+\s+pull requests?\s*$")).inner_text()
    return int(re.sub(r"\D", "", told))


def read_chips(page: Page) -> list[str]:
    chips = page.get_by_label("Filters in force").locator(".chip")
    return [text[:-1].strip() for text in chips.all_inner_texts()]


@pytest.mark.parametrize(
    ("by", "size"),
    [("team", "desk"), ("repository", "phone")],
)
def test_row_of_the_comparison_leads_to_its_pull_requests_and_back(
    page: Page, by: str, size: str
) -> None:
    """Who sees a slow team asks which pull requests it was slow with, and then goes on."""
    page.set_viewport_size(SIZES[size])
    page.goto("/admin/?weeks=4")
    follow(page, page.get_by_role("link", name=f"by {by}", exact=True))
    row = page.locator("#compare tbody tr").first
    name, merged = row.locator("td").first.inner_text(), row.locator("td").nth(1)

    count = int(merged.get_by_role("link").inner_text())
    follow(page, merged.get_by_role("link"))

    assert count_listed(page) == count
    assert any(name in chip for chip in read_chips(page))
    follow(page, page.get_by_role("link", name="Dashboard").filter(has_text="←"))
    expect(page.locator("#compare [aria-current]")).to_have_text(f"by {by}")
    expect(page.get_by_label("Period")).to_have_value("4")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("#4321", r"#4321$"),
        ("FARM-7777-", r"^farm/service-\d\d#\d+$"),
        ("https://github.com/farm/service-01/pull/12", r"^farm/service-01#12$"),
    ],
)
def test_search_finds_number_branch_and_address(page: Page, words: str, found: str) -> None:
    """One has the number or the address of what one looks for, and seldom its title."""
    page.goto(LIST)
    page.locator("html:not([x-cloak])").wait_for(state="attached")
    page.keyboard.press("/")
    expect(page.locator("#searchbar")).to_be_focused()

    with page.expect_navigation():
        page.keyboard.type(words)
        page.keyboard.press("Enter")

    names = [
        text.split("\n")[0] for text in page.locator("#result_list tbody th a").all_inner_texts()
    ]
    assert names
    assert [name for name in names if not re.search(found, name)] == []
    assert count_listed(page) == len(names)


def test_chips_take_filters_away_one_by_one(page: Page) -> None:
    """Each filter in force has a name, and a key that ends it."""
    page.goto(f"{LIST}?state__exact=merged&team__id__exact={find_team('farm-1')}&author=ada-1")
    counts, chips = [count_listed(page)], [read_chips(page)]

    while chips[-1]:
        follow(page, page.get_by_label("Filters in force").locator(".chip").last)
        counts.append(count_listed(page))
        chips.append(read_chips(page))

    assert chips[0] == ["team: Team 1", "state: Merged", "author: ada-1"]
    assert [len(names) for names in chips] == [3, 2, 1, 0]
    assert counts == sorted(set(counts))
    assert counts[-1] == 50_000


def find_team(slug: str) -> int:
    return int(Team.objects.get(slug=slug).pk)


def test_filters_open_and_close_by_keyboard(phone: Page) -> None:
    """The theme's own filters open for a pointer alone."""
    phone.goto(LIST)
    filters = phone.get_by_role("button", name="Filters")
    filters.press("Enter")
    phone.wait_for_function("() => document.activeElement.closest('#changelist-filter')")

    phone.keyboard.press("Escape")

    expect(phone.locator("#changelist-filter")).to_be_hidden()
    expect(filters).to_be_focused()


def test_menu_of_a_phone_opens_by_keyboard(phone: Page) -> None:
    """All other pages are behind it."""
    phone.goto("/reviewers/")
    entry = phone.locator("#nav-sidebar").get_by_role("link", name="Pull requests")
    expect(entry).not_to_be_in_viewport()

    phone.get_by_role("button", name="Navigation").and_(phone.locator(":visible")).press(" ")

    expect(entry).to_be_in_viewport()
