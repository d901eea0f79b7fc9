"""What a team lead does with 50,000 pull requests: by keyboard, at a desk and on a phone."""

import csv
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from io import StringIO
from typing import TypeVar

import pytest
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Locator, Page, expect

from metrics_sync.dashboard import IN_TROUBLE
from metrics_sync.models import PullRequest, Team, TeamGoal, TrackedRepository
from tests.browser import PHONE
from tests.factories import PullRequestFactory

Written = TypeVar("Written")

pytestmark = [pytest.mark.long(seconds=6), pytest.mark.django_db]

LIST = "/admin/metrics_sync/pullrequest/"
REPOSITORIES = "/admin/metrics_sync/trackedrepository/"
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": PHONE}


@pytest.fixture
def phone(page: Page) -> Page:
    """A page as wide as a phone."""
    page.set_viewport_size(PHONE)
    return page


@pytest.fixture
def large(farm: object) -> str:
    """The address of the page of a pull request with 3,000 files and 1,000 comments."""
    row = PullRequest.objects.get(title="Move all services to the new build")
    return reverse("admin:metrics_sync_pullrequest_change", args=[row.pk])


def commit(write: Callable[[], Written]) -> Written:
    """Write where the server sees it: the connection of the test is in a transaction."""

    def run() -> Written:
        try:
            return write()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def follow(page: Page, link: Locator) -> None:
    """Press Enter on a link, and wait for the page behind it."""
    with page.expect_navigation():
        link.press("Enter")


def count_listed(page: Page) -> int:
    """Return how many rows the list says it has."""
    told = page.get_by_text(re.compile(r"^[\s-]*\d+\s+pull requests?\s*$")).inner_text()
    return int(re.sub(r"\D", "", told))


def read_column(page: Page, name: str) -> list[str]:
    """Return the texts of a column of the list."""
    return page.locator(f"#result_list [data-label='{name}']").all_inner_texts()


def read_chips(page: Page) -> list[str]:
    chips = page.get_by_label("Filters in force").locator(".chip")
    return [text[:-1].strip() for text in chips.all_inner_texts()]


@pytest.mark.parametrize(
    ("by", "size"),
    [("team", "desk"), ("repository", "phone"), ("author", "desk"), ("reviewer", "phone")],
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
    ("title", "aspect", "column"),
    [("Repository", "name", 0), ("Merged", "count", 1), ("Without review", "share", 6)],
)
def test_comparison_is_sorted_by_keyboard(page: Page, title: str, aspect: str, column: int) -> None:
    """Of 40 repositories one looks for the first and the last."""
    page.goto("/admin/?by=repository&sort=-cycle_time_hours.median")
    sort = page.get_by_role("link", name=f"{title}: sort by {aspect}")

    def read() -> list[float | str]:
        cells = page.locator(f"#compare tbody td:nth-child({column + 1})").all_inner_texts()
        firsts = [cell.split()[0] for cell in cells]
        return [first if aspect == "name" else float(first) for first in firsts]

    follow(page, sort)
    first = read()
    way = page.locator("#compare th[aria-sort$=ending]").get_attribute("aria-sort")
    follow(page, sort)
    second = read()

    assert way == ("ascending" if aspect == "name" else "descending")
    assert len(first) == len(second) == 10
    assert first == sorted(first, reverse=way == "descending") != second
    assert second == sorted(second, reverse=way == "ascending")


#: The main tables of a page that are wider than their boxes.
FIND_WIDE = """() => [...document.querySelectorAll('.table-box')]
    .filter(box => !box.closest('details') && box.scrollWidth > box.clientWidth)
    .map(box => `${box.ariaLabel}: ${box.scrollWidth} of ${box.clientWidth}`)"""


@pytest.mark.parametrize(
    "address",
    ["/admin/?by=author", "/admin/?by=reviewer", f"{LIST}?state__exact=merged", "/waiting/",
     "/reviewers/"],
)  # fmt: skip
def test_desk_needs_no_sideways_scrolling(page: Page, address: str) -> None:
    """What lies to the right of the box is overlooked."""
    page.set_viewport_size(SIZES["desk"])
    page.goto(address)
    page.locator("html:not([x-cloak]) [role=main]").wait_for()

    assert page.evaluate(FIND_WIDE) == []


@pytest.mark.parametrize("column", ["Comments", "Author"])
def test_list_is_sorted_by_keyboard(page: Page, column: str) -> None:
    """The largest of 50,000 is found in one step."""
    page.goto(f"{LIST}?known=review_wait_hours")
    link = page.get_by_role("link", name=column, exact=True)
    header = page.locator("#result_list th", has=link)

    def sort() -> tuple[str | None, list[str | int]]:
        follow(page, header.locator(link))
        cells = read_column(page, column)
        way = header.get_attribute("aria-sort")
        return way, [int(cell) if cell.isdecimal() else cell for cell in cells]

    found = dict([sort(), sort()])

    assert found["ascending"] == sorted(found["ascending"]) != found["descending"]
    assert found["descending"] == sorted(found["descending"], reverse=True)


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


#: Where on the page an item of a chart is.
FIND_ITEM = """(canvas, place) => {
    const item = Chart.getChart(canvas).getDatasetMeta(0).data.at(place);
    canvas.scrollIntoView({ block: 'center' });
    const { x, y } = canvas.getBoundingClientRect();
    return [x + item.x, y + item.y + 2];
}"""


@pytest.mark.parametrize(
    ("chart", "place"),
    [
        pytest.param("#trends [data-chart]", 3, id="point"),
        pytest.param("[data-chart]:has-text('Time to complete')", 1, id="bar"),
    ],
)
def test_click_in_a_chart_leads_where_its_table_leads(page: Page, chart: str, place: int) -> None:
    """Who sees a peak asks which pull requests it is of; with or without a pointer."""
    page.goto("/admin/?team=farm-1")
    box = page.locator(chart).first
    box.get_by_text("As a table").press("Enter")
    link = box.locator(f"[data-point='{place}']")
    count = int(link.inner_text())
    x, y = box.locator("canvas").evaluate(FIND_ITEM, place)
    with page.expect_navigation():
        page.mouse.click(x, y)
    clicked, listed = page.url, count_listed(page)
    page.go_back()
    box.get_by_text("As a table").press("Enter")

    follow(page, link)

    assert (page.url, count_listed(page)) == (clicked, count) == (clicked, listed)


def read_moments(box: Locator) -> list[str]:
    return box.locator("time").evaluate_all("all => all.map(time => time.dateTime)")


def test_waiting_shows_the_longest_waits_of_a_team(phone: Page) -> None:
    """Whom one should remind first must stand at the top, and lead to what they wait for."""
    phone.goto("/waiting/")
    phone.get_by_label("Team").focus()
    # All teams, Team 1, Team 10, Team 2.
    for _ in range(3):
        phone.keyboard.press("ArrowDown")
    follow(phone, phone.get_by_role("button", name="Show", exact=True))
    table = phone.get_by_role("region", name="Wait for a review").locator("tbody")

    since = read_moments(table.locator("[data-label=Since]"))
    assert since
    assert since == sorted(since)
    assert set(table.locator("[data-label=Team]").all_inner_texts()) == {"Team 2"}
    link = table.get_by_role("link").first
    name = link.inner_text()
    follow(phone, link)
    expect(phone.get_by_role("link", name=f"{name} at GitHub")).to_be_visible()


def test_reviewer_leads_to_what_they_reviewed(page: Page) -> None:
    """A number of somebody is believed when one can look at what it counts."""
    page.goto("/reviewers/?team=farm-2&weeks=4")
    row = page.get_by_role("region", name="Reviewers").locator("tbody tr").first
    login = row.locator("[data-label=Reviewer]").inner_text()
    link = row.locator("[data-label='Pull requests']").get_by_role("link")
    count = int(link.inner_text())

    follow(page, link)

    assert count_listed(page) == count
    assert any(login in chip for chip in read_chips(page))


def test_days_are_chosen_by_keyboard(phone: Page) -> None:
    """A quarter or a sprint is seldom the last weeks, and always has one before it."""
    last = timezone.now().date() - timedelta(weeks=8)
    first = last - timedelta(days=27)
    before = f"{first - timedelta(days=28)} to {first - timedelta(days=1)}"
    phone.goto("/admin/")
    for label, day in (("From", first), ("To", last)):
        phone.get_by_label(label, exact=True).focus()
        phone.keyboard.type(f"{day:%m%d%Y}")
    with phone.expect_navigation():
        phone.keyboard.press("Enter")

    expect(phone.locator("#trends")).to_contain_text(f"Merges from {first} to {last}")
    expect(phone.locator("#trends")).to_contain_text(f"compared with {before}")
    follow(phone, phone.locator("#trends .grid a").first)
    assert f"merged since {first}" in read_chips(phone)


def test_trend_is_added_with_its_definition_and_taken_away(page: Page) -> None:
    """What one does not always look at costs no room, and is one key away."""
    page.goto("/admin/?team=farm-1")
    chart = page.locator("[data-chart]", has=page.get_by_role("heading", name="Coding time"))

    follow(page, page.locator("#trends").get_by_role("link", name="Coding time"))
    expect(chart.locator(".definition")).to_have_text("Time from the first commit to the opening.")
    chart.get_by_text("As a table").press("Enter")
    expect(chart.get_by_role("row")).to_have_count(13)
    follow(page, page.get_by_role("link", name="Hide Coding time"))

    expect(chart).to_have_count(0)


def test_goal_of_a_team_is_drawn_and_judged(page: Page) -> None:
    """A goal that nobody sees beside the numbers is none."""
    team = Team.objects.get(slug="farm-5")
    commit(lambda: TeamGoal.objects.get_or_create(team=team, metric="cycle_time_hours", value=30))
    page.goto("/admin/?team=farm-5")
    chart = page.locator("[data-chart]", has=page.get_by_role("heading", name="Cycle time"))
    chart.get_by_text("As a table").press("Enter")

    expect(chart).to_contain_text("Goal: at most")
    drawn = chart.locator("canvas").evaluate(
        "canvas => Chart.getChart(canvas).data.datasets.map(one => [one.label, one.data.at(-1)])"
    )
    assert ["goal", 30] in drawn
    rows = [cells.split("\t") for cells in chart.locator("tbody tr").all_inner_texts()]
    assert {row[-1] for row in rows} <= {"met", "missed"}


def download(page: Page, link: Locator) -> list[dict[str, str]]:
    with page.expect_download() as started:
        link.press("Enter")
    return list(csv.DictReader(StringIO(started.value.path().read_text())))


def test_list_and_its_file_say_the_same(page: Page) -> None:
    """Who goes on in a spreadsheet must find there what was on the page."""
    page.goto(f"{LIST}?author=ada-1&state__exact=merged&q=invoice&o=-10")
    comments = read_column(page, "Comments")

    rows = download(page, page.get_by_role("link", name="As CSV"))

    assert len(rows) == count_listed(page) > 50
    assert [row["total_comments"] for row in rows[:50]] == comments
    assert {row["author_login"] for row in rows} == {"ada-1"}


def test_comparison_and_its_file_say_the_same(page: Page) -> None:
    """The page has ten rows at once, the file all of them."""
    page.goto("/admin/?by=repository&sort=-merged&weeks=4")
    shown = page.locator("#compare tbody td:nth-child(2) a").all_inner_texts()

    rows = download(page, page.locator("#compare").get_by_role("link", name="As CSV"))

    assert len(rows) == 40
    assert [row["merged"] for row in rows[:10]] == shown


def test_times_are_relative_and_exact_where_the_reader_is(phone: Page) -> None:
    """Nobody reckons in UTC; the exact time is there for keyboard and pointer."""
    phone.goto(f"{LIST}?state__exact=merged")
    times = phone.locator("#result_list [data-label='Merged at'] time")
    texts, time = times.all_inner_texts(), times.first
    moment = datetime.fromisoformat(time.get_attribute("datetime") or "")

    time.focus()

    in_tokyo = f"{moment + timedelta(hours=9):%Y-%m-%d %H:%M:%S} Asia/Tokyo"
    assert (time.get_attribute("title"), time.inner_text()) == (in_tokyo, in_tokyo)
    assert len(texts) == 50
    assert len({re.sub(r"[\d.]+", "", text) for text in texts}) == 1


#: How much time the timeline shows.
READ_SPAN = """canvas => {
    const { min, max } = Chart.getChart(canvas).scales.x;
    return max - min;
}"""
#: Where on the page an approval is drawn.
FIND_APPROVAL = """canvas => {
    const chart = Chart.getChart(canvas);
    const index = chart.data.datasets.findIndex(one => one.kind === 'approved');
    const [mark] = chart.getDatasetMeta(index).data;
    canvas.scrollIntoView({ block: 'center' });
    const { x, y } = canvas.getBoundingClientRect();
    return [x + mark.x, y + mark.y];
}"""


def test_timeline_of_a_large_pull_request_is_zoomed_and_read(phone: Page, large: str) -> None:
    """A history of months has days that are worth a closer look, with or without a pointer."""
    phone.goto(large)
    canvas = phone.locator("[data-timeline] canvas")
    whole = canvas.evaluate(READ_SPAN)
    phone.mouse.move(*canvas.evaluate(FIND_APPROVAL))
    phone.wait_for_function(
        """() => Chart.getChart(document.querySelector('[data-timeline] canvas'))
            .tooltip.body?.some(item => item.lines[0]?.includes('approved'))"""
    )

    phone.get_by_role("button", name="Zoom in").press("Enter")
    part = canvas.evaluate(READ_SPAN)
    phone.get_by_role("button", name="Reset").press("Enter")
    phone.get_by_text("As a table").press("Enter")

    assert part < whole
    assert canvas.evaluate(READ_SPAN) == whole
    expect(phone.get_by_role("region", name="Events").locator("tbody tr")).to_have_count(200)


def test_each_repository_says_how_it_fares(phone: Page) -> None:
    """Of 40 webhooks one stops one day, and nobody looks at GitHub's settings."""
    repository = TrackedRepository.objects.get(full_name="farm/service-01")
    troubled = PullRequest.objects.filter(repository=repository, sync_status__in=IN_TROUBLE)
    phone.goto(REPOSITORIES)
    row = phone.locator("#result_list tbody tr", has_text=repository.full_name)

    expect(row.locator("[data-label=Webhook]")).to_have_text("delivers", ignore_case=True)
    expect(row.locator("[data-label=Fault]")).to_contain_text(f"{troubled.count()}: ")
    expect(row.locator("[data-label='Last merge'] time")).to_contain_text("ago")
    follow(phone, row.get_by_role("link").first)
    expect(phone.get_by_role("heading", level=1)).to_contain_text(repository.full_name)


#: How many merges the last chart counts.
COUNT_BARS = """() => Chart.getChart([...document.querySelectorAll('canvas')].at(-1))
    .data.datasets[0].data.reduce((sum, count) => sum + count)"""


def test_update_of_the_dashboard_keeps_the_focus(page: Page) -> None:
    """Who works with the keyboard lost the place at each update, and half of the page was old."""
    repository = TrackedRepository.objects.filter(team__slug="farm-4").earliest("pk")
    page.goto("/admin/?team=farm-4")
    line = page.locator("[data-connection]")
    expect(line).to_contain_text("Updated")
    details = page.locator("#trends details").first
    details.locator("summary").press("Enter")
    place = page.get_by_role("link", name="Cycle time: sort by change")
    place.focus()
    before = page.evaluate(COUNT_BARS)

    row = commit(
        lambda: PullRequestFactory(
            merged=True, team=repository.team, repository=repository, merged_at=timezone.now()
        )
    )

    expect(page.locator("#latest tbody tr").first).to_contain_text(f"#{row.github_pr_number}")
    page.wait_for_function(f"count => ({COUNT_BARS})() === count", arg=before + 1)
    expect(place).to_be_focused()
    expect(details).to_have_attribute("open", "")
    commit(row.delete)


def test_page_says_since_when_the_server_is_gone(page: Page, errors: list[str]) -> None:
    """Numbers of an hour ago looked like those of now."""
    page.goto("/admin/?team=farm-4")
    line = page.locator("[data-connection]")
    expect(line).to_contain_text("Updated")

    page.route("**/dashboard/live/**", lambda route: route.abort())
    expect(line).to_contain_text("No connection since")
    page.unroute("**/dashboard/live/**")
    expect(line).to_contain_text("Updated")

    assert errors
    errors.clear()
