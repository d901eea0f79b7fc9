"""What a delivery costs the database, and that equal ones which meet are applied once."""

import json
from copy import deepcopy
from functools import partial
from io import BytesIO
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks

from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, PullRequest, WebhookDelivery
from metrics_sync.sandbox import build_pull_request_event, make_recording, sign
from metrics_sync.sandbox.payloads import (
    build_check_run_event,
    build_issue_comment_event,
    build_pull_request_review_comment_event,
    build_pull_request_review_event,
    build_status_event,
)
from tests.conftest import PATIENCE_SECONDS
from tests.factories import TrackedRepositoryFactory
from tests.test_transactions import run_at_once

REPOSITORY = "acme/anvil"
RECORDING = make_recording(REPOSITORY, 7, statuses=1)
MERGED = build_pull_request_event(RECORDING, "closed")


def make_open(action: str, updated_at: str) -> dict[str, Any]:
    """Make an event of the pull request before its merge."""
    event = deepcopy(MERGED) | {"action": action}
    before = {"state": "open", "merged": False, "merged_at": None, "closed_at": None}
    event["pull_request"] |= before | {"updated_at": updated_at}
    return event


OPENED = make_open("opened", "2020-01-01T00:00:00Z")
PUSHED = make_open("synchronize", "2020-01-02T00:00:00Z")
LATE = make_open("synchronize", "2019-12-31T00:00:00Z")
REVIEW = build_pull_request_review_event(RECORDING, RECORDING.reviews[0])
SECOND_REVIEW = build_pull_request_review_event(
    RECORDING, {**RECORDING.reviews[0], "id": RECORDING.reviews[0]["id"] + 100}
)
REVIEW_COMMENT = build_pull_request_review_comment_event(RECORDING, RECORDING.review_comments[0])
COMMENT = build_issue_comment_event(RECORDING, RECORDING.issue_comments[0])
CHECK = build_check_run_event(RECORDING, RECORDING.check_runs[0])
STATUS = build_status_event(RECORDING, RECORDING.statuses[0])

#: What came before, a delivery, and its statements: with those that begin and end the transaction
#: and, for a merge, with the claim of the row after the commit.
COSTS = [
    pytest.param([], OPENED, 9, id="opened, by somebody new"),
    pytest.param([OPENED], PUSHED, 7, id="pushed to"),
    pytest.param([OPENED], LATE, 7, id="older than the row"),
    pytest.param([OPENED], MERGED, 8, id="merged"),
    pytest.param([], MERGED, 10, id="merged, unknown before and by somebody new"),
    pytest.param([MERGED, REVIEW], SECOND_REVIEW, 10, id="review"),
    pytest.param([MERGED], REVIEW_COMMENT, 7, id="review comment"),
    pytest.param([MERGED], COMMENT, 7, id="comment"),
    pytest.param([OPENED], COMMENT, 6, id="comment before the merge"),
    pytest.param([MERGED], CHECK, 7, id="check run"),
    pytest.param([MERGED, STATUS], CHECK, 6, id="second check run within a minute"),
    pytest.param([MERGED], STATUS, 7, id="status"),
    pytest.param([], {"action": "created", "starred_at": "now"}, 4, id="not handled"),
]
#: The key by which each body's event is known.
EVENTS = {
    "check_run": "check_run",
    "starred_at": "star",
    "context": "status",
    "review": "pull_request_review",
    "issue": "issue_comment",
    "comment": "pull_request_review_comment",
    "pull_request": "pull_request",
}


@pytest.fixture
def integration(db: None) -> GitHubIntegration:
    return TrackedRepositoryFactory(full_name=REPOSITORY).integration


def name_event(payload: dict[str, Any]) -> str:
    return next(event for key, event in EVENTS.items() if key in payload)


def post(integration: GitHubIntegration, payload: dict[str, Any]) -> int:
    body = json.dumps(payload).encode()
    headers = {
        "HTTP_X_GITHUB_EVENT": name_event(payload),
        "HTTP_X_GITHUB_DELIVERY": f"guid-{WebhookDelivery.objects.count()}",
        "HTTP_X_HUB_SIGNATURE_256": sign(body, integration.webhook_secret),
        "wsgi.input": BytesIO(body),
    }
    path = integration.get_webhook_path()
    answer = Client().generic("POST", path, body, "application/json", **headers)
    return int(answer.status_code)


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(("before", "payload", "statements"), COSTS)
def test_delivery_costs_few_statements(
    integration: GitHubIntegration,
    before: list[dict[str, Any]],
    payload: dict[str, Any],
    statements: int,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    """A repository's checks and comments come by the hundred, and GitHub waits for each answer."""
    for earlier in before:
        assert post(integration, earlier) == 202

    with (
        CaptureQueriesContext(connection) as queries,
        django_capture_on_commit_callbacks(execute=True),
    ):
        assert post(integration, payload) == 202

    # The test itself asks for the number of the delivery.
    assert len(queries) - 1 == statements, [query["sql"][:80] for query in queries]


def send_at_once(*payloads: dict[str, Any]) -> list[str]:
    """Record deliveries at the same moment, each under an id of its own; returns their statuses."""
    integration = TrackedRepositoryFactory(full_name=REPOSITORY).integration
    barrier = Barrier(len(payloads))

    def send(number: int, payload: dict[str, Any]) -> str:
        event, action, text = name_event(payload), payload["action"], json.dumps(payload)
        delivery = Delivery(f"guid-{number}", event, action, REPOSITORY, payload, text)
        barrier.wait(timeout=PATIENCE_SECONDS)
        return str(record_delivery(delivery, integration=integration).status)

    return run_at_once(*(partial(send, *numbered) for numbered in enumerate(payloads)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis")
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_equal_deliveries_at_once_are_applied_once() -> None:
    """Whoever has seen a delivery can send it again, under another id, as often as they like."""
    statuses = send_at_once(MERGED, MERGED, MERGED, MERGED)

    assert statuses == ["processed"] * 4
    assert (WebhookDelivery.objects.count(), PullRequest.objects.count()) == (1, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis")
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_first_deliveries_of_a_pull_request_may_come_at_once() -> None:
    """GitHub sends `opened`, `labeled` and `assigned` in the same moment."""
    actions = ("opened", "labeled", "assigned")

    statuses = send_at_once(MERGED, *(make_open(name, "2020-01-01T00:00:00Z") for name in actions))

    assert (statuses, WebhookDelivery.objects.count()) == (["processed"] * 4, 4)
    assert PullRequest.objects.get().state == "merged"
