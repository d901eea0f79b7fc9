"""From a database without numbers to one with them, and back, with everything that is in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django_migration_linter import MigrationLinter
from django_test_migrations.migrator import Migrator

BEFORE = ("metrics_sync", "0001_initial")
AFTER = ("metrics_sync", "0002_pull_request_number")

MERGED_AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ROW = {"github_repo": "acme/anvil", "state": "merged", "merged_at": MERGED_AT, "title": "Heavier"}
IDS = [2**31 + 1, 2**31 + 2]


def fill(apps: Any) -> None:
    """Write two pull requests and a comment, as the release before the number left them."""
    team = apps.get_model("metrics_sync", "Team").objects.create(name="Core", slug="core")
    rows = apps.get_model("metrics_sync", "PullRequest").objects
    pull_requests = [rows.create(team=team, github_pr_id=pr_id, **ROW) for pr_id in IDS]
    apps.get_model("metrics_sync", "PRComment").objects.create(
        team=team,
        pull_request=pull_requests[0],
        github_comment_id=1,
        comment_type="issue",
        created_at=MERGED_AT,
        updated_at=MERGED_AT,
    )


def read(apps: Any) -> list[dict[str, Any]]:
    rows = apps.get_model("metrics_sync", "PullRequest").objects.order_by("github_pr_id")
    return list(rows.values("github_pr_id", *ROW, "comments__github_comment_id"))


@pytest.fixture
def old_apps(migrator: Migrator) -> Any:
    """The models of a database that has rows and no numbers."""
    apps = migrator.apply_initial_migration(BEFORE).apps
    fill(apps)
    return apps


def test_old_rows_survive_the_way_forward(migrator: Migrator, old_apps: Any) -> None:
    """They wait without a number until reconcile asks GitHub for it."""
    before = read(old_apps)

    apps = migrator.apply_tested_migration(AFTER).apps

    assert read(apps) == before
    numbers = apps.get_model("metrics_sync", "PullRequest").objects.values_list("github_pr_number")
    assert list(numbers) == [(None,), (None,)]


def test_rows_survive_the_way_back(migrator: Migrator, old_apps: Any) -> None:
    """A release that is taken back must not take the history with it."""
    apps = migrator.apply_tested_migration(AFTER).apps
    apps.get_model("metrics_sync", "PullRequest").objects.filter(github_pr_id=IDS[0]).update(
        github_pr_number=7
    )
    before = read(apps)

    apps = migrator.apply_tested_migration(BEFORE).apps

    assert read(apps) == before


@pytest.mark.usefixtures("old_apps")
def test_number_is_unique_where_there_is_one(migrator: Migrator) -> None:
    """Two rows of one number would fetch the same pull request twice."""
    apps = migrator.apply_tested_migration(AFTER).apps
    rows = apps.get_model("metrics_sync", "PullRequest").objects
    rows.filter(github_pr_id=IDS[0]).update(github_pr_number=7)

    with pytest.raises(IntegrityError), transaction.atomic():
        rows.filter(github_pr_id=IDS[1]).update(github_pr_number=7)

    other = apps.get_model("metrics_sync", "Team").objects.create(name="Web", slug="web")
    rows.create(team=other, github_pr_id=IDS[0], github_pr_number=7, **ROW)


@pytest.mark.django_db
def test_models_and_migrations_agree() -> None:
    """A forgotten migration is noticed on the operator's database first."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


#: Nobody has these yet: they came before the first release, and must not be added to after it.
UNRELEASED = {"0002_pull_request_number", "0003_rate_limit_lease"}
#: It makes columns longer, which the linter cannot know, and moves a unique constraint: until they
#: are restarted, old workers cannot store files and try again (docs/deploy.md).
EXPLAINED = {"0011_saving"}


@pytest.mark.django_db(transaction=True)  # indexes are made outside of one
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's statements")
def test_migrations_let_the_old_code_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """While a new version is rolled out, both write to the new tables (docs/deploy.md)."""
    linter = MigrationLinter(
        str(settings.BASE_DIR),
        include_apps=["metrics_sync"],
        ignore_name=tuple(UNRELEASED | EXPLAINED),
        no_cache=True,
    )

    linter.lint_all_migrations()

    assert not linter.has_errors, capsys.readouterr().out


def test_limits_without_an_end_are_forgotten(migrator: Migrator) -> None:
    """Rows from before the bound would keep their teams waiting until the year 2100."""
    far, near = timezone.now() + timedelta(days=20000), timezone.now() + timedelta(minutes=30)
    before = migrator.apply_initial_migration(("metrics_sync", "0009_scan_indexes")).apps
    team = before.get_model("metrics_sync", "Team").objects.create(name="Core", slug="core")
    for until in (far, near):
        before.get_model("metrics_sync", "IntegrationCredential").objects.create(
            team=team, wait_until=until, rate_limit_resets_at=until
        )

    apps = migrator.apply_tested_migration(("metrics_sync", "0013_forget_far_limits")).apps

    rows = apps.get_model("metrics_sync", "IntegrationCredential").objects.order_by("pk")
    kept = list(rows.values_list("wait_until", "rate_limit_resets_at"))
    assert kept == [(None, None), (near, near)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's statements")
@pytest.mark.parametrize("name", ["0009_scan_indexes", "0010_metrics_version_index"])
def test_index_of_a_million_rows_locks_no_table(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Every delivery and every fetch would wait until it is made."""
    call_command("sqlmigrate", "metrics_sync", name)

    statements = capsys.readouterr().out
    made = [line for line in statements.splitlines() if line.startswith("CREATE INDEX")]
    assert made
    assert all(line.startswith("CREATE INDEX CONCURRENTLY") for line in made)
