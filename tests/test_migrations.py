"""Migrating from a database without numbers to one with them, and back, with all rows kept."""

import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from django_migration_linter import MigrationLinter
from django_test_migrations.migrator import Migrator

from metrics_sync.models import PRFile

BEFORE = ("metrics_sync", "0001_initial")
AFTER = ("metrics_sync", "0002_pull_request_number")

BEFORE_KEYS = ("metrics_sync", "0009_scan_indexes")
WITH_KEYS = ("metrics_sync", "0014_repository_identity")

MERGED_AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
ROW = {"github_repo": "acme/anvil", "state": "merged", "merged_at": MERGED_AT, "title": "Heavier"}
IDS = [2**31 + 1, 2**31 + 2]


def fill(apps: Any) -> None:
    """Write two pull requests and a comment, as the release before the number stored them."""
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


@pytest.mark.long(seconds=3)
def test_old_rows_survive_the_way_forward(migrator: Migrator, old_apps: Any) -> None:
    """They have no number until reconcile asks GitHub for it."""
    before = read(old_apps)

    apps = migrator.apply_tested_migration(AFTER).apps

    assert read(apps) == before
    numbers = apps.get_model("metrics_sync", "PullRequest").objects.values_list("github_pr_number")
    assert list(numbers) == [(None,), (None,)]


@pytest.mark.long(seconds=3)
def test_rows_survive_the_way_back(migrator: Migrator, old_apps: Any) -> None:
    """Rolling back a release must not delete the history."""
    apps = migrator.apply_tested_migration(AFTER).apps
    apps.get_model("metrics_sync", "PullRequest").objects.filter(github_pr_id=IDS[0]).update(
        github_pr_number=7
    )
    before = read(apps)

    apps = migrator.apply_tested_migration(BEFORE).apps

    assert read(apps) == before


@pytest.mark.long(seconds=3)
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


@pytest.mark.long(seconds=3)
def test_files_from_before_their_keys_are_found_again(migrator: Migrator) -> None:
    """Otherwise a fetch would write each file a second time and count both."""
    apps = migrator.apply_initial_migration(("metrics_sync", "0009_scan_indexes")).apps
    team = apps.get_model("metrics_sync", "Team").objects.create(name="Core", slug="core")
    row = apps.get_model("metrics_sync", "PullRequest").objects.create(
        team=team, github_pr_id=IDS[0], **ROW
    )
    counts = dict.fromkeys(("additions", "deletions", "changes"), 1)
    names = ["a.py", "naïve 🚀/b.py"]
    for name in names:
        apps.get_model("metrics_sync", "PRFile").objects.create(
            team=team, pull_request=row, filename=name, status="added", **counts
        )

    apps = migrator.apply_tested_migration(("metrics_sync", "0011_saving")).apps

    files = apps.get_model("metrics_sync", "PRFile").objects
    keys = dict(files.values_list("filename", "listing_key"))
    assert keys == {name: PRFile.make_key(name, "added") for name in names}


@pytest.mark.long(seconds=3)
def test_pull_requests_get_their_repository_and_bad_names_go(migrator: Migrator) -> None:
    """After an upgrade old rows are found by key, whatever the case of the name."""
    apps = migrator.apply_initial_migration(BEFORE_KEYS).apps
    model = partial(apps.get_model, "metrics_sync")
    team = model("Team").objects.create(name="Core", slug="core")
    credential = model("IntegrationCredential").objects.create(team=team)
    integration = model("GitHubIntegration").objects.create(team=team, credential=credential)
    add = partial(model("TrackedRepository").objects.create, team=team, integration=integration)
    add(full_name="acme/anvil", github_repo_id=7)
    add(full_name="acme/anvil-old", github_repo_id=7, is_active=False)
    add(full_name="../user")
    for number, name in enumerate(["ACME/Anvil", "acme/other", "a b/c"], 1):
        model("PullRequest").objects.create(team=team, github_repo=name, github_pr_id=number)

    apps = migrator.apply_tested_migration(WITH_KEYS).apps

    rows = apps.get_model("metrics_sync", "PullRequest").objects.order_by("pk")
    keys = rows.values_list("github_repo", "repository__full_name")
    assert list(keys) == [("ACME/Anvil", "acme/anvil"), ("acme/other", None)]
    repositories = apps.get_model("metrics_sync", "TrackedRepository").objects.order_by("pk")
    known = repositories.values_list("full_name", "github_repo_id")
    assert list(known) == [("acme/anvil", 7), ("acme/anvil-old", None)]
    assert repositories.exclude(verified_at=None).get().full_name == "acme/anvil"
    assert repositories.filter(verify_at=None).count() == 0


@pytest.mark.django_db
def test_models_and_migrations_agree() -> None:
    """Otherwise the operator's database is the first to notice a forgotten migration."""
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


#: Nobody has these yet: they came before the first release, and must not be added to after it.
UNRELEASED = {"0002_pull_request_number", "0003_rate_limit_lease"}
#: It makes columns longer, which the linter cannot know, and moves a unique constraint: until they
#: are restarted, old workers cannot store files and try again (docs/deploy.md). The other drops a
#: table that old workers read while little is left of a token's limit.
EXPLAINED = {"0011_saving", "0024_set_requests_aside"}


#: Looked through by hand: their unique indexes have conditions that the old code does not meet.
REVIEWED = {"0014_repository_identity"}


@pytest.mark.django_db(transaction=True)  # indexes are made outside of one
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's statements")
def test_migrations_let_the_old_code_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """During a rollout, old and new code write to the new tables (docs/deploy.md)."""
    linter = MigrationLinter(
        str(settings.BASE_DIR),
        include_apps=["metrics_sync"],
        ignore_name=tuple(UNRELEASED | EXPLAINED | REVIEWED),
        no_cache=True,
    )

    linter.lint_all_migrations()

    assert not linter.has_errors, capsys.readouterr().out


@pytest.mark.long(seconds=3)
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


@pytest.mark.long(seconds=3)
def test_token_stays_with_the_api_root_of_its_first_integration(migrator: Migrator) -> None:
    """A token that was moved to a second host is not sent there, and the way back loses nothing."""
    before, after = "0014_repository_identity", "0015_credential_api_root"
    apps = migrator.apply_initial_migration(("metrics_sync", before)).apps
    team = apps.get_model("metrics_sync", "Team").objects.create(name="Core", slug="core")
    credentials = apps.get_model("metrics_sync", "IntegrationCredential").objects
    integrations = apps.get_model("metrics_sync", "GitHubIntegration").objects
    ours, theirs = (credentials.create(team=team, access_token=word) for word in ("one", "two"))
    for name, credential, api_url in (
        ("ours", ours, ""),
        ("moved", ours, "https://evil.example"),
        ("theirs", theirs, "https://ghe.acme.example/api/v3"),
    ):
        integrations.create(
            team=team, organization_slug=name, credential=credential, api_url=api_url
        )

    apps = migrator.apply_tested_migration(("metrics_sync", after)).apps

    rows = apps.get_model("metrics_sync", "GitHubIntegration").objects.order_by("pk")
    values = ("organization_slug", "credential__api_url", "credential__access_token")
    assert list(rows.values_list(*values)) == [
        ("ours", "", "one"),
        ("moved", "https://evil.example", ""),
        ("theirs", "https://ghe.acme.example/api/v3", "two"),
    ]
    apps = migrator.apply_tested_migration(("metrics_sync", before)).apps
    assert apps.get_model("metrics_sync", "GitHubIntegration").objects.count() == 3


@pytest.mark.long(seconds=3)
def test_runs_that_have_a_later_one_are_marked(migrator: Migrator) -> None:
    """What is not marked is never deleted."""
    apps = migrator.apply_initial_migration(("metrics_sync", "0037_superseded_runs")).apps
    team = apps.get_model("metrics_sync", "Team").objects.create(name="Core", slug="core")
    rows = apps.get_model("metrics_sync", "PullRequest").objects
    once, twice = (rows.create(team=team, github_pr_id=pr_id, **ROW) for pr_id in IDS)
    runs = apps.get_model("metrics_sync", "FetchRun").objects
    for row in (twice, once, twice):
        runs.create(team=team, pull_request=row)

    apps = migrator.apply_tested_migration(("metrics_sync", "0038_superseded_index")).apps

    marked = apps.get_model("metrics_sync", "FetchRun").objects.order_by("pk")
    assert list(marked.values_list("is_superseded", flat=True)) == [True, False, False]


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's catalogue")
def test_autovacuum_looks_at_pull_requests_after_a_hundredth_changed() -> None:
    """By default it waits for a tenth, in which a whole team may be unknown to the planner."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = 'metrics_sync_pullrequest'")
        assert cursor.fetchone() == (["autovacuum_analyze_scale_factor=0.01"],)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads PostgreSQL's statements")
@pytest.mark.parametrize(
    "name",
    [
        "0009_scan_indexes",
        "0010_metrics_version_index",
        "0011_saving",
        "0012_disagreeing",
        "0014_repository_identity",
        "0016_disagreeing_index",
        "0027_open_pull_requests",
        "0029_dashboard_index",
        "0031_search_indexes",
        "0035_reviewer_indexes",
        "0038_superseded_index",
        "0039_figures_of_repositories",
    ],
)
def test_index_of_a_million_rows_locks_no_table(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Every delivery and every fetch would wait until the index is built."""
    call_command("sqlmigrate", "metrics_sync", name)

    statements = capsys.readouterr().out
    made = re.findall(r"^CREATE (?:UNIQUE )?INDEX .*", statements, re.MULTILINE)
    of_many_rows = [line for line in made if ' ON "metrics_sync_trackedrepository" ' not in line]
    assert of_many_rows
    assert all("INDEX CONCURRENTLY " in line for line in of_many_rows)
