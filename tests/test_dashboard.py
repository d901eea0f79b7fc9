"""The summary: numbers from known rows, and what the first page makes of them."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from metrics_sync.admin.labels import UNKNOWN
from metrics_sync.dashboard import Summary, summarise
from metrics_sync.models import PullRequest, Team
from tests.factories import (
    MERGED_AT,
    IntegrationCredentialFactory,
    PullRequestFactory,
    TeamFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

NOW = MERGED_AT + timedelta(days=1)


@pytest.fixture
def team(db: None) -> Team:
    return TeamFactory()


def make_merge(
    team: Team, *, seconds: float | None = None, sync_status: str = "pending", **values: Any
) -> PullRequest:
    """Make a merged pull request, one with `seconds` complete so long after its merge."""
    row = PullRequestFactory(merged=True, team=team, **values)
    if seconds is not None:
        row.completed_at, sync_status = row.merged_at + timedelta(seconds=seconds), "complete"
    # A new row that is merged is pending, whatever it says.
    row.sync_status = sync_status
    row.save()
    return row


def read_summary(*, now: datetime = NOW) -> Summary:
    return summarise(Team.objects.all(), now=now)


def test_merges_are_counted_by_status(team: Team) -> None:
    """What is not complete is to be seen at once."""
    make_merge(team, seconds=1)
    for status in ("failed", "failed", "pending"):
        make_merge(team, sync_status=status)

    summary = read_summary()

    assert summary.statuses == {"complete": 1, "failed": 2, "pending": 1}
    assert summary.merged == 4


def test_only_recent_merges_of_the_teams_count(team: Team) -> None:
    """An average over all years, or over other teams, says nothing to this one."""
    make_merge(team, merged_at=NOW - timedelta(days=31))
    make_merge(TeamFactory())
    PullRequestFactory(team=team)
    mine = make_merge(team)

    summary = summarise(Team.objects.filter(pk=team.pk), now=NOW)

    assert summary.merged == 1
    assert summary.latest == [mine]


def test_speed_is_that_of_the_completed(team: Team) -> None:
    """What is still on its way is counted as such, not as slow."""
    for seconds in (1, 2, 3, 60, 61, 100, 300, 301, 400, 5000):
        make_merge(team, seconds=seconds)
    make_merge(team, sync_status="queued")

    summary = read_summary()

    assert (summary.share_within_minute, summary.share_within_five_minutes) == (0.4, 0.7)
    assert (summary.median, summary.p90) == (timedelta(seconds=61), timedelta(seconds=400))


def test_averages_leave_out_what_is_unknown(team: Team) -> None:
    """A pull request whose reviews are missing has not had zero rounds."""
    make_merge(team, review_rounds=1, avg_fix_response_hours="1.50", total_comments=0)
    make_merge(team, review_rounds=2, avg_fix_response_hours="2.50", total_comments=4)
    make_merge(team)

    assert read_summary().averages == {
        "review_rounds": 1.5,
        "avg_fix_response_hours": 2.0,
        "commits_after_first_review": None,
        "total_comments": 2.0,
    }


def test_without_merges_all_is_unknown(db: None) -> None:
    """Zero percent would be an alarm."""
    summary = read_summary()

    assert summary.merged == 0
    assert summary.share_within_minute is None
    assert (summary.median, summary.p90) == (None, None)
    assert set(summary.averages.values()) == {None}


def test_incomplete_merges_are_listed_newest_first(team: Team) -> None:
    """They are the work to do; the newest is the one that somebody waits for."""
    older = make_merge(team, sync_status="failed", merged_at=MERGED_AT - timedelta(hours=1))
    newer = make_merge(team, sync_status="partial")
    make_merge(team, seconds=1)

    assert read_summary().incomplete == [newer, older]


def test_number_of_queries_is_constant(team: Team) -> None:
    """The page is opened more often than any other."""
    make_merge(team, seconds=1)
    with CaptureQueriesContext(connection) as few:
        read_summary()
    for seconds in range(30):
        make_merge(TeamFactory(), seconds=seconds)
        IntegrationCredentialFactory()

    with CaptureQueriesContext(connection) as many:
        read_summary()

    assert len(many) == len(few)


def read_page(client: Client) -> str:
    response = client.get(reverse("admin:index"))
    assert response.status_code == 200
    return response.content.decode()


def test_page_shows_the_numbers(admin_client: Client, team: Team) -> None:
    """What the queries find has to arrive on the page."""
    TrackedRepositoryFactory(team=team)
    now = timezone.now()
    make_merge(team, seconds=3, merged_at=now, github_repo="acme/fast", total_comments=7)
    make_merge(team, seconds=200, merged_at=now)
    make_merge(team, merged_at=now, sync_status="failed", sync_error="files: gone")

    page = read_page(admin_client)

    for text in ("1 failed", "2 complete", "50 %", "100 %", "3.0 s", "acme/fast", "7.0"):
        assert text in page
    assert "files: gone" in page


def test_page_shows_unknown_as_a_dash(admin_client: Client, team: Team) -> None:
    """Zero is a number; nobody measured one."""
    TrackedRepositoryFactory(team=team)

    page = read_page(admin_client)

    assert page.count(UNKNOWN) >= 8
    assert "0 %" not in page


def test_page_says_which_tokens_are_refused_and_what_others_have_left(
    admin_client: Client, team: Team
) -> None:
    """A refused token stops every pull request of its team, and is mended by hand."""
    IntegrationCredentialFactory(team__name="Refused").mark_revoked()
    IntegrationCredentialFactory(
        rate_limit=5000,
        rate_limit_remaining=4321,
        rate_limit_resets_at=timezone.now() + timedelta(minutes=5),
    )

    page = read_page(admin_client)

    assert "the personal access token of Refused" in page
    assert "4321 of 5000" in page


def test_budget_of_an_hour_that_is_over_is_unknown(admin_client: Client, team: Team) -> None:
    """GitHub has filled it up since, and did not say so."""
    IntegrationCredentialFactory(
        rate_limit_remaining=4321, rate_limit_resets_at=timezone.now() - timedelta(minutes=5)
    )

    assert "4321" not in read_page(admin_client)


def test_page_says_how_to_begin(admin_client: Client, team: Team) -> None:
    """An empty page is what every new installation shows first."""
    command = f"manage.py connect OWNER/NAME --team {team.slug} --token-stdin"

    assert command in read_page(admin_client)


def test_page_says_how_to_find_older_merges(admin_client: Client, team: Team) -> None:
    """A webhook tells of new ones only."""
    TrackedRepositoryFactory(team=team)

    assert "manage.py reconcile --discover --since 30d" in read_page(admin_client)


def test_user_without_team_is_told_so(client: Client, team: Team) -> None:
    """Else it looks as if nothing worked."""
    client.force_login(UserFactory())

    assert "You are in no team yet" in read_page(client)
