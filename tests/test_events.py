"""What each webhook event changes, apart from the merge itself."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import AuditEntry, PullRequest, TrackedRepository, WebhookDelivery
from metrics_sync.sandbox import Recording, make_recording
from metrics_sync.sandbox.payloads import (
    build_check_run_event,
    build_issue_comment_event,
    build_pull_request_review_comment_event,
    build_pull_request_review_event,
    build_repository_event,
    build_status_event,
)
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "octo-labs/shop"
RECORDING = make_recording(REPOSITORY, 7, statuses=1)
REPOSITORY_ID = RECORDING.pull["base"]["repo"]["id"]


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(full_name=REPOSITORY, github_repo_id=REPOSITORY_ID)


@pytest.fixture
def merged(repository: TrackedRepository) -> PullRequest:
    """A row that is merged and complete."""
    return add_row(repository)


def add_row(repository: TrackedRepository, recording: Recording = RECORDING) -> PullRequest:
    row = PullRequestFactory(
        merged=True,
        team=repository.team,
        github_repo=repository.full_name,
        github_pr_id=recording.pull["id"],
        github_pr_number=recording.number,
        head_sha=recording.head_sha,
    )
    PullRequest.objects.filter(pk=row.pk).update(sync_status="complete")
    return PullRequest.objects.get(pk=row.pk)


def receive(
    event: str, payload: dict[str, Any], repository: TrackedRepository | None = None
) -> str:
    """Record a delivery to the shared endpoint, or to a repository's integration."""
    delivery = Delivery(
        guid=str(uuid4()),
        event=event,
        action=payload.get("action", ""),
        github_repo=(payload.get("repository") or {}).get("full_name", ""),
        payload=payload,
        text=json.dumps(payload),
    )
    integration = repository.integration if repository else None
    return record_delivery(delivery, integration=integration).status


NEWS = [
    pytest.param(
        "issue_comment",
        build_issue_comment_event(RECORDING, RECORDING.issue_comments[0]),
        id="comment",
    ),
    pytest.param(
        "pull_request_review_comment",
        build_pull_request_review_comment_event(RECORDING, RECORDING.review_comments[0]),
        id="review comment",
    ),
    pytest.param(
        "check_run", build_check_run_event(RECORDING, RECORDING.check_runs[0]), id="check run"
    ),
    pytest.param("status", build_status_event(RECORDING, RECORDING.statuses[0]), id="status"),
    pytest.param(
        "pull_request_review",
        build_pull_request_review_event(RECORDING, RECORDING.reviews[0]),
        id="review",
    ),
]


@pytest.mark.parametrize(("event", "payload"), NEWS)
def test_event_of_a_merged_pull_request_schedules_a_refetch(
    merged: PullRequest, event: str, payload: dict[str, Any]
) -> None:
    """Comments and checks after the merge belong to the pull request, too."""
    status = receive(event, payload)

    merged.refresh_from_db()
    assert status == WebhookDelivery.Status.PROCESSED
    assert merged.refetch_at is not None
    assert merged.refetch_at - timezone.now() <= timedelta(minutes=1)


@pytest.mark.parametrize(("event", "payload"), NEWS)
def test_many_events_at_once_schedule_one_refetch(
    merged: PullRequest, event: str, payload: dict[str, Any]
) -> None:
    """Fifty checks finish within a minute."""
    receive(event, payload)
    first = PullRequest.objects.get().refetch_at

    receive(event, payload)

    assert PullRequest.objects.get().refetch_at == first


@pytest.mark.parametrize(("event", "payload"), NEWS)
def test_event_of_one_teams_integration_changes_no_other_team(
    merged: PullRequest, event: str, payload: dict[str, Any]
) -> None:
    """One team's secret writes only that team's rows."""
    other = TrackedRepositoryFactory(full_name=REPOSITORY)

    receive(event, payload, other)

    merged.refresh_from_db()
    assert merged.refetch_at is None


def test_comment_on_an_issue_is_ignored(merged: PullRequest) -> None:
    """Issues and pull requests share the event, and their numbers."""
    payload = build_issue_comment_event(make_recording(REPOSITORY, 8), RECORDING.issue_comments[0])

    assert receive("issue_comment", payload) == WebhookDelivery.Status.IGNORED


def test_state_before_a_dismissal_is_kept(merged: PullRequest) -> None:
    """GitHub's API forgets it."""
    review = next(item for item in RECORDING.reviews if item["state"] == "CHANGES_REQUESTED")
    receive("pull_request_review", build_pull_request_review_event(RECORDING, review))

    dismissed = build_pull_request_review_event(
        RECORDING, {**review, "state": "DISMISSED"}, "dismissed"
    )
    receive("pull_request_review", dismissed)

    row = merged.reviews.get()
    assert (row.state, row.submitted_state) == ("dismissed", "changes_requested")


@pytest.mark.parametrize("action", ["renamed", "transferred", "deleted"])
def test_deletion_or_rename_changes_nothing_before_github_confirms_it(
    repository: TrackedRepository, merged: PullRequest, action: str
) -> None:
    """A person with a webhook's secret can sign any id and name, and deliveries come late."""
    renamed = {**RECORDING.pull["base"]["repo"], "full_name": "octo-labs/store"}

    receive("repository", build_repository_event(action, renamed))

    repository.refresh_from_db()
    merged.refresh_from_db()
    assert (repository.full_name, merged.github_repo) == (REPOSITORY,) * 2
    assert (repository.is_active, repository.doubted_at is not None) == (True, True)


def test_rename_to_a_name_that_is_tracked_already_doubles_nothing(
    repository: TrackedRepository, merged: PullRequest
) -> None:
    """Somebody connected the new name before the webhook of the rename arrived."""
    new = TrackedRepositoryFactory(
        team=repository.team,
        integration=repository.integration,
        full_name="octo-labs/store",
        github_repo_id=None,
    )
    add_row(new)
    other = add_row(repository, make_recording(REPOSITORY, 8))

    repository.rename(new.full_name)

    other.refresh_from_db()
    names = list(PullRequest.objects.values_list("github_repo", flat=True))
    assert (names, other.github_repo) == ([new.full_name] * 2, new.full_name)
    assert [row.pk for row in TrackedRepository.objects.active()] == [new.pk]


def test_reported_changes_of_a_repository_are_in_the_audit_log(
    repository: TrackedRepository,
) -> None:
    """The change may alter who sees what, and no operator made it."""
    receive("repository", build_repository_event("deleted", RECORDING.pull["base"]["repo"]))

    entry = AuditEntry.objects.get()
    assert entry.change == "GitHub is asked: a delivery says that it is deleted"
    assert (entry.team, entry.subject.startswith("tracked repository")) == (repository.team, True)
    assert entry.actor == f"webhook delivery {WebhookDelivery.objects.get().guid}"
