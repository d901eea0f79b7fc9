"""The page of reviewers: who reviews how much and how soon, and which requests wait for them."""

import re
from datetime import datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.db.models.signals import post_init
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from metrics_sync.dashboard import Reviewer, Selection, read_open, read_reviewers
from metrics_sync.models import PullRequest, Team, TeamMember
from tests.factories import (
    PRReviewFactory,
    PRTimelineEventFactory,
    PullRequestFactory,
    TeamFactory,
    TeamMemberFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db

NOW = timezone.now().replace(microsecond=0)
OPENED_AT = NOW - timedelta(days=4)


def hour(count: float) -> datetime:
    return OPENED_AT + timedelta(hours=count)


@pytest.fixture
def team() -> Team:
    return TeamFactory()


@pytest.fixture
def ann(team: Team) -> TeamMember:
    return TeamMemberFactory(team=team, github_id=11, login="ann")


def add_merge(team: Team, **more: Any) -> PullRequest:
    values = {"merged_at": hour(50), "ready_at": hour(0), "merged_without_review": False, **more}
    return PullRequestFactory(team=team, merged=True, **values)


def review(row: PullRequest, who: TeamMember, at: float, **more: Any) -> None:
    PRReviewFactory(
        pull_request=row, reviewer=who, reviewer_login=who.login, submitted_at=hour(at), **more
    )


def ask(row: PullRequest, at: float, **subject: Any) -> None:
    PRTimelineEventFactory(
        pull_request=row, event="review_requested", created_at=hour(at), **subject
    )


def read(*teams: Team, **more: Any) -> list[Reviewer]:
    rows = Team.objects.filter(pk__in=[team.pk for team in teams])
    return read_reviewers(Selection(rows, timezone.now(), **more), read_open(rows))


ASKED = [
    pytest.param([], 0, 6, id="by nobody, so since it was ready"),
    pytest.param([(2, 11, "ann")], 0, 4, id="by id"),
    pytest.param([(2, 11, "an-older-login")], 0, 4, id="by id, under another login"),
    pytest.param([(2, 99, "ann")], 0, 6, id="somebody else was, who has the login now"),
    pytest.param([(2, None, "ann")], 0, 6, id="a team was, whose slug is the login"),
    pytest.param([(2, 11, "ann"), (5, 11, "ann")], 0, 4, id="twice"),
    pytest.param([(7, 11, "ann")], 0, 6, id="after the review"),
    pytest.param([(1, 11, "ann")], 3, 3, id="while it was a draft"),
    pytest.param([], 7, None, id="by nobody, and it was a draft"),
    pytest.param([(2, 11, "ann")], None, None, id="when it was ready is unknown"),
]


@pytest.mark.parametrize(("requests", "ready", "hours"), ASKED)
def test_answer_takes_the_time_from_the_request(
    team: Team,
    ann: TeamMember,
    requests: list[tuple[float, int | None, str]],
    ready: float | None,
    hours: float | None,
) -> None:
    """A review that was not requested answers nothing, and nobody waits for a draft's review."""
    row = add_merge(team, ready_at=None if ready is None else hour(ready))
    review(row, ann, 6)
    review(row, ann, 8)
    for at, github_id, login in requests:
        ask(row, at, subject_github_id=github_id, subject_login=login)

    [found] = read(team)

    took = None if hours is None else timedelta(hours=hours)
    assert (found.reviews, found.pull_requests) == (2, 1)
    assert (found.answers, found.median, found.p90) == (int(hours is not None), took, took)


def test_reviews_that_do_not_count_are_not_counted(team: Team, ann: TeamMember) -> None:
    """Those of the author, of bots, of another period, after the merge, or of unproven lists."""
    bot = TeamMemberFactory(team=team, github_id=12, login="check[bot]")
    review(add_merge(team, author=ann), ann, 1)
    review(add_merge(team), bot, 1)
    review(add_merge(team), ann, 51)
    review(add_merge(team, merged_without_review=None), ann, 1)
    review(add_merge(team, is_by_bot=True), ann, 1)
    review(add_merge(team, merged_at=NOW - timedelta(days=400)), ann, -9999)
    review(PullRequestFactory(team=team), ann, 1)
    review(add_merge(team, author=TeamMemberFactory(team=team, github_id=13)), ann, 1)

    assert [(one.login, one.reviews) for one in read(team)] == [("ann", 1)]


def test_percentiles_are_of_all_answers(team: Team, ann: TeamMember) -> None:
    """Each request counts once, however many reviews follow it."""
    for hours in (1, 2, 3, 4, 5, 6, 7, 8, 9, 40):
        review(add_merge(team), ann, hours)

    [found] = read(team)

    assert (found.answers, found.median, found.p90) == (10, timedelta(hours=5), timedelta(hours=9))


def test_requests_that_are_open_are_counted_by_id(team: Team, ann: TeamMember) -> None:
    """Another account may have taken the login meanwhile."""
    repository = TrackedRepositoryFactory(team=team)
    asked = [
        {"github_id": 11, "login": "ann-then", "is_team": False},
        {"github_id": 12, "login": "new", "is_team": False},
        {"github_id": 11, "login": "smiths", "is_team": True},
    ]
    PullRequestFactory(
        team=team,
        repository=repository,
        pr_created_at=hour(0),
        review_requests={"as_of": None, "asked": asked},
    )

    found = {(one.login, one.open_requests) for one in read(team)}

    assert found == {("ann", 1), ("new", 1)}


def test_account_of_another_team_is_another_reviewer(team: Team, ann: TeamMember) -> None:
    """One person in two teams has two rows, and each team sees its own."""
    other = TeamFactory()
    review(add_merge(team), ann, 1)
    for number in range(2):
        hers = TeamMember.objects.get_or_create(team=other, github_id=11, login="ann")[0]
        review(add_merge(other), hers, number)

    assert [one.reviews for one in read(team)] == [1]
    assert [(one.team, one.reviews) for one in read(team, other)] == [(other, 2), (team, 1)]


def sign_in(client: Client, team: Team) -> Client:
    user = UserFactory()
    team.members.add(user)
    client.force_login(user)
    return client


def test_page_shows_nothing_of_another_team(client: Client, team: Team, ann: TeamMember) -> None:
    """How somebody works concerns their own team only."""
    secret = TeamMemberFactory(login="secret-smith")
    review(add_merge(secret.team), secret, 1)
    review(add_merge(team), ann, 1)
    sign_in(client, team)

    page = client.get(reverse("metrics_sync:reviewers")).content.decode()
    named = client.get(reverse("metrics_sync:reviewers"), {"team": secret.team.slug})

    assert ">ann</" in page
    assert "secret-smith" not in page + named.content.decode()
    assert "Nothing is shown" in named.content.decode()


def test_page_leads_to_what_is_behind_its_numbers(
    client: Client, team: Team, ann: TeamMember
) -> None:
    """A number is believed if one can see the pull requests behind it."""
    review(add_merge(team, title="Reviewed", reviewers=[{"login": "ann"}]), ann, 1)
    add_merge(team, title="Reviewed by others", reviewers=[{"login": "bob"}])
    repository = TrackedRepositoryFactory(team=team)
    for title, github_id in (("Hers", 11), ("Another's", 12)):
        asked = [{"github_id": github_id, "login": "ann", "is_team": False}]
        requests = {"as_of": None, "asked": asked}
        row = {"title": title, "repository": repository, "review_requests": requests}
        PullRequestFactory(team=team, pr_created_at=hour(0), **row)
    sign_in(client, team)

    page = client.get(reverse("metrics_sync:reviewers")).content.decode()
    links = re.findall(r'<td data-label="([\w ]+)"><a href="(.*?)"', page)
    found = {label: client.get(unescape(url)).content.decode() for label, url in links[:4]}

    assert "Reviewed by others" not in found["Pull requests"]
    assert "Reviewed" in found["Pull requests"]
    assert "Hers" in found["Waiting now"]
    assert "Another" not in found["Waiting now"]


def test_each_number_leads_to_as_many_pull_requests(
    client: Client, team: Team, ann: TeamMember
) -> None:
    """Who doubts a median looks for the answers behind it, and a review of a draft is none."""
    ready_at = {"early": None, "drafted": hour(5), "twice": hour(0), "late": hour(1)}
    for title, moment in ready_at.items():
        row = add_merge(team, title=title, ready_at=moment)
        review(row, ann, 2)
        if title in {"drafted", "twice"}:
            review(row, ann, 6)
    sign_in(client, team)

    page = client.get(reverse("metrics_sync:reviewers")).content.decode()
    cells = re.findall(r'<td data-label="([\w ]+)"><a href="(.*?)"[^>]*>(\d+)<', page)
    listed = {name: _list_titles(client, unescape(url)) for name, url, _ in cells}

    assert {name: int(count) for name, _, count in cells} == {
        "Reviews": 6,
        "Pull requests": 4,
        "Answers": 2,
    }
    assert listed["Answers"] == {"twice", "late"}
    assert listed["Reviews"] == listed["Pull requests"] == set(ready_at)
    assert 'title="The reviews are of 4 pull requests."' in page


def _list_titles(client: Client, url: str) -> set[str]:
    return {row.title for row in client.get(url).context["cl"].result_list}


def test_page_needs_as_many_queries_for_many_reviewers(
    client: Client, team: Team, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """A query for each reviewer would make the page slow for the largest team."""
    sign_in(client, team)
    review(add_merge(team), TeamMemberFactory(team=team, github_id=99), 1)
    with django_assert_num_queries(11):
        client.get(reverse("metrics_sync:reviewers"))
    for number in range(20):
        review(add_merge(team), TeamMemberFactory(team=team, github_id=100 + number), number)
    with django_assert_num_queries(11):
        client.get(reverse("metrics_sync:reviewers"))


def test_page_bounds_its_table_and_says_what_is_left_out(
    client: Client, team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads a thousand rows, but reviewers who are left out must not seem to be idle."""
    monkeypatch.setattr("metrics_sync.admin.reviewers.ROWS", 2)
    for number in range(5):
        who = TeamMemberFactory(team=team, github_id=100 + number, login=f"smith-{number}")
        for _ in range(number + 1):
            review(add_merge(team), who, 1)
    sign_in(client, team)

    first, second = (
        client.get(reverse("metrics_sync:reviewers"), {"page": number}).content.decode()
        for number in (1, 2)
    )

    assert re.findall(r">(smith-\d)<", first) == ["smith-4", "smith-3"]
    assert re.findall(r">(smith-\d)<", second) == ["smith-2", "smith-1"]
    assert "5 reviewers" in first
    assert "1 to 2 of 5" in first


@pytest.mark.parametrize("name", ["waiting", "reviewers"])
def test_pages_load_no_account_as_an_object(
    client: Client, team: Team, ann: TeamMember, name: str
) -> None:
    """A team may have thousands of accounts, of which a page names few."""
    review(add_merge(team), ann, 1)
    repository = TrackedRepositoryFactory(team=team)
    asked = [{"github_id": 11, "login": "ann", "is_team": False}]
    requests = {"as_of": None, "asked": asked}
    row = {"team": team, "repository": repository, "author": ann, "review_requests": requests}
    review(PullRequestFactory(pr_created_at=hour(0), **row), ann, 1)
    sign_in(client, team)
    loaded: list[Any] = []

    def note(instance: TeamMember, **more: Any) -> None:
        loaded.append(instance)

    post_init.connect(note, sender=TeamMember)
    try:
        page = client.get(reverse(f"metrics_sync:{name}")).content.decode()
    finally:
        post_init.disconnect(note, sender=TeamMember)

    assert ">ann</" in page
    assert loaded == []


def test_another_choice_begins_with_the_first_page(client: Client, team: Team) -> None:
    """From the third page of all teams, the choice of one showed its last."""
    sign_in(client, team)

    for page in (reverse("metrics_sync:reviewers"), reverse("admin:index")):
        shown = client.get(page, {"page": 3}).content.decode()
        form = shown[shown.index('class="selection"') :].split("</form>")[0]
        assert 'name="sort"' in form
        assert 'name="page"' not in form
