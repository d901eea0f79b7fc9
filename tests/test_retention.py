"""What is deleted with age, and what is kept."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from metrics_sync.heal import retention
from metrics_sync.heal.retention import prune
from metrics_sync.models import FetchRun, WebhookDelivery
from tests.factories import PullRequestFactory, WebhookDeliveryFactory


@pytest.fixture(autouse=True)
def _ten_days(settings: Settings, db: None) -> None:
    settings.METRICS_SYNC_RETENTION_DAYS = 10


def add_delivery(*, days_ago: int, status: str = "processed") -> WebhookDelivery:
    row = WebhookDeliveryFactory(status=status, payload="{}")
    received_at = timezone.now() - timedelta(days=days_ago)
    WebhookDelivery.objects.filter(pk=row.pk).update(received_at=received_at)
    return row


@pytest.mark.parametrize(
    ("days_ago", "status", "payload"),
    [
        pytest.param(11, "processed", "", id="old"),
        pytest.param(11, "ignored", "", id="old and ignored"),
        pytest.param(9, "processed", "{}", id="young"),
        pytest.param(9, "failed", "{}", id="failed, and still to be looked into"),
        pytest.param(11, "failed", "", id="old and failed"),
    ],
)
def test_payloads_of_old_deliveries_are_emptied(days_ago: int, status: str, payload: str) -> None:
    """They take most of the database, and contain what people wrote."""
    row = add_delivery(days_ago=days_ago, status=status)

    prune()

    row.refresh_from_db()
    assert row.payload == payload


def test_each_endpoint_keeps_its_newest_payloads_and_deliveries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who has a webhook's secret could fill the disk for all teams."""
    monkeypatch.setattr(retention, "PAYLOADS_KEPT", 1)
    monkeypatch.setattr(retention, "DELIVERIES_KEPT", 2)
    busy = [WebhookDeliveryFactory(endpoint="busy", payload="{}") for _ in range(4)]
    quiet = WebhookDeliveryFactory(endpoint="quiet", payload="{}")

    prune()

    left = list(WebhookDelivery.objects.order_by("pk").values_list("pk", "payload"))
    assert left == [(busy[2].pk, ""), (busy[3].pk, "{}"), (quiet.pk, "{}")]


def test_last_run_of_a_pull_request_stays(db: None) -> None:
    """Its receipt proves what is stored."""
    pull_request = PullRequestFactory()
    runs = [FetchRun.start(pull_request, job_id=job_id) for job_id in "abc"]
    for run, days_ago in zip(runs, (30, 20, 15), strict=True):
        started_at = timezone.now() - timedelta(days=days_ago)
        FetchRun.objects.filter(pk=run.pk).update(started_at=started_at)

    result = prune()

    assert (result["fetch_runs"], list(FetchRun.objects.all())) == (2, [runs[-1]])


@pytest.mark.django_db(transaction=True)
def test_last_run_stays_if_the_next_never_began() -> None:
    """A process may die, or lose its database, as it begins a fetch."""
    pull_request = PullRequestFactory()
    run = FetchRun.start(pull_request, job_id="last")

    with pytest.raises(IntegrityError):
        FetchRun.start(pull_request, job_id=None)  # type: ignore[arg-type]

    run.refresh_from_db()
    assert (run.is_superseded, run.status) == (False, "running")


def test_one_statement_deletes_some_thousand_runs_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that deletes a million meets the time limit, and starts again from nothing each night."""
    monkeypatch.setattr(retention, "BATCH", 2)
    pull_request = PullRequestFactory()
    for job_id in "abcdef":
        FetchRun.start(pull_request, job_id=job_id)
    FetchRun.objects.update(started_at=timezone.now() - timedelta(days=30))

    with CaptureQueriesContext(connection) as queries:
        prune()

    deletes = [query for query in queries if query["sql"].startswith("DELETE")]
    assert (FetchRun.objects.count(), len(deletes)) == (1, 3)


def test_pruning_twice_finds_nothing(db: None) -> None:
    """The clock prunes every day."""
    add_delivery(days_ago=11)

    assert [prune()["payloads"] for _ in range(2)] == [1, 0]
