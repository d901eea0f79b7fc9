"""The list behind a figure: it has the rows that the figure counts, and names its filters."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from metrics_sync.admin.drill_down import link_to_list
from metrics_sync.dashboard import By, Selection, compare, summarise
from metrics_sync.dashboard.measures import METRICS
from metrics_sync.dashboard.totals import FIVE_MINUTES, MINUTE
from metrics_sync.models import PullRequest, Team, TeamMember, TrackedRepository
from tests.factories import (
    PRReviewFactory,
    PullRequestFactory,
    TeamFactory,
    TeamMemberFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

NOW = timezone.now()
LIST = reverse("admin:metrics_sync_pullrequest_changelist")
PEOPLE = ("mona", "hubot", "renovate[bot]")


def find(client: Client, url: str) -> Any:
    page = client.get(url)
    assert page.status_code == 200
    return page


def count(user: User, url: str) -> int:
    """Count the rows of a list, without its page."""
    request = RequestFactory().get(url)
    request.user = user
    found = admin.site.get_model_admin(PullRequest).get_changelist_instance(request)
    return int(found.result_count)


def scatter(random: Random) -> list[Team]:
    """Make a dozen rows of two teams; a selection may include any of them."""
    repositories = [
        TrackedRepositoryFactory(full_name=name) for name in ("acme/anvil", "acme/bellows")
    ]
    for repository in repositories:
        repository.connected_at = NOW - timedelta(days=random.choice([3, 40]))
        repository.save()
    for number in range(12):
        repository = random.choice(repositories)
        merged_at = NOW - timedelta(days=random.uniform(0, 45))
        author = random.choice(PEOPLE)
        took = random.choice([None, 4, 10, 40, 200, 3000, 9000])
        row = PullRequestFactory(
            team=repository.team,
            github_repo=random.choice([repository.full_name, repository.full_name.upper()]),
            github_pr_number=number + 1,
            author_login=author,
            is_by_bot=author.endswith("[bot]"),
        )
        PullRequest.objects.filter(pk=row.pk).update(
            state=random.choice(["merged", "merged", "merged", "open", "closed"]),
            merged_at=merged_at,
            completed_at=took and merged_at + timedelta(seconds=took),
            sync_status=random.choice(["complete", "partial", "untracked"]),
            merged_without_review=random.choice([True, False, None]),
            review_rounds=random.choice([None, 0, 2]),
            review_wait_hours=random.choice([None, 3]),
            cycle_time_hours=random.choice([None, 30]),
        )
    return [repository.team for repository in repositories]


class TestMeaning(TestCase):
    @settings(max_examples=10)
    @given(
        seed=st.integers(0, 10_000),
        weeks=st.sampled_from([4, 12]),
        with_bots=st.booleans(),
        repository=st.sampled_from(["", "acme/anvil"]),
        has_team=st.booleans(),
    )
    def test_list_has_as_many_rows_as_the_figure_says(
        self, seed: int, weeks: int, with_bots: bool, repository: str, has_team: bool
    ) -> None:
        """If a list is longer or shorter than its figure, nobody trusts either."""
        teams = scatter(Random(seed))
        user = UserFactory(is_superuser=True)
        chosen = teams[:1] if has_team else teams
        selection = Selection(
            teams=Team.objects.filter(pk__in=[team.pk for team in chosen]),
            now=NOW,
            weeks=weeks,
            repository=repository,
            with_bots=with_bots,
        )
        totals, merges = summarise(selection).totals, selection.merges
        common = {
            "team": chosen[0] if has_team else None,
            "repository": repository,
            "merged_from": selection.since,
        }
        of_reviews = {**common, "bots": "" if with_bots else "without"}
        ours = merges if with_bots else merges.filter(is_by_bot=False)

        expected = {
            link_to_list(**common): merges.count(),
            link_to_list(**common, sync_status="partial"): merges.filter(
                sync_status="partial"
            ).count(),
            **{
                link_to_list(**common, took=place): number
                for place, number in enumerate([*totals.classes, totals.not_complete])
            },
            link_to_list(**common, took="within-60"): sum(totals.classes[:3]),
            link_to_list(**common, took="within-300"): sum(totals.classes[:4]),
            link_to_list(**common, took="late-60"): totals.late[MINUTE],
            link_to_list(**common, took="late-300"): totals.late[FIVE_MINUTES],
            link_to_list(**common, took="known"): totals.time_to_complete.count,
            **{
                link_to_list(**of_reviews, known=name): len(
                    [
                        row
                        for row in ours
                        if getattr(row, name) is not None
                        and (name != "review_rounds" or row.merged_without_review is not True)
                    ]
                )
                for name in METRICS
            },
            **{
                link_to_list(**of_reviews, author=login): len(
                    [row for row in ours if row.author_login == login]
                )
                for login in PEOPLE
            },
            link_to_list(**of_reviews, review="without"): len(
                [row for row in ours if row.merged_without_review]
            ),
        }

        assert {url: count(user, url) for url in expected} == expected


def test_list_of_a_week_ends_with_it(admin_client: Client) -> None:
    """A merge at midnight belongs to the week that begins."""
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    for merged_at in (monday, monday + timedelta(weeks=1)):
        PullRequestFactory(merged=True, merged_at=merged_at)

    url = link_to_list(merged_from=monday, merged_before=monday + timedelta(weeks=1))

    page = find(admin_client, url)
    assert [row.merged_at for row in page.context["cl"].result_list] == [monday]
    assert [chip.text for chip in page.context["chips"]] == [
        "state: Merged",
        "merged since 2026-03-02",
        "merged before 2026-03-09",
    ]


def add_reviewed(team: Team, **more: Any) -> PullRequest:
    return PullRequestFactory(merged=True, team=team, merged_without_review=False, **more)


def test_reviews_that_do_not_count_are_left_out(admin_client: Client) -> None:
    """One's own, one by a bot, and one that came later, as `reviewers` of docs/metrics.md says."""
    hubot: TeamMember = TeamMemberFactory(login="hubot")
    asked, late, own = (add_reviewed(hubot.team, author=author) for author in (None, None, hubot))
    for row in (asked, late, own):
        submitted_at = row.merged_at + timedelta(hours=1 if row is late else -1)
        PRReviewFactory(pull_request=row, reviewer=hubot, submitted_at=submitted_at)

    page = find(admin_client, link_to_list(reviewer=hubot.github_id))

    assert list(page.context["cl"].result_list) == [asked]


def test_renamed_reviewer_stays_one(admin_client: Client) -> None:
    """The account's id decides; the chip shows its current login."""
    hubot: TeamMember = TeamMemberFactory(login="hubot")
    row = add_reviewed(hubot.team)
    PRReviewFactory(
        pull_request=row, reviewer=hubot, reviewer_login="oldbot", submitted_at=row.merged_at
    )

    page = find(admin_client, link_to_list(reviewer=hubot.github_id))

    assert list(page.context["cl"].result_list) == [row]
    assert "reviewed by: hubot" in [chip.text for chip in page.context["chips"]]


@pytest.mark.parametrize("key", ["11", "hubot", "HuBot"])
def test_reviewer_is_found_by_id_or_login(admin_client: Client, key: str) -> None:
    """Addresses from before the ids, which somebody has kept, still lead to the same list."""
    hubot: TeamMember = TeamMemberFactory(login="hubot", github_id=11)
    row = add_reviewed(hubot.team)
    PRReviewFactory(pull_request=row, reviewer=hubot, submitted_at=row.merged_at)

    page = find(admin_client, link_to_list(reviewer=key))

    assert list(page.context["cl"].result_list) == [row]


def test_list_of_a_reviewer_has_the_rows_of_the_comparison(admin_client: Client) -> None:
    """An account may be a bot to one team and a person to another; unproven lists count nowhere."""
    kept, team_of_bot = TeamFactory(), TeamFactory(bot_logins="hubot")
    rows = [add_reviewed(team, merged_at=NOW) for team in (kept, team_of_bot, kept)]
    PullRequest.objects.filter(pk=rows[2].pk).update(merged_without_review=None)
    for row in rows:
        who, _ = TeamMember.objects.get_or_create(team=row.team, github_id=11, login="hubot")
        PRReviewFactory(pull_request=row, reviewer=who, submitted_at=row.merged_at)

    page = find(admin_client, link_to_list(reviewer="11"))
    [compared] = compare(Selection(Team.objects.all(), timezone.now()), By.REVIEWER)

    assert list(page.context["cl"].result_list) == rows[:1]
    assert (compared.key, compared.now.merged) == ("11", 1)


def test_late_merges_come_longest_first(admin_client: Client) -> None:
    """Who follows a missed promise looks for the longest times; incomplete merges come last."""
    merged_at = timezone.now() - timedelta(hours=2)
    for seconds in (90, None, 3000, 30):
        row = PullRequestFactory(merged=True, merged_at=merged_at)
        completed_at = None if seconds is None else merged_at + timedelta(seconds=seconds)
        PullRequest.objects.filter(pk=row.pk).update(completed_at=completed_at)

    page = find(admin_client, link_to_list(took="late-60"))

    rows = page.context["cl"].result_list
    took = [row.completed_at and (row.completed_at - merged_at).seconds for row in rows]
    assert took == [3000, 90, None]
    assert "not complete within 60 seconds" in [chip.text for chip in page.context["chips"]]


def test_durations_of_a_column_have_one_unit(admin_client: Client) -> None:
    """Readers compare the numbers of a column without reading their units."""
    for hours in (2, 100, 60):
        PullRequestFactory(merged=True, cycle_time_hours=hours)

    page = find(admin_client, LIST).content.decode()

    shown = re.findall(r'data-label="Cycle time">([^<]+)<', page)
    assert sorted(shown) == ["0.1 days", "2.5 days", "4.2 days"]


def test_times_that_nobody_edits_are_shown_as_everywhere(admin_client: Client) -> None:
    """The browser shows this element as a relative and an exact time in the reader's zone."""
    row: TrackedRepository = TrackedRepositoryFactory()
    url = reverse("admin:metrics_sync_trackedrepository_change", args=[row.pk])

    page = find(admin_client, url).content.decode()

    assert f'<time datetime="{row.connected_at.isoformat(timespec="seconds")}"' in page


def test_list_of_a_metric_begins_with_its_largest_values(admin_client: Client) -> None:
    """Who follows a 90th percentile looks for the longest times."""
    for hours in (2, 9, 5):
        PullRequestFactory(merged=True, cycle_time_hours=hours)

    page = find(admin_client, link_to_list(known="cycle_time_hours"))

    assert [row.cycle_time_hours for row in page.context["cl"].result_list] == [9, 5, 2]


def test_each_filter_is_taken_away_alone(admin_client: Client) -> None:
    """The chips above the list name its filters; removing one widens the list."""
    repository = TrackedRepositoryFactory()
    team = repository.team
    url = link_to_list(team=team, repository=repository.full_name, author="mona", bots="without")

    chips = find(admin_client, f"{url}&q=heavier&p=1").context["chips"]

    texts = [chip.text for chip in chips]
    assert texts == [
        f"team: {team}",
        f"repository: {repository.full_name}",
        "state: Merged",
        "author is a bot: no",
        "author: mona",
    ]
    for chip in chips:
        left = find(admin_client, f"{LIST}{chip.url}").context
        assert [one.text for one in left["chips"]] == [t for t in texts if t != chip.text]
        assert left["cl"].query == "heavier"


def test_back_leads_to_the_dashboard_as_it_was(admin_client: Client) -> None:
    """The way back remains after a filter was removed."""
    query = urlencode({"weeks": 52, "repository": "acme/anvil"})
    page = find(admin_client, link_to_list(author="mona", back=f"{query}&seen=1"))

    narrower = find(admin_client, f"{LIST}{page.context['chips'][0].url}")

    back = f"{reverse('admin:index')}?{query}"
    assert page.context["way_back"] == narrower.context["way_back"] == back


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("known=access_token", "There is no metric “access_token”."),
        ("known=etags", "There is no metric “etags”."),
        ("took=7", "There is no class “7” of times to complete."),
        ("took=-1", "There is no class “-1” of times to complete."),
        ("took=x", "There is no class “x” of times to complete."),
        ("review=maybe", "The filter “review before the merge” has no choice “maybe”."),
        ("bots=with", "The filter “author is a bot” has no choice “with”."),
        ("state__exact=gone", "The filter “state” has no choice “gone”."),
        ("sync_status__exact=gone", "The filter “sync status” has no choice “gone”."),
        ("team__id__exact=0", "The filter “team” has no choice “0”."),
        ("repository=acme/none", "None of your pull requests is of the repository “acme/none”."),
        ("merged_at__gte=soon", "A value in the address does not fit its filter."),
        ("merged_at__gte=soon&known=cycle_time_hours", "does not fit its filter."),
    ],
)
def test_value_that_does_not_fit_shows_nothing_and_says_why(
    admin_client: Client, query: str, reason: str
) -> None:
    """If all rows were shown, they would be taken for the answer."""
    PullRequestFactory(merged=True, cycle_time_hours=1)

    page = find(admin_client, f"{LIST}?{query}")

    assert page.context["cl"].result_count == 0
    assert reason in page.content.decode()
    assert page.context["chips"] == []


def test_no_filter_leads_to_another_team(client: Client, db: None) -> None:
    """No address may show another team's rows."""
    mine, theirs = PullRequestFactory(merged=True), PullRequestFactory(
        merged=True, team=TeamFactory(), github_repo="theirs/anvil", author_login="mona",
        cycle_time_hours=1, merged_without_review=True,
    )  # fmt: skip
    PRReviewFactory(pull_request=theirs, reviewer_login="hubot")
    mine.team.members.add(user := UserFactory())
    client.force_login(user)

    narrowing = [
        {"team": theirs.team}, {"repository": "theirs/anvil"}, {"author": "mona"},
        {"reviewer": "hubot"}, {"answered_by": "hubot"}, {"known": "cycle_time_hours"},
        {"review": "without"},
    ]  # fmt: skip

    assert [find(client, link_to_list(**one)).context["cl"].result_count for one in narrowing] == [
        0
    ] * 7
    refused = find(client, link_to_list(repository="theirs/anvil")).content.decode()
    assert "None of your pull requests is of the repository" in refused


def test_no_class_is_styled_twice() -> None:
    """A later rule for one page would change the look of another page."""
    path = finders.find("metrics_sync/theme.css")
    selectors = re.findall(r"^(\.[\w-]+) \{", Path(str(path)).read_text(), flags=re.MULTILINE)

    assert [name for name, count in Counter(selectors).items() if count > 1] == []
    assert {".chip", ".chips"} <= set(selectors)
