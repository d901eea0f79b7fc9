"""Which team's rows a delivery may write: GitHub's id of the repository decides, not its name."""

import json
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoAssertNumQueries

from metrics_sync.exceptions import MalformedDeliveryError
from metrics_sync.ingest import record_delivery
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import (
    AuditEntry,
    GitHubIntegration,
    PullRequest,
    TrackedRepository,
    WebhookDelivery,
)
from metrics_sync.sandbox import build_pull_request_event, make_recording
from metrics_sync.sandbox.payloads import build_issue_comment_event, build_repository_event
from tests.factories import PullRequestFactory, TrackedRepositoryFactory

MINE, THEIRS = "acme/anvil", "vault/secret"


@pytest.fixture
def mine(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(full_name=MINE, github_repo_id=1, team__slug="mine")


@pytest.fixture
def theirs(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(full_name=THEIRS, github_repo_id=2, team__slug="theirs")


def receive(
    event: str,
    payload: dict[str, Any],
    repository: TrackedRepository | None = None,
    *,
    guid: str = "",
) -> WebhookDelivery:
    """Record a delivery of the shared endpoint, or of a repository's integration."""
    integration: GitHubIntegration | None = repository.integration if repository else None
    delivery = Delivery(
        guid or str(uuid4()),
        event,
        payload["action"],
        payload["repository"]["full_name"],
        payload,
        json.dumps(payload),
    )
    return record_delivery(delivery, integration=integration)


def merge(full_name: str, repository_id: int, number: int = 7) -> dict[str, Any]:
    recording = make_recording(full_name, number, repository_id=repository_id)
    return build_pull_request_event(recording, "closed")


def tell(action: str, full_name: str, repository_id: int) -> dict[str, Any]:
    repository = make_recording(full_name, 7, repository_id=repository_id).pull["base"]["repo"]
    return build_repository_event(action, repository)


def list_rows() -> list[tuple[str, str]]:
    rows = PullRequest.objects.order_by("team__slug", "github_repo")
    return list(rows.values_list("team__slug", "github_repo"))


def test_signed_rename_to_anothers_name_lets_nobody_see_it(
    mine: TrackedRepository, theirs: TrackedRepository
) -> None:
    """A team can sign any body with its own secret; the shared webhook must not trust the name."""
    receive("repository", tell("renamed", THEIRS, 1), mine)

    receive("pull_request", merge(THEIRS, 2))

    mine.refresh_from_db()
    assert (mine.full_name, list_rows()) == (MINE, [("theirs", THEIRS)])


@pytest.mark.parametrize("is_own", [True, False], ids=["own webhook", "shared webhook"])
def test_repository_that_took_the_name_is_another_one(
    mine: TrackedRepository, is_own: bool
) -> None:
    """A stranger's pull request would be fetched with the team's token and shown as its own."""
    row = receive("pull_request", merge(MINE, 99), mine if is_own else None)

    mine.refresh_from_db()
    assert (row.status, list_rows(), row.payload) == ("ignored", [], "")
    assert mine.doubted_at is not None
    assert "another id, 99" in AuditEntry.objects.get().change


@pytest.mark.parametrize("is_own", [True, False], ids=["own webhook", "shared webhook"])
def test_end_of_a_repository_that_took_the_name_ends_nothing(
    mine: TrackedRepository, is_own: bool
) -> None:
    """Its owner could end the other team's tracking in silence."""
    receive("repository", tell("deleted", MINE, 99), mine if is_own else None)

    mine.refresh_from_db()
    assert (mine.is_active, mine.full_name) == (True, MINE)


@pytest.mark.parametrize("is_own", [True, False], ids=["own webhook", "shared webhook"])
def test_merge_under_a_name_that_nobody_told_is_its_repositorys(
    mine: TrackedRepository, is_own: bool
) -> None:
    """A renamed organization sends no event for its repositories; merges must not wait for one."""
    receive("pull_request", merge("anew/anvil", 1), mine if is_own else None)

    mine.refresh_from_db()
    row = PullRequest.objects.get()
    assert (row.repository, row.sync_status) == (mine, "pending")
    # GitHub is asked for the name, and the row takes it then.
    assert (row.github_repo, mine.doubted_at is not None) == (MINE, True)


def test_pull_request_told_under_both_names_is_one(mine: TrackedRepository) -> None:
    """Two rows would be counted and announced twice."""
    payload = merge(MINE, 1)
    receive("pull_request", payload, mine)
    later = {**payload, "repository": {**payload["repository"], "full_name": "anew/anvil"}}

    receive("pull_request", later, mine)

    assert list_rows() == [("mine", MINE)]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"verified_at": None}, id="GitHub has not shown it"),
        pytest.param({"github_repo_id": None}, id="its id is not known"),
        pytest.param({"is_active": False}, id="not tracked any more"),
    ],
)
def test_shared_webhook_tells_no_team_that_was_not_shown_the_repository(
    mine: TrackedRepository, values: dict[str, Any]
) -> None:
    """It receives all teams' deliveries; a name typed in the admin must not give access to them."""
    TrackedRepository.objects.update(**values)

    row = receive("pull_request", merge(MINE, 1))

    assert (row.status, list_rows()) == ("ignored", [])


def test_own_webhook_serves_a_repository_known_by_name_and_asks_for_its_id(
    mine: TrackedRepository,
) -> None:
    """The id in a delivery may be another repository's, so it is not stored unverified."""
    TrackedRepository.objects.update(github_repo_id=None)

    receive("pull_request", merge(MINE, 2), mine)

    mine.refresh_from_db()
    assert (mine.github_repo_id, mine.doubted_at is not None) == (None, True)
    assert PullRequest.objects.get().repository == mine


def test_doubts_do_not_fill_the_audit_log(mine: TrackedRepository) -> None:
    """Until GitHub has answered, ten deliveries add nothing to the first."""
    for number in range(3):
        receive("pull_request", merge(MINE, 99, number + 1), mine)

    assert AuditEntry.objects.count() == 1


def test_body_signed_for_one_event_is_not_taken_for_another(mine: TrackedRepository) -> None:
    """GitHub signs the body alone: a deleted comment would end a repository's tracking."""
    recording = make_recording(MINE, 7, repository_id=1)
    payload = build_issue_comment_event(recording, recording.issue_comments[0], "deleted")

    with pytest.raises(MalformedDeliveryError):
        receive("repository", payload, mine)

    mine.refresh_from_db()
    assert (mine.is_active, mine.doubted_at) == (True, None)


def test_same_body_is_one_delivery_whatever_its_id(mine: TrackedRepository) -> None:
    """The id is not signed, so anybody who saw a delivery can send it again under a new one."""
    payload = tell("renamed", "anew/anvil", 1)
    first = receive("repository", payload, mine, guid="one")
    TrackedRepository.objects.update(doubted_at=None, verify_at=None)

    again = receive("repository", payload, mine, guid="two")

    mine.refresh_from_db()
    assert (first.pk == again.pk, WebhookDelivery.objects.count()) == (True, 1)
    assert mine.doubted_at is None


def test_same_body_at_two_endpoints_is_two_deliveries(
    mine: TrackedRepository, theirs: TrackedRepository
) -> None:
    """A repository that two teams track has two webhooks."""
    TrackedRepository.objects.filter(pk=theirs.pk).update(full_name=MINE, github_repo_id=1)
    payload = merge(MINE, 1)

    for repository in (mine, theirs):
        receive("pull_request", payload, repository)

    assert list_rows() == [("mine", MINE), ("theirs", MINE)]


def test_redelivery_of_a_body_that_failed_is_taken_up(mine: TrackedRepository) -> None:
    """The fault may have been ours, and mended since."""
    payload = merge(MINE, 1)
    receive("pull_request", payload, mine)
    PullRequest.objects.all().delete()
    WebhookDelivery.objects.update(status="failed")

    row = receive("pull_request", payload, mine)

    assert (row.status, PullRequest.objects.count()) == ("processed", 1)


def test_long_payload_is_cut(mine: TrackedRepository) -> None:
    """Who has a secret could fill the disk with 25 MiB at a time."""
    payload = merge(MINE, 1)
    payload["pull_request"]["unread"] = "x" * 1_000_000

    row = receive("pull_request", payload, mine)

    assert (row.status, len(row.payload)) == ("processed", 512 * 1024)


def test_pull_request_of_another_repository_than_the_delivery_is_refused(
    mine: TrackedRepository,
) -> None:
    """Both are in one signed body, which is then not GitHub's."""
    payload = merge(MINE, 1)
    payload["pull_request"]["base"]["repo"]["id"] = 2

    with pytest.raises(MalformedDeliveryError):
        receive("pull_request", payload, mine)


def test_repository_that_is_connected_later_gets_the_rows_of_its_name(
    mine: TrackedRepository,
) -> None:
    """If its webhook is set up first, it reports merges for which there is no token yet."""
    receive("pull_request", merge("acme/hammer", 3), mine)
    early = PullRequest.objects.get()

    late = TrackedRepositoryFactory(
        team=mine.team, integration=mine.integration, full_name="acme/hammer", github_repo_id=3
    )

    early.refresh_from_db()
    assert early.repository == late
    assert PullRequest.objects.tracked().get() == early


def test_delivery_of_a_known_pull_request_takes_few_statements(
    mine: TrackedRepository, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    """The endpoint has a budget of statements; a second query for the repository exceeds it."""
    recording = make_recording(MINE, 7, repository_id=1)
    PullRequestFactory(
        team=mine.team,
        repository=mine,
        github_repo=MINE,
        github_pr_id=recording.pull["id"],
        github_pr_number=7,
        merged=True,
    )
    payload = build_issue_comment_event(recording, recording.issue_comments[0])

    # Four of them are savepoints and the transaction.
    with django_assert_max_num_queries(10):
        receive("issue_comment", payload, mine)
