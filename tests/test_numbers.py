"""The numbers of the pages, compared with SQL written separately, over random pull requests."""

# ruff: noqa: S608  (all of the SQL is our own)

from datetime import datetime, timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from metrics_sync.dashboard import (
    METRICS,
    Selection,
    read_current_state,
    read_open,
    read_reviewers,
    read_totals,
)
from metrics_sync.models import PRReview, PRTimelineEvent, PullRequest, Team, TeamMember
from tests.factories import TeamFactory, TeamMemberFactory, TrackedRepositoryFactory

pytestmark = pytest.mark.django_db

NOW = timezone.now().replace(microsecond=0)
ROWS = 120


class Chance:
    """Writes pull requests of few people, close in time, so that much coincides."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.team = TeamFactory()
        self.repository = TrackedRepositoryFactory(team=self.team, full_name="acme/anvil")
        type(self.repository).objects.update(connected_at=NOW - timedelta(days=20))
        self.people = [TeamMemberFactory(team=self.team, github_id=n) for n in range(1, 5)]
        self.people.append(TeamMemberFactory(team=self.team, github_id=5, is_bot=True))

    def choose(self, *values: Any) -> Any:
        return self.random.choice(values)

    def after(self, moment: datetime, *, hours: int) -> datetime:
        return moment + timedelta(hours=self.random.randint(-2, hours))

    def add(self, number: int) -> None:
        opened_at = NOW - timedelta(hours=self.random.randint(1, 24 * 40))
        merged_at = opened_at + timedelta(hours=self.random.randint(0, 60))
        is_merged = merged_at <= NOW and self.random.random() < 0.8
        row = PullRequest.objects.create(
            team=self.team,
            repository=self.repository,
            github_repo="acme/anvil",
            github_pr_id=number,
            github_pr_number=number,
            state="merged" if is_merged else "open",
            merged_at=merged_at if is_merged else None,
            is_draft=not is_merged and self.choose(True, False),
            author=self.choose(None, *self.people),
            is_by_bot=self.random.random() < 0.2,
            pr_created_at=opened_at,
            ready_at=self.choose(None, opened_at, self.after(opened_at, hours=9)),
            merged_without_review=self.choose(None, True, False, False, False),
            **{name: self.choose(None, self.random.randint(0, 9)) for name in METRICS},
        )
        delay = self.choose(None, 4, 5, 14, 60, 200, 301, 4000)
        PullRequest.objects.filter(pk=row.pk).update(
            sync_status="untracked" if number % 7 == 0 else "complete",
            completed_at=delay and merged_at + timedelta(seconds=delay),
        )
        self.add_reviews(row, opened_at)

    def add_reviews(self, row: PullRequest, opened_at: datetime) -> None:
        for number in range(self.random.randint(0, 4)):
            who = self.choose(None, *self.people)
            PRReview.objects.create(
                team=self.team,
                pull_request=row,
                github_review_id=row.pk * 10 + number,
                reviewer=who,
                reviewer_login=who.login if who else "ghost",
                state=self.choose("approved", "changes_requested", "commented"),
                submitted_at=self.choose(None, *[self.after(opened_at, hours=70)] * 5),
            )
        for number in range(self.random.randint(0, 4)):
            PRTimelineEvent.objects.create(
                team=self.team,
                pull_request=row,
                github_event_id=row.pk * 10 + number,
                event=self.choose("review_requested", "ready_for_review"),
                created_at=self.after(opened_at, hours=40),
                subject_github_id=self.choose(*self.people).github_id,
            )


@pytest.fixture(params=[1, 2, 3], ids="seed {}".format)
def selection(request: pytest.FixtureRequest) -> Selection:
    chance = Chance(request.param)
    for number in range(1, ROWS + 1):
        chance.add(number)
    return Selection(Team.objects.all(), NOW, weeks=4)


def ask(sql: str, **parameters: Any) -> list[Any]:
    if connection.vendor == "sqlite":
        # It stores times as text, without a zone.
        times = {name: v for name, v in parameters.items() if isinstance(v, datetime)}
        parameters |= {name: f"{time:%Y-%m-%d %H:%M:%S}" for name, time in times.items()}
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


def ask_one(sql: str, **parameters: Any) -> Any:
    [[value]] = ask(sql, **parameters)
    return value


def seconds(end: str, start: str) -> str:
    """Return the SQL of whole seconds between two times, in the words of this database."""
    if connection.vendor == "sqlite":
        return f"CAST(ROUND((julianday({end}) - julianday({start})) * 86400) AS INTEGER)"
    return f"CAST(EXTRACT(EPOCH FROM {end} - {start}) AS INTEGER)"


MERGES = """FROM metrics_sync_pullrequest p
    WHERE p.state = 'merged' AND p.merged_at >= %(since)s"""
#: Since the repository was connected.
IN_TIME = f"""{MERGES} AND NOT EXISTS (
    SELECT * FROM metrics_sync_trackedrepository t
    WHERE t.id = p.repository_id AND t.connected_at > p.merged_at)"""
#: Merges of people, with the nearest-rank percentiles of one column.
RANKED = """SELECT
    (SELECT COUNT(*) FROM known),
    (SELECT value FROM known WHERE place = (total + 1) / 2),
    (SELECT value FROM known WHERE place = (total * 9 + 9) / 10)"""


def rank(values: str) -> str:
    return f"""WITH given AS ({values}), known AS (
        SELECT value, ROW_NUMBER() OVER (ORDER BY value) AS place, COUNT(*) OVER () AS total
        FROM given WHERE value IS NOT NULL) {RANKED}"""


def test_figures_of_reviews_are_those_of_sql(selection: Selection) -> None:
    """Counts, medians and 90th percentiles of four metrics: sixteen numbers."""
    since, (found, _) = selection.since, read_totals(selection)
    people = f"{MERGES} AND NOT p.is_by_bot"

    assert found.merged == ask_one(f"SELECT COUNT(*) {people}", since=since)
    assert read_current_state(selection).by_bots == ask_one(
        f"SELECT COUNT(*) {MERGES} AND p.is_by_bot", since=since
    )
    unseen = f"SELECT COUNT(*) {people} AND p.merged_without_review"
    assert found.without_review == ask_one(unseen, since=since)
    known = f"SELECT COUNT(p.merged_without_review) {people}"
    assert found.review_is_known == ask_one(known, since=since)
    for name in METRICS:
        reviewed = "AND p.merged_without_review IS NOT TRUE" if name == "review_rounds" else ""
        [[count, *shares]] = ask(rank(f"SELECT p.{name} AS value {people} {reviewed}"), since=since)
        spread = found.metrics[name]
        told = [None if share is None else float(share) for share in shares]
        assert [spread.count, spread.median, spread.p90] == [count, *told], name


def test_figures_of_completeness_are_those_of_sql(selection: Selection) -> None:
    """What the service promises, and its classes: twelve numbers."""
    since, (found, _) = selection.since, read_totals(selection)
    took = seconds("p.completed_at", "p.merged_at")
    tracked = "p.sync_status <> 'untracked'"

    for limit, share in (
        (60, found.share_within_minute),
        (300, found.share_within_five_minutes),
    ):
        within = ask_one(f"SELECT COUNT(*) {IN_TIME} AND {took} <= {limit}", since=since)
        late = f"""SELECT COUNT(*) {IN_TIME} AND {tracked}
            AND (p.completed_at IS NULL OR {took} > {limit}) AND p.merged_at <= %(due)s"""
        rest = ask_one(late, since=since, due=NOW - timedelta(seconds=limit))
        assert share == within / (within + rest)
    edges = [-1, 5, 15, 60, 300, 3600, 10**9]
    for place, (low, high) in enumerate(pairwise(edges)):
        counted = f"SELECT COUNT(*) {IN_TIME} AND {took} > {low} AND {took} <= {high}"
        assert found.classes[place] == ask_one(counted, since=since)
    waiting = f"SELECT COUNT(*) {IN_TIME} AND {tracked} AND p.completed_at IS NULL"
    assert found.not_complete == ask_one(waiting, since=since)
    [[count, *shares]] = ask(rank(f"SELECT {took} AS value {IN_TIME}"), since=since)
    spread = found.time_to_complete
    told = [spread.median.total_seconds(), spread.p90.total_seconds()]
    assert [spread.count, *told] == [count, *shares]


#: The first counted review of each pull request by each person.
FIRSTS = """SELECT r.reviewer_id AS who, r.pull_request_id AS pr, COUNT(*) AS reviews,
        MIN(r.submitted_at) AS first_at
    FROM metrics_sync_prreview r
    JOIN metrics_sync_pullrequest p ON p.id = r.pull_request_id
    JOIN metrics_sync_teammember m ON m.id = r.reviewer_id
    WHERE p.state = 'merged' AND p.merged_at >= %(since)s AND NOT p.is_by_bot AND NOT m.is_bot
        AND r.submitted_at <= p.merged_at AND p.merged_without_review = FALSE
        AND r.reviewer_id <> COALESCE(p.author_id, 0)
    GROUP BY r.reviewer_id, r.pull_request_id"""
#: When it was ready, or, if that is later, when this person was first asked before.
BEGAN = """(SELECT MAX(moment) FROM (
    SELECT p.ready_at AS moment UNION ALL
    SELECT MIN(e.created_at) FROM metrics_sync_prtimelineevent e
    JOIN metrics_sync_teammember m ON m.id = f.who AND m.github_id = e.subject_github_id
    WHERE e.pull_request_id = f.pr AND e.event = 'review_requested' AND e.created_at <= f.first_at
) moments)"""


def test_numbers_of_reviewers_are_those_of_sql(selection: Selection) -> None:
    """Five numbers for each person."""
    since = selection.since
    found = {one.github_id: one for one in read_reviewers(selection, read_open(selection.teams))}
    counts = ask(f"SELECT who, SUM(reviews), COUNT(*) FROM ({FIRSTS}) f GROUP BY who", since=since)

    assert len(found) == len(counts) > 2
    for who, reviews, pull_requests in counts:
        one = found[TeamMember.objects.get(pk=who).github_id]
        answers = f"""SELECT {seconds("first_at", "began_at")} AS value FROM (
            SELECT f.first_at, {BEGAN} AS began_at FROM ({FIRSTS}) f
            JOIN metrics_sync_pullrequest p ON p.id = f.pr
            WHERE f.who = %(who)s AND p.ready_at IS NOT NULL) waits WHERE began_at <= first_at"""
        [[count, *shares]] = ask(rank(answers), since=since, who=who)
        told = [one.median, one.p90]
        assert (one.reviews, one.pull_requests) == (reviews, pull_requests)
        assert one.answers == count
        assert [None if took is None else took.total_seconds() for took in told] == shares
