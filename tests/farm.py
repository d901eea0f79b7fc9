"""A database with as many pull requests as a company has, for benchmarks and browser tests.

`python -m tests.farm ROWS` fills the database of DATABASE_URL, which must be empty, on PostgreSQL.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
from tests.sharing import copy_database, drop_database, share, use_database  # noqa: E402

TEAMS = 10
REPOSITORIES = 40
#: People of each team; the last account is a bot.
PEOPLE = 12
STATEMENTS = Path(__file__).with_suffix(".sql")
#: What the large pull request has of each kind.
LARGE = {"files": 3000, "comments": 1000, "commits": 300, "check_runs": 500}
FIRST_NAMES = ("ada", "alan", "barbara", "edsger", "grace", "ken", "leslie", "linus", "margaret",
               "mona", "radia", "tony")  # fmt: skip


@contextmanager
def open_farm(rows: int, *, detailed: int, empty: str, folder: Path, keep: bool) -> Iterator[str]:
    """Yield the name of a copy of an empty database, which one process fills for all."""
    name = f"{empty}_farm"

    def make() -> None:
        with use_database(copy_database(empty, "farm", keep=keep)):
            if not PullRequest.objects.exists():
                fill(rows, detailed=detailed)

    with share(folder / name, make=make, drop=lambda: keep or drop_database(name)):
        yield name


def fill(rows: int, *, detailed: int | None = None) -> PullRequest:
    """Write `rows` pull requests with all that belongs to them, and return the large one.

    Ten teams, 40 repositories, 50 weeks; the same rows each time but for the time of the day. Of
    all but the newest `detailed`, which saves most of the time, there are only the metrics, the
    reviews and the timeline. One transaction. Needs PostgreSQL and empty tables.
    """
    with transaction.atomic():
        _fill_teams()
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('farm.rows', %s, true)", [str(rows)])
            cursor.execute(
                "SELECT set_config('farm.detailed', %s, true)",
                [str(rows if detailed is None else detailed)],
            )
            cursor.execute("SET LOCAL synchronous_commit TO off")
            # Of a superuser the database takes it that the keys lead to rows.
            cursor.execute(
                "SELECT set_config('session_replication_role', 'replica', true)"
                " FROM pg_roles WHERE rolname = current_user AND rolsuper"
            )
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            with _without_indexes(cursor):
                # One by one: no statement is silent for as long as a database may be.
                for statement in STATEMENTS.read_text().split(";\n"):
                    cursor.execute(statement)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return PullRequest.objects.get(title="Move all services to the new build")


@contextmanager
def _without_indexes(cursor: Any) -> Iterator[None]:
    """Take away the indexes of pull requests for the block: to build them whole is cheaper.

    Where the block fails, the end of its transaction brings them back.
    """
    cursor.execute(
        """SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
        WHERE indrelid = %s::regclass AND NOT EXISTS (
            SELECT FROM pg_constraint WHERE conindid = indexrelid)""",
        [PullRequest._meta.db_table],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    for _, statement in indexes:
        cursor.execute(statement)


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
