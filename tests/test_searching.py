"""How users find a pull request in the list, and the cost of a search."""

import logging
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from metrics_sync.admin.searching import search_pull_requests
from metrics_sync.models import PullRequest
from tests.factories import PullRequestFactory, TeamFactory

LIST = reverse("admin:metrics_sync_pullrequest_changelist")
LARGEST_LIST = 150_000
needs_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="its indexes")


@pytest.fixture
def row(db: None) -> PullRequest:
    PullRequestFactory(github_repo="acme/bellows", github_pr_number=70, title="Blow harder")
    return PullRequestFactory(
        github_pr_number=7, title="Make 100% heavier", author_login="mona",
        head_ref="feature/FARM-4711", state="merged",
    )  # fmt: skip


@pytest.mark.parametrize(
    "term",
    [
        "#7", "7", "acme/anvil#7", "https://github.com/acme/anvil/pull/7/files", "farm-4711",
        "feature/farm-4711", "HEAVIER", "mona heavier", '"make 100%"', "4711", "100%",
        "https://github.com/acme/anvil", "anvil mona #7",
    ],
)  # fmt: skip
def test_pull_request_is_found_as_people_name_it(row: PullRequest, term: str) -> None:
    """Tickets and terminals show numbers and branches."""
    assert list(search_pull_requests(PullRequest.objects.all(), term)) == [row]


@pytest.mark.parametrize(
    "term",
    ["#8", "acme/anvil#70", "#99999999999999999999", "9" * 200, "acme/anvil#" + "9" * 30, "hea_ier",
     "mona blow", '"heavier make"', "acme%anvil", "#", "#x"],
)  # fmt: skip
def test_search_without_a_match_finds_nothing(row: PullRequest, term: str) -> None:
    """A search is neither a pattern nor a number that is too large."""
    assert list(search_pull_requests(PullRequest.objects.all(), term)) == []


def test_search_reads_no_dates_to_choose_from(admin_client: Client, row: PullRequest) -> None:
    """Each of the two queries takes as long as the search itself."""
    admin_client.get(LIST)
    with CaptureQueriesContext(connection) as searched:
        page = admin_client.get(f"{LIST}?q=heavier")

    assert page.context["cl"].result_count == 1
    assert len([query for query in searched if "merged_at" in query["sql"]]) == 1


def test_list_has_few_bytes_and_queries(admin_client: Client, db: None) -> None:
    """Half a megabyte for fifty rows is slow on every phone."""
    team = TeamFactory()
    PullRequestFactory.create_batch(2, team=team)
    admin_client.get(LIST)
    with CaptureQueriesContext(connection) as few:
        admin_client.get(LIST)
    for number in range(60):
        PullRequestFactory(
            team=team, merged=True, github_repo=f"acme/repository-{number}", title="Heavier" * 20,
            author_login=f"somebody-{number}", additions=100, deletions=200,
        )  # fmt: skip

    with CaptureQueriesContext(connection) as many:
        page = admin_client.get(LIST)

    assert len(page.context["cl"].result_list) == 50
    assert len(page.content) < LARGEST_LIST
    assert len(many) == len(few)


@needs_postgresql
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("term", "index"),
    [
        ("heavier", "pull_request_search"),
        ("#7", "pull_request_any_number"),
        ("acme/anvil#7", "pull_request_number"),
        ("", "pull_request_newest"),
    ],
)
def test_search_has_an_index(term: str, index: str) -> None:
    """A search without a match once read all rows four times."""
    rows = search_pull_requests(PullRequest.objects.all(), term)
    with connection.cursor() as cursor:
        # Of few rows PostgreSQL reads all, or sorts them.
        cursor.execute(f"SET LOCAL enable_{'seqscan' if term else 'sort'} TO off")

    assert index in (rows.order_by() if term else rows[:50]).explain()


@needs_postgresql
@pytest.mark.django_db(transaction=True)
def test_service_goes_on_without_the_extension(caplog: pytest.LogCaptureFixture) -> None:
    """A role that may install nothing must be able to migrate; the warning names the statements."""
    migration = import_module("metrics_sync.migrations.0031_search_indexes").Migration
    operation = migration.operations[-1]
    state = type("State", (), {"apps": apps})
    with connection.cursor() as cursor, connection.schema_editor(atomic=False) as editor:
        cursor.execute("DROP EXTENSION pg_trgm CASCADE")
        cursor.execute("DROP ROLE IF EXISTS nobody_at_all")
        cursor.execute("CREATE ROLE nobody_at_all")
        cursor.execute("SET ROLE nobody_at_all")
        with caplog.at_level(logging.WARNING):
            operation.database_forwards("metrics_sync", editor, state, state)
        cursor.execute("RESET ROLE")
        cursor.execute("DROP ROLE nobody_at_all")
        exists = "SELECT count(*) FROM pg_indexes WHERE indexname = 'pull_request_search'"
        cursor.execute(exists)
        without = cursor.fetchone()[0]

        operation.database_forwards("metrics_sync", editor, state, state)

        cursor.execute(exists)
        assert (without, cursor.fetchone()[0]) == (0, 1)
    assert "CREATE EXTENSION pg_trgm; CREATE INDEX CONCURRENTLY" in caplog.text
