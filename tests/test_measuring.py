"""Measuring stored rows again after the formulas or a team's bots have changed."""

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from metrics_sync.heal.remeasuring import remeasure_outdated
from metrics_sync.metrics import METRICS_VERSION
from metrics_sync.models import PullRequest
from metrics_sync.models.team import TO_BE_MEASURED
from metrics_sync.sandbox import SandboxServer, make_sample
from tests.factories import PullRequestFactory, UserFactory
from tests.fetching import fetch_recording


def fetch(sandbox: SandboxServer, name: str) -> PullRequest:
    """Fetch one of the sandbox's samples."""
    return fetch_recording(sandbox, make_sample(name))


@pytest.fixture
def row(sandbox: SandboxServer, db: None) -> PullRequest:
    return fetch(sandbox, "changes requested, fixed, approved")


def test_recomputed_numbers_are_those_of_the_fetch(
    sandbox: SandboxServer, row: PullRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same formulas read the same rows, without any request."""
    before, asked = PullRequest.objects.values().get(), len(sandbox.requests)
    PullRequest.objects.update(review_rounds=99, ready_at=None, provenance={})

    call_command("recompute_metrics")

    assert PullRequest.objects.values().get() == before
    assert len(sandbox.requests) == asked
    assert capsys.readouterr().out == "Measured 1 pull requests.\n"


def test_bots_that_a_team_names_are_left_out(row: PullRequest) -> None:
    """For GitHub, many service accounts are users."""
    row.team.bot_logins = "\n".join(row.reviews.values_list("reviewer_login", flat=True))
    row.team.save()

    call_command("recompute_metrics", "--team", row.team.slug)

    row.refresh_from_db()
    assert (row.first_review_at, row.review_rounds) == (None, 0)
    others = row.reviews.exclude(reviewer_login=row.author_login).count()
    assert row.provenance["excluded"]["bot_reviews"] == {"team": others}


def test_row_that_waits_for_a_refetch_keeps_its_numbers(row: PullRequest) -> None:
    """The stored data are still valid while they are fetched again."""
    row.claim(job_id="look")

    call_command("recompute_metrics")

    row.refresh_from_db()
    assert (row.sync_status, row.review_rounds) == ("queued", 1)


def test_clock_measures_only_what_older_formulas_measured(row: PullRequest) -> None:
    """After an upgrade no operator has to remember it."""
    current = remeasure_outdated()
    PullRequest.objects.update(metrics_version=METRICS_VERSION - 1, review_rounds=99)

    outdated = remeasure_outdated()

    row.refresh_from_db()
    assert (current, outdated) == ({"measured": 0}, {"measured": 1})
    assert (row.metrics_version, row.review_rounds) == (METRICS_VERSION, 1)


def test_pull_request_that_was_never_fetched_is_not_measured(db: None) -> None:
    """Its metrics are unknown, and must not look known."""
    row = PullRequestFactory(merged=True)

    call_command("recompute_metrics")

    row.refresh_from_db()
    assert (row.metrics_version, row.review_rounds) == (None, None)


def test_unknown_team_is_wrong_usage(db: None) -> None:
    """A mistyped team must not look like one without pull requests."""
    with pytest.raises(CommandError, match="no team 'nobody'"):
        call_command("recompute_metrics", "--team", "nobody")


def test_dismissed_request_is_recovered_from_the_timeline(sandbox: SandboxServer, db: None) -> None:
    """No webhook reported it, and GitHub's list of reviews says only “dismissed”."""
    row = fetch(sandbox, "a dismissed request for changes")

    states = dict(row.reviews.values_list("state", "submitted_state"))
    assert states["dismissed"] == "changes_requested"
    assert (row.changes_requested_count, row.review_rounds) == (1, 1)
    assert row.provenance["dismissed_reviews"] == {"recovered": 1, "unknown": 0}


def test_draft_and_legacy_statuses_are_measured(sandbox: SandboxServer, db: None) -> None:
    """Time as a draft is not time spent waiting, and some CI has no check runs."""
    row = fetch(sandbox, "a draft that became ready, with legacy statuses")

    assert row.ready_at is not None
    assert row.review_wait_hours < row.review_time_hours
    assert row.ci_at_merge == "passed"
    assert set(row.commit_statuses.values_list("context", "state")) == {
        ("ci/jenkins", "success"),
        ("license/cla", "success"),
    }


def test_bots_are_written_as_people_write_them(row: PullRequest) -> None:
    """Read as one long login, the list would match nobody."""
    row.team.bot_logins = "Mona,@Hubot  @renovate\n, ,octo-ci"

    assert row.team.list_bots() == {"mona", "hubot", "renovate", "octo-ci"}


def test_other_bots_have_the_clock_measure_the_team_again(row: PullRequest) -> None:
    """No operator has to run a command, and other teams' rows stay."""
    other = PullRequestFactory(merged=True, metrics_version=METRICS_VERSION)
    reviewers = set(row.reviews.values_list("reviewer_login", flat=True))
    row.team.bot_logins = ", ".join(f"@{login}" for login in sorted(reviewers))

    row.team.save()

    row.refresh_from_db()
    assert row.metrics_version == TO_BE_MEASURED
    assert remeasure_outdated() == {"measured": 1}
    row.refresh_from_db()
    other.refresh_from_db()
    assert (row.metrics_version, row.first_review_at) == (METRICS_VERSION, None)
    assert (row.merged_without_review, other.metrics_version) == (True, METRICS_VERSION)


def test_same_bots_in_other_words_measure_nothing_again(row: PullRequest) -> None:
    """Saving a team for another reason must cause no work."""
    row.team.bot_logins = "hubot, mona"
    row.team.save()
    remeasure_outdated()
    row.team.bot_logins = "@Mona\n@hubot"

    row.team.save()

    row.refresh_from_db()
    assert row.metrics_version == METRICS_VERSION


def test_unknown_bots_are_named(row: PullRequest) -> None:
    """A mistyped login matches nobody, and nothing else would show it."""
    known = row.reviews.first().reviewer_login
    row.team.bot_logins = f"{known.upper()} hubbot"

    assert row.team.list_unknown_bots() == ["hubbot"]


def test_pull_request_by_a_bot_is_known_for_one(row: PullRequest) -> None:
    """The dashboard leaves it out, also if only the team calls the author a bot."""
    before = row.is_by_bot
    row.team.bot_logins = row.author_login
    row.team.save()

    remeasure_outdated()

    row.refresh_from_db()
    assert (before, row.is_by_bot) == (False, True)


def test_saving_unknown_bots_names_them(row: PullRequest, client: Client) -> None:
    """A user who mistypes a login sees it on the same page."""
    client.force_login(UserFactory(is_superuser=True))
    url = reverse("admin:metrics_sync_team_change", args=[row.team.pk])
    values = {"name": row.team.name, "slug": row.team.slug, "members": []}

    page = client.post(url, {**values, "bot_logins": f"@{row.author_login}, hubbot"}, follow=True)

    told = [str(message) for message in page.context["messages"]]
    assert "The clock measures the team's pull requests again." in told
    assert "No account of this team's pull requests is called hubbot. Check the spelling." in told
    row.refresh_from_db()
    assert row.metrics_version == TO_BE_MEASURED
