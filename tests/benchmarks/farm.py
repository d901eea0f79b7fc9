"""A database with as many pull requests as a company has, for what is measured on PostgreSQL.

`python -m tests.benchmarks.farm ROWS` fills the database of DATABASE_URL, which must be empty.
"""

import os
import sys
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.db import connection, transaction  # noqa: E402  (after the set-up)

from metrics_sync.models import PullRequest, Team, TeamMember, TrackedRepository  # noqa: E402
from tests.factories import (  # noqa: E402
    GitHubIntegrationFactory,
    TeamFactory,
    TrackedRepositoryFactory,
)

TEAMS = 10
REPOSITORIES = 40
#: People of each team; the last account is a bot.
PEOPLE = 12
STATEMENTS = Path(__file__).with_suffix(".sql")
#: What the large pull request has of each kind.
LARGE = {"files": 3000, "comments": 1000, "commits": 300, "check_runs": 500}
FIRST_NAMES = ("ada", "alan", "barbara", "edsger", "grace", "ken", "leslie", "linus", "margaret",
               "mona", "radia", "tony")  # fmt: skip


def fill(rows: int) -> PullRequest:
    """Write `rows` pull requests with all that belongs to them, and return the large one.

    Ten teams, 40 repositories, 50 weeks; the same rows each time but for the time of the day.
    One transaction. Needs PostgreSQL and empty tables.
    """
    with transaction.atomic():
        _fill_teams()
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('farm.rows', %s, true)", [str(rows)])
            cursor.execute("SET LOCAL synchronous_commit TO off")
            # One by one: no statement is silent for as long as a database may be.
            for statement in STATEMENTS.read_text().split(";\n"):
                cursor.execute(statement)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return PullRequest.objects.get(title="Move all services to the new build")


def _fill_teams() -> None:
    people = []
    for number in range(TEAMS):
        team = TeamFactory(name=f"Team {number + 1}", slug=f"farm-{number + 1}")
        integration = GitHubIntegrationFactory(team=team, organization_slug="farm")
        people += _make_people(team, number)
        for place in range(number, REPOSITORIES, TEAMS):
            TrackedRepositoryFactory(
                team=team, integration=integration, full_name=f"farm/service-{place + 1:02}"
            )
    TeamMember.objects.bulk_create(people)
    assert TrackedRepository.objects.count() == REPOSITORIES, "the database is not empty"


def _make_people(team: Team, number: int) -> list[TeamMember]:
    names = [f"{name}-{number + 1}" for name in FIRST_NAMES[:PEOPLE]]
    return [
        TeamMember(
            team=team,
            github_id=1_000 * (number + 1) + place,
            login=login,
            is_bot=login.endswith("[bot]"),
        )
        for place, login in enumerate([*names, "dependabot[bot]"])
    ]


if __name__ == "__main__":
    fill(int(sys.argv[1]))
