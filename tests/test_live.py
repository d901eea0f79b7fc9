"""The updates of open pages, and the button that reconciles: only for the user's own teams."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis
from rq import Queue

from metrics_sync.models import PullRequest, Team, TrackedRepository
from metrics_sync.work.queueing import BULK
from tests.factories import PullRequestFactory, TrackedRepositoryFactory, UserFactory


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(full_name="acme/anvil")


@pytest.fixture
def foreign_repository(db: None) -> TrackedRepository:
    return TrackedRepositoryFactory(full_name="acme/vault")


@pytest.fixture
def member(client: Client, repository: TrackedRepository) -> Client:
    user: User = UserFactory()
    repository.team.members.add(user)
    client.force_login(user)
    return client


def make_merge(repository: TrackedRepository, sync_status: str = "failed") -> PullRequest:
    row = PullRequestFactory(
        merged=True,
        team=repository.team,
        github_repo=repository.full_name,
        merged_at=timezone.now(),
    )
    PullRequest.objects.filter(pk=row.pk).update(sync_status=sync_status)
    row.refresh_from_db()
    return row


def find_live_url(page: str) -> str:
    found = re.search(r'hx-get="([^"]+)"', page)
    assert found
    return unescape(found[1])


NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


CHANGES = {
    "a new merge": make_merge,
    "another status": lambda _: PullRequest.objects.update(sync_status="partial"),
    "another reason": lambda _: PullRequest.objects.update(sync_error="reviews: gone"),
    "complete": lambda _: PullRequest.objects.update(completed_at=NOW),
    "a token is refused": lambda repository: repository.integration.credential.mark_revoked(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_dashboard_is_sent_when_something_changed(
    member: Client, repository: TrackedRepository, clock: time_machine.Traveller, change: str
) -> None:
    """An unchanged page is not sent; figures, charts and alerts count as changes."""
    make_merge(repository)
    url = find_live_url(member.get(reverse("admin:index")).content.decode())
    before = member.get(url)
    CHANGES[change](repository)

    answer = member.get(url)

    assert before.status_code == 204
    assert answer.status_code == 200
    assert "Complete within 5 minutes" in answer.content.decode()
    assert member.get(find_live_url(answer.content.decode())).status_code == 204


def test_dashboard_is_sent_again_in_the_next_minute(
    member: Client, repository: TrackedRepository, clock: time_machine.Traveller
) -> None:
    """The share within five minutes changes with time alone."""
    TrackedRepository.objects.update(connected_at=None)
    make_merge(repository, "queued")
    page = member.get(reverse("admin:index")).content.decode()

    clock.shift(timedelta(minutes=6))
    later = member.get(find_live_url(page)).content.decode()

    assert "not over 99%" not in page
    assert "not over 99%" in later


def test_update_is_of_the_selection(member: Client, repository: TrackedRepository) -> None:
    """The filters of the page stay in force."""
    make_merge(repository)
    page = member.get(reverse("admin:index"), {"repository": "acme/anvil", "weeks": 4})

    url = find_live_url(page.content.decode())

    assert "repository=acme%2Fanvil" in url
    assert "weeks=4" in url


def test_update_is_of_own_teams(member: Client, foreign_repository: TrackedRepository) -> None:
    """An update must not show more than the page itself."""
    make_merge(foreign_repository)

    for query in ("", f"?team={foreign_repository.team.slug}", "?repository=acme/vault"):
        page = member.get(reverse("metrics_sync:dashboard-live") + query).content.decode()
        # Addresses on the page repeat what the user's own address asks for.
        assert "vault" not in re.sub(r'(href|hx-get)="[^"]*"', "", page)
        assert "No merges" in page


def test_pull_request_is_shown_while_it_is_under_way(
    member: Client, repository: TrackedRepository
) -> None:
    """An unchanged status is not sent again; at the end the whole page is loaded."""
    row = make_merge(repository, "queued")
    url = reverse("metrics_sync:pull-request-live", args=[row.pk])

    assert "queued" in member.get(url, {"seen": "pending"}).content.decode()
    assert member.get(url, {"seen": "queued"}).status_code == 204
    PullRequest.objects.update(sync_status="complete")
    assert member.get(url, {"seen": "queued"}).headers["HX-Refresh"] == "true"


def test_pull_request_of_another_team_is_not_found(
    member: Client, foreign_repository: TrackedRepository
) -> None:
    """A guessed key in an address shows nothing."""
    row = make_merge(foreign_repository, "queued")

    response = member.get(reverse("metrics_sync:pull-request-live", args=[row.pk]))

    assert response.status_code == 404


@pytest.mark.parametrize("is_signed_in", [False, True], ids=["nobody", "not staff"])
@pytest.mark.parametrize(
    ("name", "args"), [("dashboard-live", []), ("pull-request-live", [1])], ids=["news", "row"]
)
def test_page_of_a_signed_out_user_is_reloaded(
    client: Client, db: None, name: str, args: list[int], is_signed_in: bool
) -> None:
    """A login form inside the old page would leave its data visible."""
    if is_signed_in:
        client.force_login(UserFactory(is_staff=False))

    response = client.get(reverse(f"metrics_sync:{name}", args=args))

    assert response.headers["HX-Refresh"] == "true"
    assert response.content == b""


def reconcile(client: Client, **query: Any) -> list[str]:
    """Press the button of a dashboard, and return what the next page says."""
    url = reverse("metrics_sync:dashboard-reconcile", query=query)
    response = client.post(url)
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("admin:index"))
    return [str(message) for message in get_messages(response.wsgi_request)]


def test_reconcile_queues_what_failed_or_is_partial(
    member: Client, repository: TrackedRepository, redis: Redis
) -> None:
    """The jobs go to the bulk queue and do not delay the next merge."""
    for status in ("failed", "partial", "complete", "running"):
        make_merge(repository, status)

    said = reconcile(member)

    assert said == ["Queued to be fetched again: 2."]
    assert Queue(BULK, connection=redis).count == 2


def test_reconcile_takes_the_selection_of_own_teams_only(
    member: Client,
    repository: TrackedRepository,
    foreign_repository: TrackedRepository,
    redis: Redis,
) -> None:
    """The button queues only the rows that the page showed."""
    same = {"team": repository.team, "integration": repository.integration}
    other = TrackedRepositoryFactory(full_name="acme/tongs", **same)
    mine, old = make_merge(repository), make_merge(repository)
    PullRequest.objects.filter(pk=old.pk).update(merged_at=timezone.now() - timedelta(weeks=5))
    for left_out in (other, foreign_repository):
        make_merge(left_out)

    reconcile(member, repository="acme/anvil", weeks=4)

    assert list(PullRequest.objects.filter(sync_status="queued")) == [mine]


def test_reconcile_ends_with_the_days_that_were_chosen(
    member: Client, repository: TrackedRepository, redis: Redis
) -> None:
    """The button shows a number, which does not include later merges."""
    make_merge(repository)
    old = make_merge(repository)
    day = timezone.now() - timedelta(weeks=5)
    PullRequest.objects.filter(pk=old.pk).update(merged_at=day)

    reconcile(member, **{"from": day.date(), "to": day.date()})

    assert list(PullRequest.objects.filter(sync_status="queued")) == [old]


def test_reconcile_reaches_every_own_team_and_no_other(
    member: Client,
    repository: TrackedRepository,
    foreign_repository: TrackedRepository,
    redis: Redis,
) -> None:
    """An address may name another team."""
    make_merge(repository)
    theirs = make_merge(foreign_repository)

    reconcile(member, team=foreign_repository.team.slug)
    reconcile(member)

    theirs.refresh_from_db()
    assert theirs.sync_status == "failed"
    assert Queue(BULK, connection=redis).count == 1


def test_reconcile_says_what_it_leaves_alone(
    member: Client, repository: TrackedRepository, redis: Redis
) -> None:
    """Users press a button again that seems to do nothing."""
    make_merge(repository)
    repository.integration.credential.mark_revoked()

    assert reconcile(member) == ["Not queued, credential revoked: 1."]


def test_reconcile_says_that_redis_is_down(
    member: Client, repository: TrackedRepository, redis_down: None
) -> None:
    """Nothing is lost, and the user is told so."""
    make_merge(repository)

    said = reconcile(member)

    assert len(said) == 1
    assert "Redis does not answer" in said[0]


@pytest.mark.parametrize("method", ["get", "post"])
def test_reconcile_is_for_staff_who_press_the_button(
    client: Client, repository: TrackedRepository, redis: Redis, method: str
) -> None:
    """A link in a mail must not be enough."""
    make_merge(repository)
    if method == "get":
        client.force_login(UserFactory())

    response = getattr(client, method)(reverse("metrics_sync:dashboard-reconcile"))

    assert response.status_code == (405 if method == "get" else 302)
    assert Queue(BULK, connection=redis).count == 0
    assert Team.objects.exists()


def test_list_polls_rows_that_are_being_fetched(
    member: Client, repository: TrackedRepository
) -> None:
    """It polls nothing once all rows are complete."""
    row = make_merge(repository, "running")
    done = make_merge(repository, "complete")
    url = reverse("admin:metrics_sync_pullrequest_changelist")

    page = member.get(url).content.decode()
    PullRequest.objects.update(sync_status="complete")
    later = member.get(url).content.decode()

    assert f'hx-select-oob="#live-list,#status-{row.pk}"' in page
    assert f"#status-{done.pk}" not in page
    assert "data-live" not in later


def test_reconcile_lists_no_repository_while_somebody_waits(
    member: Client, repository: TrackedRepository, redis: Redis
) -> None:
    """Finding the numbers of a large repository takes minutes."""
    row = make_merge(repository)
    PullRequest.objects.update(github_pr_number=None)

    page = member.post(reverse("metrics_sync:dashboard-reconcile"), follow=True)

    row.refresh_from_db()
    assert ("without a number" in page.content.decode(), row.sync_status) == (True, "failed")
