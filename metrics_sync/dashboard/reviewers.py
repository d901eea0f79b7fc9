"""How much each reviewer reviews, and how soon they answer."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import Count, F, Min, Q

from metrics_sync.dashboard.counted_reviews import select_counted
from metrics_sync.dashboard.selection import Selection
from metrics_sync.dashboard.waiting import OpenState
from metrics_sync.metrics import Turn
from metrics_sync.models import Team, TeamMember
from metrics_sync.store.histories import find_rule

#: What is read of the accounts that reviews and requests name.
COLUMNS = ("pk", "team_id", "github_id", "login", "is_bot")


@dataclass(frozen=True, slots=True)
class Reviewer:
    """What one account did in a period, and who waits for it now.

    `median` and `p90` are of the `answers`: the first review of each pull request after it asked
    for one. A login in two teams is two reviewers.
    """

    team: Team
    login: str
    github_id: int
    open_requests: int
    reviews: int = 0
    pull_requests: int = 0
    answers: int = 0
    median: timedelta | None = None
    p90: timedelta | None = None


def read_reviewers(selection: Selection, state: OpenState) -> list[Reviewer]:
    """Read the reviewers of a selection, who reviewed most first, with three queries.

    Reviews count as docs/metrics.md says: made by the merge, by people other than the author.
    `state` has the requests that are open now.
    """
    counts, asked = _count_reviews(selection), _count_requests(state)
    found = []
    teams = {team.pk: team for team in selection.teams}
    bots = {key: team.list_bots() for key, team in teams.items()}
    named = Q(pk__in=counts) | Q(github_id__in={github_id for _, github_id in asked})
    members = TeamMember.objects.filter(named, team__in=teams)
    for key, team, github_id, login, is_bot in members.values_list(*COLUMNS):
        requests = asked.pop((team, github_id), ("", 0))[1]
        counted = counts.get(key, {})
        if (counted or requests) and find_rule(login, bots[team], is_bot=is_bot) is None:
            found.append(Reviewer(teams[team], login, github_id, requests, **counted))
    # Who is asked and has done nothing yet has no row.
    found += [
        Reviewer(teams[team], login, github_id, requests)
        for (team, github_id), (login, requests) in asked.items()
    ]
    return sorted(found, key=lambda one: (-one.reviews, -one.open_requests, one.login, one.team.pk))


def _count_requests(state: OpenState) -> dict[tuple[int, int], tuple[str, int]]:
    """Count for each team and account, by GitHub's id, the pull requests that wait for it."""
    counts: dict[tuple[int, int], tuple[str, int]] = {}
    for one in state.turns[Turn.REVIEW]:
        for person in one.wait.people:
            if person.github_id is not None and not person.is_team:
                key = (one.team.pk, person.github_id)
                counts[key] = (person.login, counts.get(key, ("", 0))[1] + 1)
    return counts


def _count_reviews(selection: Selection) -> dict[int, dict[str, Any]]:
    """Return for each account its reviews, and how soon it answered, in one query.

    An answer is the first review of a pull request by that account. It took the time from the
    first request before it, or, for one whom nobody asked, from when the pull request was ready; a
    request for the review of a draft waits until it is ready. A review of a draft is no answer.
    """
    firsts = (
        select_counted(selection)
        .values(who=F("reviewer"), pr=F("pull_request"))
        # Of each group there is one of these; to group by them as well takes longer.
        .annotate(
            github_id=Min("reviewer__github_id"),
            ready_at=Min("pull_request__ready_at"),
            first_at=Min("submitted_at"),
            reviews=Count("pk"),
        )
    )
    connection = connections[firsts.db]
    try:
        sql, parameters = firsts.query.get_compiler(using=firsts.db).as_sql()
    except EmptyResultSet:
        return {}  # a selection of nothing
    dialect = SQLITE if connection.vendor == "sqlite" else POSTGRESQL
    with connection.cursor() as cursor:
        cursor.execute(COUNT.format(firsts=sql, **dialect), parameters)
        return {who: _read(*values) for who, *values in cursor.fetchall()}


#: In the database's own words, because Django groups no query that is grouped already. The request
#: of a team has no id, and no event of older versions has one: its name alone may be a slug.
COUNT = """
SELECT who, SUM(reviews), COUNT(*), COUNT(took), {median}, {p90} FROM (
    SELECT who, reviews, CASE WHEN began_at <= first_at THEN {took} END AS took FROM (
        SELECT
            who, MIN(reviews) AS reviews, MIN(first_at) AS first_at,
            CASE WHEN MIN(asked.created_at) > MIN(ready_at)
                THEN MIN(asked.created_at) ELSE MIN(ready_at) END AS began_at
        FROM ({firsts}) firsts
        LEFT JOIN metrics_sync_prtimelineevent asked
            ON asked.pull_request_id = pr
            AND asked.event = 'review_requested'
            AND asked.created_at <= first_at
            AND asked.subject_github_id = github_id
        GROUP BY who, pr
    ) waits
) answers
GROUP BY who
"""
POSTGRESQL = {
    "took": "first_at - began_at",
    "median": "percentile_disc(0.5) WITHIN GROUP (ORDER BY took)",
    "p90": "percentile_disc(0.9) WITHIN GROUP (ORDER BY took)",
}
SQLITE = {
    "took": "django_timestamp_diff(first_at, began_at)",
    "median": "percentile_disc(took, 0.5)",
    "p90": "percentile_disc(took, 0.9)",
}


def _read(reviews: int, pull_requests: int, answers: int, median: Any, p90: Any) -> dict[str, Any]:
    """Return the columns; SQLite has durations in microseconds, and PostgreSQL sums as decimals."""
    median, p90 = (
        timedelta(microseconds=value) if isinstance(value, int) else value
        for value in (median, p90)
    )
    return {
        "reviews": int(reviews),
        "pull_requests": pull_requests,
        "answers": answers,
        "median": median,
        "p90": p90,
    }
