"""What open pull requests wait for: whose turn it is, since when, and who may see the page."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from itertools import permutations
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from metrics_sync.dashboard import read_open
from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.metrics import OpenPullRequest, Person, Review, Turn, Wait, find_wait
from metrics_sync.models import PullRequest, Team, TrackedRepository
from metrics_sync.sandbox import build_pull_request_event, make_recording
from metrics_sync.sandbox.payloads import build_pull_request_review_event
from metrics_sync.sandbox.shapes import user
from project.demo.open_pull_requests import list_deliveries
from tests.factories import (
    PRReviewFactory,
    PullRequestFactory,
    TeamMemberFactory,
    TrackedRepositoryFactory,
    UserFactory,
)
from tests.histories import OPENED_AT, find_id, hour, tell

REPOSITORY = "acme/anvil"


def wait(text: str, **more: Any) -> Wait:
    """Return the turn after some reviews, in the language of tests/histories.py; the head is b."""
    history = tell(text)
    known = {"created_at": OPENED_AT, "head_sha": "b", "author_id": history.author_id}
    return find_wait(OpenPullRequest(**{**known, "reviews": history.reviews or (), **more}))


def ask(login: str, since: float | None = None, *, is_team: bool = False) -> Person:
    at = None if since is None else hour(since)
    return Person(login, at, find_id(login), is_team=is_team)


WAITS = [
    pytest.param("", {}, Turn.REVIEW, 0, [], id="nobody was asked"),
    pytest.param("", {"ready_at": hour(3)}, Turn.REVIEW, 3, [], id="since it is no draft any more"),
    pytest.param("", {"asked": [ask("ann", 2)]}, Turn.REVIEW, 0, [("ann", 2)], id="asked later"),
    pytest.param(
        "",
        {"asked": [ask("ann", 1)], "ready_at": hour(3)},
        Turn.REVIEW,
        3,
        [("ann", 3)],
        id="asked while it was a draft",
    ),
    pytest.param(
        "", {"is_draft": True, "asked": [ask("ann", 1)]}, Turn.DRAFT, None, [], id="draft"
    ),
    pytest.param("1 check[bot] approves b", {}, Turn.REVIEW, 0, [], id="reviewed by a bot"),
    pytest.param("1 author comments b", {}, Turn.REVIEW, 0, [], id="reviewed by its author"),
    pytest.param("1 ann comments b", {}, Turn.OPEN, 1, [], id="reviewed with comments"),
    pytest.param(
        "1 ann comments b", {"ready_at": hour(3)}, Turn.REVIEW, 3, [], id="reviewed as a draft"
    ),
    pytest.param("1 ann approves b", {}, Turn.MERGE, 1, [("ann", 1)], id="approved"),
    pytest.param(
        "1 ann approves a; 4 ann approves b", {}, Turn.MERGE, 1, [("ann", 4)], id="approved twice"
    ),
    pytest.param(
        "1 ann approves b",
        {"asked": [ask("bob", 2)]},
        Turn.REVIEW,
        2,
        [("bob", 2)],
        id="approved, and another is asked",
    ),
    pytest.param(
        "2 ann approves b",
        {"asked": [ask("ann", 1)], "asked_as_of": hour(2)},
        Turn.MERGE,
        2,
        [("ann", 2)],
        id="asked and reviewed since",
    ),
    pytest.param(
        "2 ann approves b",
        {"asked": [ask("ann", 5)], "asked_as_of": hour(6)},
        Turn.REVIEW,
        5,
        [("ann", 5)],
        id="asked again",
    ),
    pytest.param(
        "2 ann approves b",
        {"asked": [ask("ann")], "asked_as_of": hour(6)},
        Turn.REVIEW,
        2,
        [("ann", 2)],
        id="asked again, by a delivery that was lost",
    ),
    pytest.param(
        "2 ann comments b",
        {"asked": [ask("ann", 1, is_team=True)], "asked_as_of": hour(6)},
        Turn.REVIEW,
        1,
        [("ann", 1)],
        id="a team is asked whose slug is a login",
    ),
    pytest.param("1 ann asks b", {}, Turn.AUTHOR, 1, [("ann", 1)], id="changes are requested"),
    pytest.param(
        "1 ann asks b; 2 bob approves b",
        {"asked": [ask("eve", 0)]},
        Turn.AUTHOR,
        1,
        [("ann", 1)],
        id="changes requested by one of several",
    ),
    pytest.param(
        "1 ann asks a", {"pushed_at": hour(4)}, Turn.REVIEW, 4, [("ann", 4)], id="pushed since"
    ),
    pytest.param("1 ann asks a", {}, Turn.REVIEW, 1, [("ann", 1)], id="pushed at an unknown time"),
    pytest.param(
        "1 ann asks b",
        {"asked": [ask("ann", 3)], "asked_as_of": hour(3)},
        Turn.REVIEW,
        3,
        [("ann", 3)],
        id="asked again without a push",
    ),
    pytest.param("1 ann asks b; 2 ann approves b", {}, Turn.MERGE, 2, [("ann", 2)], id="settled"),
    pytest.param(
        "1 ann asks b; 2 bob approves b; 3 eve dismisses ann",
        {},
        Turn.MERGE,
        2,
        [("bob", 2)],
        id="request dismissed",
    ),
    pytest.param(
        "1 ann approves a; 3 eve dismisses ann",
        {},
        Turn.REVIEW,
        3,
        [("ann", 3)],
        id="approval dismissed",
    ),
]


@pytest.mark.parametrize(("text", "more", "turn", "since", "people"), WAITS)
def test_turn_is_whose_the_reviews_and_requests_say(
    text: str, more: dict[str, Any], turn: Turn, since: float | None, people: list[Any]
) -> None:
    """Reminders of what somebody else has to do are soon ignored."""
    found = wait(text, **more)

    told = [(person.login, person.since) for person in found.people]
    at = None if since is None else hour(since)
    assert (found.turn, found.since) == (turn, at)
    assert told == [(login, hour(when)) for login, when in people]


def test_login_of_another_account_ends_no_wait() -> None:
    """A login that is given up can be taken by somebody else."""
    renamed = replace(ask("ann", 1), github_id=999)

    found = wait("2 ann comments b", asked=[renamed], asked_as_of=hour(2))

    assert (found.turn, [person.github_id for person in found.people]) == (Turn.REVIEW, [999])


@given(st.permutations(tell("1 ann asks a; 2 bob approves b; 3 eve comments b").reviews or []))
def test_order_of_the_reviews_does_not_matter(reviews: Sequence[Review]) -> None:
    """Rows come from the database in any order."""
    one = OpenPullRequest(created_at=OPENED_AT, head_sha="b", author_id=1, reviews=reviews)

    assert find_wait(one) == Wait(Turn.REVIEW, hour(1), [Person("ann", hour(1), find_id("ann"))])


# Webhooks report the changes, in any order.

ANN, BOB = user("ann"), user("bob")
SMITHS = {"id": 7, "slug": "smiths", "name": "Smiths"}


class Story:
    """Builds the deliveries of one open pull request, each an hour after the one before."""

    def __init__(self) -> None:
        self.recording = make_recording(REPOSITORY, 7, merged=False)
        self.recording.pull |= {"draft": False, "created_at": at(0)}
        self.hour = 0
        self.deliveries: list[tuple[str, dict[str, Any]]] = []

    def report(self, action: str, *, asked: list[Any], teams: list[Any] = (), **more: Any) -> None:  # type: ignore[assignment]
        self.hour += 1
        self.recording.pull |= {
            "requested_reviewers": asked,
            "requested_teams": list(teams),
            "updated_at": at(self.hour),
        }
        payload = build_pull_request_event(self.recording, action, **more)
        self.deliveries.append(("pull_request", payload))

    def review(self, login: str, state: str, *, asked: list[Any]) -> None:
        self.hour += 1
        self.recording.pull |= {"requested_reviewers": asked, "updated_at": at(self.hour)}
        review = {
            **self.recording.reviews[0],
            "id": 9000 + self.hour,
            "user": user(login),
            "state": state,
            "submitted_at": at(self.hour),
            "commit_id": self.recording.head_sha,
        }
        payload = build_pull_request_review_event(self.recording, review)
        self.deliveries.append(("pull_request_review", payload))


def at(hours: int) -> str:
    return f"{hour(hours):%Y-%m-%dT%H:%M:%SZ}"


def receive(story: Story, order: Sequence[int], repository: TrackedRepository) -> None:
    for index in order:
        event, payload = story.deliveries[index]
        text = json.dumps(payload)
        delivery = Delivery(f"guid-{index}", event, payload["action"], REPOSITORY, payload, text)
        assert record_delivery(delivery, integration=repository.integration).status == "processed"


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(
        full_name=REPOSITORY,
        github_repo_id=make_recording(REPOSITORY, 7).pull["base"]["repo"]["id"],
    )


def test_demo_shows_each_turn(repository: TrackedRepository) -> None:
    """Who tries the demo sees what the page is for, and who was asked."""
    now = timezone.now()
    for recording, deliveries in list_deliveries(REPOSITORY, now):
        for number, (event, payload) in enumerate(deliveries):
            text, guid = json.dumps(payload), f"{recording.number}-{number}"
            told = Delivery(guid, event, payload["action"], REPOSITORY, payload, text)
            assert record_delivery(told, integration=repository.integration).status == "processed"

    turns = read_open(Team.objects.all()).turns

    people = {
        turn: [[person.login for person in one.wait.people] for one in turns[turn]] for turn in Turn
    }
    assert people == {
        Turn.REVIEW: [["grace", "ada"], ["ada"], []],
        Turn.MERGE: [["grace"]],
        Turn.AUTHOR: [["ada"]],
        Turn.OPEN: [],
        Turn.DRAFT: [],
    }


def test_long_table_comes_in_pages(admin_client: Client, repository: TrackedRepository) -> None:
    """The longest waits are on the first page; a link leads to the others."""
    for number in range(27):
        PullRequestFactory(
            repository=repository,
            team=repository.team,
            pr_created_at=hour(number),
            title=f"T{number}.",
        )

    first = admin_client.get(reverse("metrics_sync:waiting")).content.decode()
    [link] = re.findall(r'<a href="([^"]+)" class="text-link">Next', first)
    second = admin_client.get(f"{reverse('metrics_sync:waiting')}{unescape(link)}").content.decode()

    assert "1 to 25 of 27" in first
    assert ("T24." in first, "T25." in first) == (True, False)
    assert ("T24." in second, "T25." in second, "T26." in second) == (False, True, True)
    assert "Approved and not merged" not in second


def find_one(repository: TrackedRepository) -> Wait:
    state = read_open(Team.objects.filter(pk=repository.team_id))
    [found] = [one for waits in state.turns.values() for one in waits]
    return found.wait


def ask_twice(story: Story) -> None:
    story.report("review_requested", asked=[ANN], requested_reviewer=ANN)
    story.review("ann", "COMMENTED", asked=[])
    story.report("review_requested", asked=[ANN], requested_reviewer=ANN)
    story.report("labeled", asked=[ANN], label={"name": "heavy"})


def ask_two(story: Story) -> None:
    story.report("review_requested", asked=[ANN], requested_reviewer=ANN)
    story.report("review_requested", asked=[ANN], teams=[SMITHS], requested_team=SMITHS)
    story.review("bob", "APPROVED", asked=[ANN])


def take_back(story: Story) -> None:
    story.report("review_requested", asked=[ANN], requested_reviewer=ANN)
    story.report("review_request_removed", asked=[], requested_reviewer=ANN)
    story.report("review_requested", asked=[BOB], requested_reviewer=BOB)


def redraft(story: Story) -> None:
    story.recording.pull["draft"] = True
    story.report("converted_to_draft", asked=[ANN])
    story.recording.pull["draft"] = False
    story.report("ready_for_review", asked=[ANN])
    story.report("labeled", asked=[ANN], label={"name": "heavy"})


def open_with_owners(story: Story) -> None:
    """GitHub asks the owners of the code within the second of the opening."""
    story.report("opened", asked=[])
    story.hour -= 1
    story.report("review_requested", asked=[ANN], requested_reviewer=ANN)
    story.hour -= 1
    story.report("review_requested", asked=[ANN, BOB], requested_reviewer=BOB)


STORIES = [
    pytest.param(ask_twice, 3, [("ann", 3)], id="asked again after a review"),
    pytest.param(ask_two, 1, [("ann", 1), ("smiths", 2)], id="a person and a team, one approved"),
    pytest.param(take_back, 0, [("bob", 3)], id="request taken back"),
    pytest.param(redraft, 2, [("ann", 2)], id="a draft for a while"),
    pytest.param(open_with_owners, 0, [("ann", 1), ("bob", 1)], id="asked as it was opened"),
]


@pytest.mark.parametrize(("tell_story", "since", "people"), STORIES)
def test_deliveries_tell_the_same_in_any_order_and_twice(
    repository: TrackedRepository,
    tell_story: Callable[[Story], None],
    since: int,
    people: list[tuple[str, int]],
) -> None:
    """GitHub promises no order, and a delivery may be sent twice."""
    story = Story()
    tell_story(story)
    # All orders of three, and every fourth of four.
    orders = list(permutations(range(len(story.deliveries))))
    for order in orders[:: len(orders) // 6]:
        PullRequest.objects.all().delete()
        repository.team.deliveries.all().delete()
        receive(story, [*order, order[0]], repository)
        found = find_one(repository)
        told = sorted((person.login, person.since) for person in found.people)
        assert (found.turn, found.since) == (Turn.REVIEW, hour(since)), order
        assert told == [(login, hour(when)) for login, when in people], order


def test_push_after_a_request_for_changes_asks_the_reviewer_again(
    repository: TrackedRepository,
) -> None:
    """The author has answered; from then on the pull request waits for the reviewer."""
    story = Story()
    story.report("opened", asked=[])
    story.review("ann", "CHANGES_REQUESTED", asked=[])
    receive(story, [0, 1], repository)
    before = find_one(repository)

    story.recording.pull["head"]["sha"] = "f" * 40
    story.report("synchronize", asked=[], before="a" * 40, after="f" * 40)
    receive(story, [2], repository)

    after = find_one(repository)
    assert (before.turn, before.since) == (Turn.AUTHOR, hour(2))
    assert (after.turn, after.since) == (Turn.REVIEW, hour(3))


def test_bots_that_are_asked_are_not_waited_for(repository: TrackedRepository) -> None:
    """One is a bot by GitHub's account type, one by the team's list."""
    repository.team.bot_logins = "Nightly"
    repository.team.save()
    copilot = user("copilot") | {"type": "Bot"}
    story = Story()
    story.report("labeled", asked=[copilot, user("nightly"), ANN], label={"name": "heavy"})
    receive(story, [0], repository)

    assert [person.login for person in find_one(repository).people] == ["ann"]


def test_list_of_reviewers_that_cannot_be_read_refuses_no_merge(
    repository: TrackedRepository,
) -> None:
    """GitHub's description calls the accounts in it nullable."""
    story = Story()
    story.report("opened", asked=[None, ANN])

    receive(story, [0], repository)

    assert list(find_one(repository).people) == []


# The page.

NOW = datetime.now(tz=OPENED_AT.tzinfo)


def add_open(repository: TrackedRepository, *, days: float, **more: Any) -> PullRequest:
    return PullRequestFactory(
        team=repository.team,
        repository=repository,
        github_repo=repository.full_name,
        pr_created_at=NOW - timedelta(days=days),
        **{"head_sha": "b", "review_requests": {"as_of": None, "asked": []}, **more},
    )


def sign_in(client: Client, *teams: Team) -> Client:
    user = UserFactory()
    for team in teams:
        team.members.add(user)
    client.force_login(user)
    return client


def read_page(client: Client, **query: str) -> str:
    return client.get(reverse("metrics_sync:waiting"), query).content.decode()


def test_page_lists_the_longest_wait_first_and_who_was_asked(
    client: Client, repository: TrackedRepository
) -> None:
    """The page is read from the top."""
    asked = {"github_id": 7, "login": "ann", "is_team": False}
    add_open(repository, days=1, title="Young")
    old = {"as_of": None, "asked": [asked]}
    add_open(repository, days=9, title="Old", review_requests=old)

    page = read_page(sign_in(client, repository.team))

    assert page.index("Old") < page.index("Young")
    assert "Wait for a review: 2" in page
    assert ">ann</span>" in page
    assert f"{NOW - timedelta(days=9):%Y-%m-%d %H:%M}" in page


def test_page_tells_apart_whose_turn_it_is(client: Client, repository: TrackedRepository) -> None:
    """Each kind of waiting is ended by somebody else: a reviewer, a maintainer, the author."""
    for number, state in enumerate(("approved", "changes_requested", "commented")):
        row = add_open(repository, days=number + 1)
        author = TeamMemberFactory(team=repository.team, github_id=50 + number)
        PRReviewFactory(
            pull_request=row, state=state, commit_sha="b", submitted_at=NOW, reviewer=author
        )
    add_open(repository, days=1, is_draft=True)
    add_open(repository, days=1, is_by_bot=True)

    page = read_page(sign_in(client, repository.team))

    assert "Approved and not merged: 1" in page
    assert "Requested changes unanswered: 1" in page
    assert "Wait for a review: 0" in page
    assert "1 drafts, 1 reviewed with comments alone, with nobody asked, 1 by bots" in page


def test_page_shows_nothing_of_another_team(client: Client, repository: TrackedRepository) -> None:
    """Titles and logins of other teams are confidential."""
    other = TrackedRepositoryFactory(full_name="secret/forge")
    add_open(other, days=2, title="Hidden")
    add_open(repository, days=1, title="Ours")

    page = read_page(sign_in(client, repository.team))
    named = read_page(client, team=other.team.slug, repository="secret/forge")

    assert "Ours" in page
    assert "Hidden" not in page + named
    assert "secret/forge" not in page
    assert "Nothing is shown" in named


def test_page_leaves_out_repositories_that_are_not_tracked(
    client: Client, repository: TrackedRepository
) -> None:
    """No webhook would report that these were merged, so they would wait for ever."""
    add_open(repository, days=1)
    repository.deactivate()

    assert "Wait for a review: 0" in read_page(sign_in(client, repository.team))


def test_page_needs_as_many_queries_for_many_rows(
    client: Client, repository: TrackedRepository, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """A query for each row would make the page slowest where most pull requests wait."""
    sign_in(client, repository.team)
    with django_assert_num_queries(9):
        read_page(client)
    for number in range(20):
        row = add_open(repository, days=number)
        PRReviewFactory(pull_request=row, submitted_at=NOW)
    with django_assert_num_queries(9):
        read_page(client)


def test_page_asks_who_has_not_signed_in(client: Client, repository: TrackedRepository) -> None:
    """Every page requires a user who has signed in."""
    answer = client.get(reverse("metrics_sync:waiting"))

    assert (answer.status_code, "/admin/login/" in answer["Location"]) == (302, True)
