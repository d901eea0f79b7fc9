"""Queries whose SQL is written once."""

from copy import copy
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import CharField, DateTimeField, F, QuerySet, UUIDField, Value
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from metrics_sync.models import PRCheckRun, PullRequest, TrackedRepository, WebhookDelivery
from metrics_sync.models.prepared import (
    Prepared,
    PreparedForOne,
    PreparedInsert,
    PreparedUpdate,
    PreparedUpsert,
    Slot,
)
from tests.factories import (
    PRCheckRunFactory,
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
    WebhookDeliveryFactory,
)

pytestmark = pytest.mark.django_db


def list_named() -> QuerySet[TrackedRepository]:
    rows = TrackedRepository.objects.alias(name=Upper("full_name"))
    return rows.filter(name=Upper(Slot("name", CharField())))


def test_each_run_has_its_own_values() -> None:
    """Values that stayed from the run before would answer for another team."""
    named = Prepared(list_named)
    first, second = (TrackedRepositoryFactory(full_name=name) for name in ("a/b", "c/d"))

    assert [named.run(name=name) for name in ("A/B", "c/D", "e/f")] == [[first], [second], []]


def test_rows_are_those_that_django_makes() -> None:
    """Ids, times, JSON and secrets come from the database in other forms."""
    repository = TrackedRepositoryFactory(full_name="a/b")
    PullRequestFactory(merged=True, team=repository.team, github_repo="a/b", truncated=["files"])
    rows = PullRequest.objects.select_related("team", "repository__integration", "author")
    rows = rows.annotate(next=F("github_pr_number") + Value(1))
    uuid, at = Slot("uuid", UUIDField()), Slot("at", DateTimeField())
    prepared = Prepared(lambda: rows.filter(repository__integration__uuid=uuid, merged_at__lte=at))

    [row] = prepared.run(uuid=repository.integration.uuid, at=timezone.now())

    with CaptureQueriesContext(connection) as queries:
        found = read(row)
    assert (found, len(queries)) == (read(rows.get()), 0)


def read(row: PullRequest) -> list[dict[str, Any]]:
    assert row.repository is not None
    parts = (row, row.team, row.repository, row.repository.integration)
    kept = [{k: v for k, v in vars(part).items() if k != "_state"} for part in parts]
    return [*kept, {"author": row.author}]


def test_merge_of_a_prepared_row_is_known() -> None:
    """A row that did not know what it was read as would be queued again by each delivery."""
    PullRequestFactory(merged=True)

    [row] = Prepared(PullRequest.objects.all).run()

    assert not row.is_new_merge(None)


def test_query_is_put_together_once() -> None:
    """This is what it is for."""
    built = list[int]()

    def build() -> QuerySet[TrackedRepository]:
        built.append(1)
        return list_named()

    named = Prepared(build)
    for name in ("a/b", "c/d"):
        with CaptureQueriesContext(connection) as queries:
            named.run(name=name)
        assert len(queries) == 1

    assert len(built) == 1


def test_update_writes_the_rows_and_values_of_its_run() -> None:
    """Values that stayed from the run before would move another team's pull request."""
    at = Slot("at", DateTimeField())
    wanted = TrackedRepository.objects.filter(full_name=Slot("name", CharField()))
    update = PreparedUpdate(lambda: wanted, discovered_until=at)
    for name in ("a/b", "c/d"):
        TrackedRepositoryFactory(full_name=name)
    now = timezone.now()
    later = now + timedelta(hours=1)

    counts = [update.run(name=n, at=t) for n, t in (("a/b", now), ("c/d", later), ("e/f", now))]

    assert counts == [1, 1, 0]
    rows = TrackedRepository.objects.values_list("full_name", "discovered_until")
    assert dict(rows) == {"a/b": now, "c/d": later}


def test_inserted_row_is_the_one_that_django_saves() -> None:
    """A time that Django sets, an empty text and a team must not be lost or those of another."""
    insert, teams = PreparedInsert(WebhookDelivery), [TeamFactory() for _ in range(2)]
    made = [
        WebhookDeliveryFactory.build(team=team, payload=payload, processed_at=at)
        for team, payload, at in zip(teams, ("{}", ""), (timezone.now(), None), strict=True)
    ]

    for row in made:
        insert.run(row)

    assert [read_columns(row) for row in made] == list(
        WebhookDelivery.objects.order_by("pk").values()
    )
    assert not any(row._state.adding for row in made)


def read_columns(row: WebhookDelivery) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if name != "_state"}


def test_row_that_is_there_already_is_refused() -> None:
    """By this error a delivery that came twice is known."""
    insert = PreparedInsert(WebhookDelivery)
    insert.run(WebhookDeliveryFactory.build(guid="same"))

    with pytest.raises(IntegrityError), transaction.atomic():
        insert.run(WebhookDeliveryFactory.build(guid="same"))


@pytest.mark.parametrize("count", [1, 3])
def test_upserted_rows_are_those_that_django_saves(count: int) -> None:
    """Columns go as arrays, in which None and quotes must stay what they are."""
    row = PullRequestFactory(merged=True)
    name = """it's "{a,b}", \\N and a\nline"""
    once = [
        PRCheckRunFactory.build(
            pull_request=row,
            team=row.team,
            github_check_run_id=n,
            name=f"{name} {n}",
            completed_at=None if n == 1 else timezone.now(),
        )
        for n in range(1, count + 1)
    ]
    upsert = PreparedUpsert(
        PRCheckRun,
        unique_fields=["pull_request", "github_check_run_id"],
        update_fields=["conclusion", "completed_at"],
    )
    upsert.run(once)
    again = [copy(one) for one in once]
    for one in again:
        one.conclusion, one.completed_at, one.name = "failure", None, "not among the changes"
    upsert.run(again)

    stored = PRCheckRun.objects.order_by("github_check_run_id")
    assert list(stored.values_list("name", "conclusion", "completed_at")) == [
        (one.name, "failure", None) for one in once
    ]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no arrays")
def test_upsert_has_one_statement_for_any_number_of_rows() -> None:
    """Else PostgreSQL would prepare as many as there are lengths of lists."""
    row = PullRequestFactory(merged=True)
    upsert = PreparedUpsert(
        PRCheckRun,
        unique_fields=["pull_request", "github_check_run_id"],
        update_fields=["conclusion"],
    )

    with CaptureQueriesContext(connection) as queries:
        for count in (1, 5):
            rows = PRCheckRunFactory.build_batch(count, pull_request=row, team=row.team)
            upsert.run(rows)

    made = {query["sql"].split(" SELECT ")[0] for query in queries}
    assert (len(queries), len(made)) == (2, 1)
    assert all("UNNEST" in query["sql"] for query in queries)


def test_missing_row_is_said_as_django_says_it() -> None:
    """The endpoint answers 404 with these words."""
    with pytest.raises(TrackedRepository.DoesNotExist) as prepared:
        Prepared(list_named).get(name="a/b")
    with pytest.raises(TrackedRepository.DoesNotExist) as usual:
        TrackedRepository.objects.get(full_name="a/b")

    assert str(prepared.value) == str(usual.value)


def test_one_id_finds_what_several_find() -> None:
    """A fetch reads the lists of one pull request, and a query of GraphQL those of 25."""
    first, second = (PullRequestFactory(merged=True) for _ in range(2))
    of_team = PreparedForOne(lambda: PullRequest.objects.select_related("team"), "team")

    of_one = [of_team.run([row.team_id]) for row in (first, second)]
    both = of_team.run({first.team_id, second.team_id})

    assert (of_one, {row.pk for row in both}) == ([[first], [second]], {first.pk, second.pk})


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
def test_postgresql_prepares_it_too() -> None:
    """To plan a query that reads eighty columns takes PostgreSQL longer than to run it."""
    named = Prepared(list_named)

    found = [named.run(name="A/B") for _ in range(7)]

    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        statements = [row[0] for row in cursor.fetchall()]
    assert found == [[]] * 7
    assert any('UPPER("metrics_sync_trackedrepository"."full_name")' in s for s in statements)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one driver")
def test_driver_that_prepares_nothing_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host project may have psycopg 2, of which Django makes no such cursor."""
    monkeypatch.delattr("django.db.backends.postgresql.base.ServerBindingCursor")

    row = PullRequestFactory(merged=True)
    upsert = PreparedUpsert(
        PRCheckRun,
        unique_fields=["pull_request", "github_check_run_id"],
        update_fields=["conclusion"],
    )
    upsert.run(PRCheckRunFactory.build_batch(2, pull_request=row, team=row.team))

    assert Prepared(list_named).run(name="A/B") == []
    assert row.check_runs.count() == 2


def test_no_id_asks_nothing() -> None:
    """A fetch of lists that are all known reads none."""
    of_team = PreparedForOne(PullRequest.objects.all, "team")

    with CaptureQueriesContext(connection) as queries:
        assert of_team.run([]) == []

    assert len(queries) == 0
