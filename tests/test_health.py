"""The health of tracked repositories in their list: deliveries, merges, faults."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from metrics_sync.dashboard import Health, read_health
from metrics_sync.models import PullRequest, TrackedRepository, WebhookDelivery
from tests.factories import (
    PullRequestFactory,
    TrackedRepositoryFactory,
    UserFactory,
    WebhookDeliveryFactory,
)

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.fixture
def repository() -> TrackedRepository:
    return TrackedRepositoryFactory(full_name="acme/anvil", verified_at=NOW)


def read(repository: TrackedRepository) -> Health:
    return read_health([repository])[repository.pk]


def deliver(
    endpoint: str, *, days: float, status: str = "processed", name: str = "Acme/Anvil"
) -> None:
    row = WebhookDeliveryFactory(endpoint=endpoint, github_repo=name, status=status)
    at = NOW - timedelta(days=days)
    WebhookDelivery.objects.filter(pk=row.pk).update(received_at=at)


def add_merge(repository: TrackedRepository, *, days: float, status: str, error: str = "") -> None:
    row = PullRequestFactory(
        merged=True,
        team=repository.team,
        repository=repository,
        github_repo=repository.full_name,
        merged_at=NOW - timedelta(days=days),
    )
    PullRequest.objects.filter(pk=row.pk).update(sync_status=status, sync_error=error)


def test_health_has_the_newest_of_each(repository: TrackedRepository) -> None:
    """An operator asks when a repository last worked, and what is wrong now."""
    deliver(str(repository.integration.uuid), days=3)
    deliver("shared", days=1)
    add_merge(repository, days=2, status="complete")
    add_merge(repository, days=3, status="queued")
    add_merge(repository, days=5, status="failed", error="an older one")
    add_merge(repository, days=4, status="partial", error="reviews: gone")

    found = read(repository)

    assert found.last_delivery_at == NOW - timedelta(days=1)
    assert found.last_merge_at == NOW - timedelta(days=2)
    assert (found.waiting, found.in_trouble, found.fault) == (1, 2, "reviews: gone")


@pytest.mark.parametrize(
    ("statuses", "merged_days_ago", "webhook"),
    [
        pytest.param({1: "processed", 2: "failed"}, 1, "delivers", id="the newest was taken"),
        pytest.param({1: "failed", 2: "processed"}, 1, "failing", id="the newest failed"),
        pytest.param({8: "processed"}, 1, "silent", id="a merge without a delivery"),
        pytest.param({}, 9, "quiet", id="nothing happened"),
    ],
)
def test_webhook_is_known_by_its_deliveries(
    repository: TrackedRepository, statuses: dict[int, str], merged_days_ago: int, webhook: str
) -> None:
    """Nothing reports a webhook that was deleted at GitHub, except the missing deliveries."""
    for days, status in statuses.items():
        deliver("shared", days=days, status=status)
    add_merge(repository, days=merged_days_ago, status="complete")

    assert read(repository).webhook == webhook


def test_shared_delivery_of_another_github_is_not_counted(repository: TrackedRepository) -> None:
    """Two servers have repositories of the same name; so has a team that was never shown it."""
    deliver("shared", days=1)
    TrackedRepository.objects.update(verified_at=None)
    repository.refresh_from_db()
    unshown = read(repository).last_delivery_at
    repository.verified_at, repository.integration.api_url = NOW, "https://ghe.acme.example/api/v3"

    assert (unshown, read(repository).last_delivery_at) == (None, None)


def test_delivery_of_another_team_is_not_counted(repository: TrackedRepository) -> None:
    """Both track the repository, each by a webhook of its own."""
    other = TrackedRepositoryFactory(full_name="acme/anvil", verified_at=NOW)
    deliver(str(other.integration.uuid), days=1)
    add_merge(other, days=1, status="failed", error="theirs")

    found = read_health([repository])[repository.pk]

    assert (found.last_delivery_at, found.last_merge_at, found.fault) == (None, None, "")


def test_list_shows_a_teams_own_and_needs_the_same_queries_for_many(
    client: Client, repository: TrackedRepository, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """With a query for each row, the longest list would be the slowest."""
    add_merge(repository, days=1, status="failed", error="reviews: gone")
    other = TrackedRepositoryFactory(full_name="secret/forge", verified_at=NOW)
    add_merge(other, days=1, status="failed", error="hidden: reason")
    user = UserFactory()
    repository.team.members.add(user)
    client.force_login(user)
    address = reverse("admin:metrics_sync_trackedrepository_changelist")
    with django_assert_num_queries(11):
        page = client.get(address).content.decode()
    for number in range(10):
        more = TrackedRepositoryFactory(
            team=repository.team,
            integration=repository.integration,
            full_name=f"acme/anvil-{number}",
        )
        add_merge(more, days=1, status="partial", error="files: gone")

    with django_assert_num_queries(11):
        client.get(address)

    assert "1: reviews: gone" in page
    assert "hidden: reason" not in page
    assert "secret/forge" not in page
