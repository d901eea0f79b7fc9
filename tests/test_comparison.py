"""The comparison table, the lists behind its numbers, its files, and the teams' goals."""

import csv
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any
from zlib import crc32

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from metrics_sync.admin.sorting import list_orders, sort_compared
from metrics_sync.dashboard import By, Compared, Numbers, Selection, Spread, compare
from metrics_sync.models import PullRequest, Team, TeamGoal, TeamMember
from tests.factories import (
    PRReviewFactory,
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

NOW = timezone.now()
WEEK = timedelta(weeks=1)
INDEX = reverse("admin:index")


@pytest.fixture
def mine(db: None) -> Team:
    team = TeamFactory(name="Mine", slug="mine")
    TrackedRepositoryFactory(team=team, full_name="acme/anvil")
    return team


@pytest.fixture
def theirs(db: None) -> Team:
    team = TeamFactory(name="Theirs", slug="theirs")
    TrackedRepositoryFactory(team=team, full_name="acme/vault")
    return team


@pytest.fixture
def member(client: Client, mine: Team) -> Client:
    user: User = UserFactory()
    mine.members.add(user)
    client.force_login(user)
    return client


def add_merge(team: Team, repository: str, *, by: str = "mona", **values: Any) -> PullRequest:
    """Add a merge that was measured; `reviewers` are logins, each of whom reviewed it twice."""
    logins = values.pop("reviewers", [])
    values = {"merged_at": NOW, "merged_without_review": not logins, **values}
    row = PullRequestFactory(merged=True, team=team, github_repo=repository, author_login=by)
    PullRequest.objects.filter(pk=row.pk).update(**values)
    for login in logins * 2:
        add_review(row, login)
    return row


def add_review(row: PullRequest, login: str) -> None:
    who, _ = TeamMember.objects.get_or_create(
        team=row.team, github_id=find_id(login), defaults={"login": login}
    )
    PRReviewFactory(pull_request=row, reviewer=who, submitted_at=NOW - 52 * WEEK)


def find_id(login: str) -> int:
    """Return the same id for a login in each team, as one account has."""
    return crc32(login.encode())


@pytest.fixture
def merges(mine: Team, theirs: Team) -> None:
    """Merges of two teams in this period and the one before, of people and of a bot."""
    reviewed = {"review_wait_hours": 2, "review_rounds": 1, "reviewers": ["ann", "bob"]}
    add_merge(mine, "acme/anvil", cycle_time_hours=4, **reviewed)
    add_merge(mine, "Acme/Anvil", by="hubot", cycle_time_hours=6, review_rounds=0)
    add_merge(mine, "acme/anvil", by="robot", is_by_bot=True, cycle_time_hours=1)
    add_merge(mine, "acme/anvil", cycle_time_hours=2, merged_at=NOW - 12 * WEEK, **reviewed)
    # A bot reviewed as well, which does not count.
    add_review(add_merge(mine, "acme/tongs", by="mona"), "lint[bot]")
    add_merge(theirs, "acme/vault", by="mallory", reviewers=["ann", "eve"], review_wait_hours=9)


def read(by: By, **values: Any) -> dict[str, Compared]:
    selection = Selection(Team.objects.all(), timezone.now(), **values)
    return {row.key: row for row in compare(selection, by)}


@pytest.mark.parametrize(
    ("by", "merged"),
    [
        (By.TEAM, {"mine": 3, "theirs": 1}),
        (By.REPOSITORY, {"ACME/ANVIL": 2, "ACME/TONGS": 1, "ACME/VAULT": 1}),
        (By.AUTHOR, {"mona": 2, "hubot": 1, "mallory": 1}),
        (By.REVIEWER, {str(find_id("ann")): 2, str(find_id("bob")): 1, str(find_id("eve")): 1}),
    ],
)
@pytest.mark.usefixtures("merges")
def test_each_pull_request_counts_once_for_each(by: By, merged: dict[str, int]) -> None:
    """Two reviews by one person count as one pull request, and two spellings as one repository."""
    found = {key.upper() if by is By.REPOSITORY else key: row for key, row in read(by).items()}

    assert {key: row.now.merged for key, row in found.items()} == merged


@pytest.mark.usefixtures("merges")
def test_figures_stand_beside_those_of_the_period_before() -> None:
    """A team lead asks where reviews got slower, and by how many pull requests that is known."""
    row = read(By.TEAM)["mine"]

    assert row.now.get_spread("cycle_time_hours") == Spread(4, 6, 2)
    assert row.before.get_spread("cycle_time_hours") == Spread(2, 2, 1)
    assert row.now.get_spread("review_rounds") == Spread(1, 1, 1)
    assert (row.now.without_review, row.now.review_is_known) == (2, 3)
    assert read(By.TEAM, with_bots=True)["mine"].now.merged == 4


def make_row(name: str, now: float | None, before: float | None) -> Compared:
    def measure(hours: float | None) -> Numbers:
        return Numbers(1, {"cycle_time_hours": Spread(hours, hours, 1)})

    return Compared(name, name, measure(now), measure(before))


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("name", "abc"),
        ("-cycle_time_hours.median", "cab"),
        ("cycle_time_hours.median", "acb"),
        ("-cycle_time_hours.change", "acb"),
    ],
)
def test_rows_are_sorted_with_unknown_ones_last(order: str, names: str) -> None:
    """A user who looks for the slowest wants no unknown values first."""
    rows = [make_row("c", 9, 9), make_row("b", None, 3), make_row("a", 5, 1)]

    assert "".join(row.name for row in sort_compared(rows, order)) == names


def read_page(client: Client, query: str = "") -> str:
    page = client.get(f"{INDEX}{query}")
    assert page.status_code == 200
    return page.content.decode()


def find_counts(page: str) -> Iterator[tuple[str, int]]:
    """Yield each list that a number of the page leads to, with that number."""
    for url, text in re.findall(r'<a href="([^"]*pullrequest/\?[^"]*)"[^>]*>\s*([^<]*?)\s*<', page):
        if re.match(r"\d+( \w+)?$", text):
            yield unescape(url), int(text.split()[0])


@pytest.mark.parametrize("by", list(By))
@pytest.mark.usefixtures("merges")
def test_number_in_the_list_is_the_one_that_was_clicked(member: Client, by: By) -> None:
    """Users would trust a list of other pull requests."""
    page = read_page(member, f"?by={by}&trend=coding_hours")
    counts = dict(find_counts(page))

    assert len(counts) >= 6
    for url, number in counts.items():
        assert (url, member.get(url).context["cl"].result_count) == (url, number)


@pytest.mark.parametrize("by", list(By))
@pytest.mark.usefixtures("merges")
def test_table_and_file_are_of_own_teams(member: Client, by: By) -> None:
    """Names and numbers would reveal what another team does."""
    page = read_page(member, f"?by={by}&team=&repository=")
    file = member.get(reverse("metrics_sync:compare-csv"), {"by": by})
    foreign = member.get(reverse("metrics_sync:compare-csv"), {"by": by, "team": "theirs"})

    for text in (page, b"".join(file.streaming_content).decode()):  # type: ignore[attr-defined]
        for word in ("Theirs", "vault", "mallory", "eve<", "eve,"):
            assert word not in text
    assert foreign.status_code == 400


@pytest.mark.usefixtures("merges")
def test_file_has_what_the_table_has(member: Client) -> None:
    """A user who calculates with the file needs the same figures, unknown ones empty."""
    answer = member.get(reverse("metrics_sync:compare-csv"), {"by": "author", "sort": "name"})

    [first, second] = csv.DictReader(read_lines(answer))
    assert (first["author"], second["author"]) == ("hubot", "mona")
    assert (second["merged"], second["merged_before"]) == ("2", "1")
    assert (second["cycle_time_hours_median"], second["cycle_time_hours_count"]) == ("4.0", "1")
    assert first["review_wait_hours_median"] == ""
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"


def read_lines(answer: Any) -> list[str]:
    assert answer.status_code == 200
    return b"".join(answer.streaming_content).decode().splitlines()


def test_file_has_no_formulas(member: Client, mine: Team) -> None:
    """A spreadsheet would run a formula inside a name."""
    for name in ("=1+1", "+cmd", "-2", "@sum"):
        add_merge(mine, "acme/anvil", by=name)

    rows = list(csv.reader(read_lines(member.get(
        reverse("metrics_sync:compare-csv"), {"by": "author"}
    ))))  # fmt: skip

    assert sorted(row[0] for row in rows[1:]) == ["'+cmd", "'-2", "'=1+1", "'@sum"]


@pytest.mark.usefixtures("merges")
def test_file_of_the_trend_has_each_week_of_own_teams(member: Client) -> None:
    """The points of the charts, for who draws their own."""
    answer = member.get(reverse("metrics_sync:trend-csv"), {"weeks": 4, "trend": "coding_hours"})

    rows = list(csv.DictReader(read_lines(answer)))
    assert [row["merged"] for row in rows] == ["0", "0", "0", "3"]
    assert rows[-1]["review_wait_hours_median"] == "2.0"
    assert rows[-1]["coding_hours_count"] == "0"


@pytest.mark.parametrize("name", ["compare-csv", "trend-csv"])
def test_file_is_for_staff(client: Client, name: str) -> None:
    """A forwarded address must not open the file."""
    answer = client.get(reverse(f"metrics_sync:{name}"))

    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(reverse("admin:login"))


def test_long_table_comes_in_pages_and_says_so(member: Client, mine: Team) -> None:
    """Users would take the first page for all rows."""
    for number in range(23):
        add_merge(mine, "acme/anvil", by=f"author-{number:02}")

    first, second = (read_page(member, f"?by=author&sort=name&page={n}") for n in (1, 2))

    assert "1 to 10 of 23" in first
    assert ("author-09" in first, "author-10" in first) == (True, False)
    assert ("author-09" in second, "author-19" in second) == (False, True)


@pytest.mark.parametrize("query", ["?by=planet", "?sort=beauty", "?page=0", "?trend=state"])
def test_view_that_does_not_exist_is_refused(member: Client, query: str) -> None:
    """Another table than the one of the address would be taken for it."""
    assert "Nothing is shown" in read_page(member, query)


def test_every_order_is_one_of_the_table(member: Client, mine: Team) -> None:
    """A link in a header must not be refused."""
    add_merge(mine, "acme/anvil")
    page = read_page(member, "?by=author&sort=-cycle_time_hours.p90")

    orders = set(re.findall(r"sort=([^&#\"]+)", page)) - {"-cycle_time_hours.p90"}
    assert orders <= {order for order, _ in list_orders()}
    assert len(orders) == 17
    assert page.count('aria-sort="descending"') == 1


@pytest.mark.parametrize("by", list(By))
@pytest.mark.usefixtures("merges")
def test_number_of_queries_does_not_grow(member: Client, mine: Team, by: By) -> None:
    """A table may have a hundred authors."""
    query = f"?by={by}"
    read_page(member, query)
    with CaptureQueriesContext(connection) as few:
        read_page(member, query)
    for number in range(30):
        add_merge(mine, f"acme/r{number}", by=f"author-{number}", reviewers=[f"reviewer-{number}"])

    with CaptureQueriesContext(connection) as many:
        read_page(member, query)

    assert len(many) == len(few)


def read_charts(page: str) -> list[Any]:
    return [json.loads(unescape(data)) for data in re.findall(r'data-value="([^"]+)"', page)]


@pytest.mark.usefixtures("merges")
def test_goal_is_drawn_for_its_team_and_named_in_the_table(
    admin_client: Client, mine: Team, theirs: Team
) -> None:
    """A team's chart shows only its own goal."""
    TeamGoal.objects.create(team=mine, metric="cycle_time_hours", value=5)
    TeamGoal.objects.create(team=theirs, metric="cycle_time_hours", value=99)

    own, all_teams = read_page(admin_client, "?team=mine"), read_page(admin_client)

    lines = [line for chart in read_charts(own) for line in chart["datasets"]]
    assert [line["data"][0] for line in lines if line["label"] == "goal"] == [5]
    assert "Goal: at most 5.0 h" in own
    assert 'data-label="Goal: 5.0 h">met' in own
    assert "Goal: at most" not in all_teams


def test_goals_are_edited_by_who_may_edit_the_team(
    member: Client, mine: Team, theirs: Team
) -> None:
    """A user edits only the goals of their own teams."""
    url = reverse("admin:metrics_sync_teamgoal_add")
    goal = {"metric": "review_rounds", "value": "1"}
    foreign = TeamGoal.objects.create(team=theirs, metric="review_rounds", value=3)

    assert member.post(url, {"team": mine.pk, **goal}).status_code == 403
    user = mine.members.get()
    user.user_permissions.add(Permission.objects.get(codename="change_team"))
    member.post(url, {"team": theirs.pk, **goal})
    member.post(url, {"team": mine.pk, **goal, "metric": "beauty"})
    assert member.post(url, {"team": mine.pk, **goal}).status_code == 302
    member.post(reverse("admin:metrics_sync_teamgoal_change", args=[foreign.pk]), goal)

    assert [(one.team, one.metric, one.value) for one in TeamGoal.objects.order_by("value")] == [
        (mine, "review_rounds", 1),
        (theirs, "review_rounds", 3),
    ]
