"""The dashboard: its numbers for known rows, and how the first page shows them."""

import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from redis import Redis
from rq import Queue
from rq.job import Job

from metrics_sync.admin.labels import UNKNOWN
from metrics_sync.dashboard import (
    CurrentState,
    Selection,
    Span,
    Spread,
    Summary,
    read_current_state,
    summarise,
)
from metrics_sync.models import (
    IntegrationCredential,
    PullRequest,
    Team,
    TrackedRepository,
)
from metrics_sync.work.counts import note_silent_end
from tests.factories import (
    MERGED_AT,
    GitHubIntegrationFactory,
    IntegrationCredentialFactory,
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

#: A Tuesday.
NOW = MERGED_AT + timedelta(days=1)
SECOND, WEEK = timedelta(seconds=1), timedelta(weeks=1)


@pytest.fixture
def team(db: None) -> Team:
    return TeamFactory()


def make_merge(
    team: Team, *, seconds: float | None = None, sync_status: str = "pending", **values: Any
) -> PullRequest:
    """Make a merged pull request; with `seconds`, it was complete that long after its merge."""
    row = PullRequestFactory(merged=True, team=team, **values)
    if seconds is not None:
        row.completed_at, sync_status = row.merged_at + timedelta(seconds=seconds), "complete"
    # A new merged row is always pending, so its status is changed afterwards.
    row.sync_status = sync_status
    row.save()
    return row


def select(**values: Any) -> Selection:
    return Selection(**{"teams": Team.objects.all(), "now": NOW, **values})


def read_summary(**values: Any) -> Summary:
    return summarise(select(**values))


def read(**values: Any) -> CurrentState:
    return read_current_state(select(**values))


@pytest.mark.parametrize(
    ("now", "weeks", "since"),
    [
        pytest.param(datetime(2026, 3, 3, 9, tzinfo=UTC), 4, date(2026, 2, 9), id="a Tuesday"),
        pytest.param(datetime(2026, 3, 2, tzinfo=UTC), 4, date(2026, 2, 9), id="a Monday"),
        pytest.param(datetime(2026, 3, 1, 23, tzinfo=UTC), 4, date(2026, 2, 2), id="a Sunday"),
        pytest.param(datetime(2026, 3, 3, tzinfo=UTC), 52, date(2025, 3, 10), id="a year"),
    ],
)
def test_period_has_whole_weeks_and_the_running_one(now: datetime, weeks: int, since: date) -> None:
    """Half a week at the left end of a chart would look like a drop."""
    begin = Selection(Team.objects.none(), now, weeks).since

    assert begin == datetime(since.year, since.month, since.day, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "since", "until"),
    [
        pytest.param(
            {"weeks": 4}, NOW - timedelta(days=1, hours=12, weeks=7), NOW - 4 * WEEK, id="weeks"
        ),
        pytest.param(
            {"chosen": Span.of_days(date(2026, 2, 1), date(2026, 2, 10))},
            datetime(2026, 1, 22, tzinfo=UTC),
            datetime(2026, 2, 1, tzinfo=UTC),
            id="days",
        ),
    ],
)
def test_period_before_is_of_equal_length(
    values: dict[str, Any], since: datetime, until: datetime
) -> None:
    """Compared with a longer period, or with other days of the week, all would seem to change."""
    selection = Selection(Team.objects.none(), NOW, **values)

    assert selection.before.span == Span(since, until)
    own = (selection.span.until or NOW) - selection.since
    assert until - since == own


def test_first_and_last_day_of_a_period_count(team: Team) -> None:
    """Who selects March means all of it, and nothing of April."""
    march = Span.of_days(date(2026, 3, 1), date(2026, 3, 31))
    for at in (march.since, march.until, march.since - SECOND):
        make_merge(team, merged_at=at)
    last = make_merge(team, merged_at=march.until - SECOND if march.until else None)

    state = read(chosen=march)

    assert (state.merged, state.latest[0]) == (2, last)


def test_steps_of_a_period_cover_it_without_gaps(team: Team) -> None:
    """A merge that is in no week of the chart would be missing without a trace."""
    for first, last, days in (("2026-01-07", "2026-03-03", 7), ("2024-02-10", "2026-03-03", 31)):
        chosen = Span.of_days(date.fromisoformat(first), date.fromisoformat(last))
        steps = select(chosen=chosen).steps
        spans = [step.span for step in steps]

        assert (spans[0].since, spans[-1].until) == (chosen.since, chosen.until)
        assert all(one.until == next_.since for one, next_ in pairwise(spans))
        assert all(one.until and one.until - one.since <= timedelta(days=days) for one in spans)


def test_long_period_is_told_by_month(team: Team) -> None:
    """Five hundred points in a chart show nothing."""
    make_merge(team, merged_at=datetime(2024, 5, 31, 23, tzinfo=UTC), cycle_time_hours=4)

    points = read_summary(chosen=Span.of_days(date(2024, 1, 1), date(2026, 3, 3))).points

    assert len(points) == 27
    assert [point.begins_on for point in points if point.merged] == [date(2024, 5, 1)]
    assert points[4].metrics["cycle_time_hours"] == Spread(4, 4, 1)


def test_merges_are_counted_by_status(team: Team) -> None:
    """Merges that are not complete must be visible at once."""
    make_merge(team, seconds=1)
    for status in ("failed", "partial", "pending", "queued", "untracked"):
        make_merge(team, sync_status=status)

    state = read()

    assert state.statuses["failed"] == 1
    assert (state.merged, state.complete, state.waiting, state.in_trouble) == (6, 1, 2, 2)


def test_merge_that_is_fetched_again_counts_as_complete(team: Team) -> None:
    """A merge that is fetched again after a comment has all its data already."""
    row = make_merge(team, seconds=1)
    PullRequest.objects.filter(pk=row.pk).update(sync_status="running")

    state = read()

    assert (state.complete, state.waiting) == (1, 0)


def test_only_selected_merges_count(team: Team) -> None:
    """A number must not include other teams, repositories or years."""
    make_merge(team, merged_at=NOW - timedelta(weeks=5))
    make_merge(TeamFactory(), github_repo="acme/hammer")
    make_merge(team, github_repo="acme/tongs")
    PullRequestFactory(team=team, github_repo="acme/hammer")
    mine = make_merge(team, github_repo="acme/hammer")

    teams = Team.objects.filter(pk=team.pk)
    state = read(teams=teams, repository="Acme/Hammer", weeks=4)

    assert state.latest == [mine]
    assert state.merged == 1


def test_incomplete_merges_are_listed_newest_first(team: Team) -> None:
    """They are what is left to do, and somebody most likely waits for the newest."""
    older = make_merge(team, sync_status="failed", merged_at=MERGED_AT - timedelta(hours=1))
    newer = make_merge(team, sync_status="partial")
    make_merge(team, seconds=1)

    assert read().incomplete == [newer, older]


def test_speed_is_that_of_the_completed(team: Team) -> None:
    """Shares, percentiles and classes are of the same times."""
    for seconds in (1, 2, 3, 60, 61, 100, 300, 301, 400, 5000):
        make_merge(team, seconds=seconds)

    summary = read_summary()

    assert (summary.totals.share_within_minute, summary.totals.share_within_five_minutes) == (
        0.4,
        0.7,
    )
    assert summary.totals.time_to_complete == Spread(
        timedelta(seconds=61), timedelta(seconds=400), 10
    )
    assert summary.totals.classes == [3, 0, 1, 3, 2, 1]
    assert summary.totals.not_complete == 0


def test_classes_and_what_is_not_complete_add_up(team: Team) -> None:
    """Otherwise the classes would sum to 100 % beside a completeness of 96 %."""
    make_merge(team, seconds=1)
    for status in ("failed", "pending", "untracked"):
        make_merge(team, sync_status=status)

    summary = read_summary()

    assert (sum(summary.totals.classes), summary.totals.not_complete) == (1, 2)


@pytest.mark.parametrize(
    ("minutes", "values", "shares"),
    [
        pytest.param(0.5, {}, (1.0, 1.0), id="has time left"),
        pytest.param(3, {}, (0.5, 1.0), id="has missed the minute"),
        pytest.param(9, {"sync_status": "failed"}, (0.5, 0.5), id="failed"),
        pytest.param(9, {"sync_status": "untracked"}, (1.0, 1.0), id="is nobody's"),
    ],
)
def test_promise_is_missed_by_what_never_completes(
    team: Team, minutes: float, values: dict[str, Any], shares: tuple[float, float]
) -> None:
    """A share of the completed merges alone would be 100 % while nothing completes."""
    make_merge(team, seconds=1)
    make_merge(team, merged_at=NOW - timedelta(minutes=minutes), **values)

    summary = read_summary()

    assert (summary.totals.share_within_minute, summary.totals.share_within_five_minutes) == shares


def test_merges_from_before_the_connection_break_no_promise(team: Team) -> None:
    """A backfill of older merges would otherwise raise an alarm that nobody can end."""
    connected_at = MERGED_AT - timedelta(hours=1)
    for owner in (team, TeamFactory()):
        TrackedRepositoryFactory(team=owner, full_name="Acme/Anvil")
    TrackedRepository.objects.filter(team=team).update(connected_at=connected_at)
    TrackedRepository.objects.exclude(team=team).update(connected_at=NOW)
    make_merge(team, seconds=1)
    make_merge(team, seconds=90_000, merged_at=connected_at - timedelta(days=1), review_rounds=7)

    summary = read_summary()

    assert summary.totals.share_within_five_minutes == 1
    assert summary.totals.classes == [1, 0, 0, 0, 0, 0]
    assert summary.totals.metrics["review_rounds"] == Spread(7, 7, 1)


def test_weeks_have_median_and_90th_percentile(team: Team) -> None:
    """PostgreSQL and SQLite must find the same, by rank and in whole weeks of UTC."""
    sunday = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    for hours in range(1, 10):
        make_merge(team, merged_at=sunday, review_wait_hours=hours, review_rounds=hours % 3)
    make_merge(team, merged_at=sunday + timedelta(minutes=1), review_wait_hours="2.50")
    make_merge(team, merged_at=sunday)

    weeks = read_summary(weeks=4).points

    assert [week.begins_on.day for week in weeks] == [9, 16, 23, 2]
    assert [week.merged for week in weeks] == [0, 0, 10, 1]
    waits = [week.metrics["review_wait_hours"] for week in weeks]
    assert waits == [Spread(), Spread(), Spread(5, 9, 9), Spread(2.5, 2.5, 1)]
    assert weeks[2].metrics["review_rounds"] == Spread(1, 2, 9)


def test_slowest_reviews_come_first(team: Team) -> None:
    """Each of them is somebody who waited."""
    rows = [make_merge(team, review_wait_hours=hours) for hours in (1, 9, 5)]
    make_merge(team)

    assert read_summary().slowest == [rows[1], rows[2], rows[0]]


def test_without_merges_all_is_unknown(db: None) -> None:
    """Zero percent would look like an alarm."""
    summary = read_summary()

    assert (summary.totals.share_within_minute, summary.totals.share_within_five_minutes) == (
        None,
        None,
    )
    assert summary.totals.time_to_complete == Spread()
    assert set(summary.totals.metrics.values()) == {Spread()}
    assert len(summary.points) == 12


def test_number_of_queries_is_constant(admin_client: Client, team: Team) -> None:
    """The page is opened more often than any other."""
    make_merge(team, seconds=1, merged_at=timezone.now())
    TrackedRepositoryFactory(team=team)
    read_page(admin_client)
    with CaptureQueriesContext(connection) as few:
        read_page(admin_client)
    for seconds in range(30):
        repository = TrackedRepositoryFactory()
        make_merge(repository.team, seconds=seconds, merged_at=timezone.now())
    little = {"rate_limit": 5000, "rate_limit_remaining": 600}
    IntegrationCredential.objects.update(
        **little, rate_limit_resets_at=timezone.now() + timedelta(hours=1)
    )

    with CaptureQueriesContext(connection) as many:
        read_page(admin_client)

    assert len(many) == len(few)


def read_page(client: Client, query: str = "") -> str:
    response = client.get(reverse("admin:index") + query)
    assert response.status_code == 200
    return response.content.decode()


def test_page_shows_the_numbers(admin_client: Client, team: Team) -> None:
    """The page must show what the queries find."""
    TrackedRepositoryFactory(team=team)
    TrackedRepository.objects.update(connected_at=None)
    earlier = timezone.now() - timedelta(minutes=4)
    make_merge(team, seconds=3, merged_at=earlier, github_repo="acme/fast", review_wait_hours=3)
    make_merge(team, seconds=200, merged_at=earlier)
    make_merge(team, merged_at=timezone.now(), sync_status="failed", sync_error="files: gone")

    page = read_page(admin_client)

    for text in ("1 failed", "2 complete", "50 %", "100 %", "over 99%", "3.0 s", "acme/fast"):
        assert text in page
    assert "files: gone" in page
    assert "9 of 10 within 3.0 h" in page


@pytest.mark.parametrize(
    ("hours", "text"),
    [
        pytest.param(6, "50 % longer than 4.0 h", id="longer"),
        pytest.param(3, "25 % shorter than 4.0 h", id="shorter"),
        pytest.param(4, "= as before", id="equal"),
    ],
)
def test_page_compares_with_the_period_before_of_own_teams(
    client: Client, team: Team, hours: int, text: str
) -> None:
    """A lead looks for where reviews got slower; words say it to those who do not see colours."""
    user = UserFactory()
    team.members.add(user)
    client.force_login(user)
    TrackedRepositoryFactory(team=team)
    earlier = timezone.now() - 12 * WEEK
    make_merge(team, merged_at=timezone.now(), cycle_time_hours=hours)
    make_merge(team, merged_at=earlier, cycle_time_hours=4)
    for _ in range(3):
        make_merge(TeamFactory(), merged_at=earlier, cycle_time_hours=1)

    page = read_page(client)

    assert text in page
    # In the figure and in the repository's row: merges always, cycle time only if it is equal.
    assert page.count("= as before") == (4 if hours == 4 else 2)


def test_page_shows_unknown_as_a_dash(admin_client: Client, team: Team) -> None:
    """Zero would claim a measurement that nobody made."""
    TrackedRepositoryFactory(team=team)

    page = read_page(admin_client)

    assert page.count(UNKNOWN) >= 8
    assert "0 %" not in page


def test_choices_of_the_selection_are_of_own_teams(client: Client, team: Team) -> None:
    """The names of other teams' repositories are confidential."""
    user = UserFactory()
    team.members.add(user)
    client.force_login(user)
    TrackedRepositoryFactory(team=team, full_name="acme/mine")
    foreign = TrackedRepositoryFactory(full_name="acme/foreign")
    make_merge(foreign.team, merged_at=timezone.now(), github_repo="acme/foreign")

    page = read_page(client, f"?team={foreign.team.slug}&repository=acme/foreign")

    assert "acme/mine" in page
    assert page.count("is not one of the available choices") == 2
    assert foreign.team.name not in page
    assert "No merges in the last 12 weeks" in page


@pytest.mark.parametrize(
    "query",
    [
        "?repository=acme/unknown",
        "?team=unknown",
        "?weeks=5",
        "?from=yesterday",
        "?to=2026-03-02",
        "?from=2026-03-02&to=2026-03-01",
        "?from=2026-03-02&to=9999-12-31",
        "?from=0001-01-01",
        "?from=2008-01-01&to=2026-01-01",
    ],
)
def test_choice_that_does_not_exist_shows_nothing_and_says_why(
    admin_client: Client, team: Team, query: str
) -> None:
    """If all merges were shown, they would be taken for those of the chosen repository."""
    TrackedRepositoryFactory(team=team)
    make_merge(team, merged_at=timezone.now(), github_repo="acme/known")

    page = read_page(admin_client, query)

    assert "Nothing is shown" in page
    assert "acme/known" not in page
    assert "Connect the first repository" not in page


def test_page_says_which_tokens_are_refused_and_what_others_have_left(
    admin_client: Client, team: Team
) -> None:
    """A refused token stops every pull request of its team until somebody replaces it."""
    IntegrationCredentialFactory(team__name="Refused").mark_revoked()
    IntegrationCredentialFactory(
        rate_limit=5000,
        rate_limit_remaining=4321,
        rate_limit_resets_at=timezone.now() + timedelta(minutes=5),
    )

    page = read_page(admin_client)

    assert "the personal access token of Refused" in page
    assert "4321 of 5000" in page


def test_operator_sees_that_work_does_not_come_to_its_end(
    admin_client: Client, client: Client, team: Team, redis: Redis
) -> None:
    """Rows could stay queued for ever while the page looked healthy."""
    queue = Queue("pr-data", connection=redis)
    for number in range(9):
        job = Job.create(print, id=str(number), origin=queue.name, connection=redis)
        note_silent_end(job, "TypeError: <trace>")

    page = read_page(admin_client)
    team.members.add(member := UserFactory())
    client.force_login(member)

    assert "ended without reporting an error: 9" in page
    assert "TypeError: &lt;trace&gt;" in page
    assert "no round was completed yet" in page
    assert "ended without reporting an error" not in read_page(client)


def test_page_says_how_many_lists_disagree(admin_client: Client, team: Team) -> None:
    """These lists are complete, but their length is not the one that GitHub states."""
    TrackedRepositoryFactory(team=team)
    make_merge(team, merged_at=timezone.now(), disagreeing=["files"])

    assert "counts in two ways: 1." in read_page(admin_client)


def test_budget_of_an_hour_that_is_over_is_unknown(admin_client: Client, team: Team) -> None:
    """GitHub has reset the budget since, and has not reported the new one."""
    IntegrationCredentialFactory(
        rate_limit_remaining=4321, rate_limit_resets_at=timezone.now() - timedelta(minutes=5)
    )

    assert "4321" not in read_page(admin_client)


def test_page_says_how_to_begin(admin_client: Client, team: Team) -> None:
    """An empty page is what every new installation shows first."""
    command = f"manage.py connect OWNER/NAME --team {team.slug} --token-stdin"

    assert command in read_page(admin_client)


def test_page_says_how_to_find_older_merges(admin_client: Client, team: Team) -> None:
    """Webhooks report new merges only."""
    TrackedRepositoryFactory(team=team)

    assert "manage.py reconcile --discover --since 20" in read_page(admin_client)


def test_user_without_team_is_told_so(client: Client, team: Team) -> None:
    """Otherwise the empty page would look like a failure."""
    client.force_login(UserFactory())

    assert "You are in no team yet" in read_page(client)


def test_organisation_with_a_thousand_repositories_has_a_dashboard(team: Team) -> None:
    """Each was connected within the period; the query's size must not depend on their number."""
    integration = GitHubIntegrationFactory(team=team)
    TrackedRepository.objects.bulk_create(
        TrackedRepository(team=team, integration=integration, full_name=f"acme/r{n}")
        for n in range(1100)
    )
    make_merge(team, seconds=1, merged_at=timezone.now())

    summary = summarise(Selection(Team.objects.all(), timezone.now()))

    assert summary.has_repositories


def test_status_leads_to_the_rows_that_it_counts(admin_client: Client, team: Team) -> None:
    """One pending merge must not lead to a list of another repository's."""
    make_merge(team, github_repo="acme/anvil", merged_at=timezone.now())
    make_merge(team, github_repo="acme/hammer", merged_at=timezone.now())
    make_merge(team, github_repo="acme/anvil", merged_at=timezone.now() - timedelta(weeks=30))
    TrackedRepositoryFactory(team=team, full_name="Acme/Anvil")

    page = read_page(admin_client, f"?team={team.slug}&repository=Acme%2FAnvil&weeks=4")
    [url] = re.findall(r'href="([^"]+sync_status__exact=pending[^"]*)"', page)
    rows = admin_client.get(unescape(url)).context["cl"].result_list

    assert [row.github_repo for row in rows] == ["acme/anvil"]


def measure(team: Team, **values: Any) -> None:
    """Make a merged pull request that has metrics."""
    row = make_merge(team)
    PullRequest.objects.filter(pk=row.pk).update(**values)


def test_rounds_are_of_those_that_were_reviewed(team: Team) -> None:
    """If half is merged without a review, a median of 0 rounds says nothing about reviews."""
    for _ in range(3):
        measure(team, review_rounds=0, merged_without_review=True)
    measure(team, review_rounds=2, review_wait_hours=1, merged_without_review=False)

    summary = read_summary()

    assert summary.totals.metrics["review_rounds"].median == 2
    assert summary.points[-1].metrics["review_rounds"].median == 2
    assert summary.totals.share_without_review == 0.75


def test_pull_requests_by_bots_are_left_out_unless_asked_for(team: Team) -> None:
    """They merge by themselves within minutes, and nobody reviews them."""
    measure(team, cycle_time_hours=10, review_wait_hours=5, merged_without_review=False)
    bot = {"is_by_bot": True, "merged_without_review": True, "review_wait_hours": 99}
    for _ in range(3):
        measure(team, cycle_time_hours=1, **bot)

    people, everybody = read_summary(), read_summary(with_bots=True)

    assert read_current_state(select()).by_bots == 3
    assert (people.totals.share_without_review, everybody.totals.share_without_review) == (0, 0.75)
    assert people.totals.metrics["cycle_time_hours"].median == 10
    assert everybody.totals.metrics["cycle_time_hours"].median == 1
    assert (people.points[-1].merged, everybody.points[-1].merged) == (1, 4)
    assert [len(one.slowest) for one in (people, everybody)] == [1, 4]


def test_days_between_two_periods_count_in_neither(team: Team) -> None:
    """Both have the same days of the week, so the last days of the week before are in none."""
    selection = select()
    begin, end = selection.since, selection.before.span.until
    assert end is not None
    for hours, merged_at in ((1, end - SECOND), (2, end), (2, begin - SECOND), (3, begin)):
        measure(
            team,
            cycle_time_hours=hours,
            merged_at=merged_at,
            completed_at=merged_at + SECOND,
        )

    summary = summarise(selection)

    assert (summary.totals.merged, summary.before.merged) == (1, 1)
    assert summary.totals.metrics["cycle_time_hours"] == Spread(3, 3, 1)
    assert summary.before.metrics["cycle_time_hours"] == Spread(1, 1, 1)
    assert (summary.totals.time_to_complete.count, summary.before.time_to_complete.count) == (1, 1)


def test_page_says_which_pull_requests_its_reviews_are_of(team: Team, client: Client) -> None:
    """A figure is understood only with the pull requests that it includes."""
    measure(team, merged_without_review=True)
    measure(team, merged_without_review=False)
    measure(team, is_by_bot=True)
    client.force_login(UserFactory(is_superuser=True))
    PullRequest.objects.update(merged_at=timezone.now())

    plain = client.get(reverse("admin:index")).content.decode()
    whole = client.get(reverse("admin:index"), {"bots": "with"}).content.decode()

    assert "50 %" in plain
    assert "1 of 2" in plain
    assert "Pull requests by bots are left out: 1." in plain
    assert "are left out: " not in whole
