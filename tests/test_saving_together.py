"""Pull requests that are stored in one transaction."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from metrics_sync.exceptions import RetrySoonError
from metrics_sync.jobs.saving_together import Fetched, save_fetched_together
from metrics_sync.models import FetchRun, PullRequest, Team
from metrics_sync.sandbox import make_recording
from metrics_sync.snapshot import Snapshot, read_pull_request
from metrics_sync.snapshot.items import CommitItem, Section
from metrics_sync.snapshot.results import VERIFIED, SectionResult
from tests.factories import PullRequestFactory, TeamFactory

REPOSITORY = "acme/anvil"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


@pytest.fixture
def team() -> Team:
    made: Team = TeamFactory()
    return made


def fetch(team: Team, *numbers: int, too_large: Sequence[int] = ()) -> list[Fetched]:
    """Return snapshots with a commit each; some have a number that no column holds."""
    return [_fetch_one(team, number, is_too_large=number in too_large) for number in numbers]


def _fetch_one(team: Team, number: int, *, is_too_large: bool) -> Fetched:
    row = PullRequestFactory(
        merged=True, team=team, github_repo=REPOSITORY, github_pr_number=number
    )
    pull = make_recording(REPOSITORY, number).pull | {"id": row.github_pr_id}
    pull["number"] = 2**70 if is_too_large else number
    commit = CommitItem(f"{number:040}", "Make it lighter", None, "", NOW, NOW)
    lists = dict.fromkeys(Section, SectionResult((), 0, VERIFIED))
    lists[Section.COMMITS] = SectionResult((commit,), 1, VERIFIED)
    return Fetched(row, Snapshot(read_pull_request(pull, github_repo=REPOSITORY), lists, etags={}))


def test_each_has_its_rows_its_run_and_its_proof(team: Team) -> None:
    """Whoever reads one sees no difference to one that was fetched alone."""
    fetched = fetch(team, 1, 2, 3)

    assert save_fetched_together(fetched) == [True] * 3

    for row in PullRequest.objects.order_by("github_pr_number"):
        [commit], [run] = row.commits.all(), row.fetch_runs.all()
        assert commit.github_sha == f"{row.github_pr_number:040}"
        assert (row.sync_status, row.sync_attempts, run.status) == ("complete", 1, "complete")
        assert row.receipt == run.receipt
        assert row.receipt["commits"]["stored"] == 1
    assert [one.row.sync_status for one in fetched] == ["complete"] * 3


def test_fault_of_one_loses_no_other(team: Team) -> None:
    """A row that the database refuses must not take twenty-four others with it."""
    fetched = fetch(team, 1, 2, 3, too_large=[2])

    save_fetched_together(fetched)

    assert [one.row.sync_status for one in fetched] == ["complete", "failed", "complete"]
    assert list(FetchRun.objects.order_by("pk").values_list("status", flat=True)) == [
        "complete",
        "failed",
        "complete",
    ]


def test_row_that_a_job_took_meanwhile_is_left_to_it(team: Team) -> None:
    """The job's data may be newer; the others are written all the same."""
    fetched = fetch(team, 1, 2)
    PullRequest.objects.filter(github_pr_number=1).update(sync_job_id="other")

    assert save_fetched_together(fetched) == [False, True]

    left = PullRequest.objects.get(github_pr_number=1)
    assert (left.sync_status, left.sync_job_id, left.commits.count()) == ("pending", "other", 0)


def test_change_that_came_meanwhile_is_not_lost(team: Team) -> None:
    """GitHub may have been asked before it."""
    fetched = fetch(team, 1)
    PullRequest.objects.note_change()

    save_fetched_together(fetched)

    assert PullRequest.objects.get().refetch_at is not None


def test_run_that_was_killed_is_closed(team: Team) -> None:
    """A record that says “running” for ever tells of a fetch that nobody runs."""
    [one] = fetch(team, 1)
    FetchRun.start(one.row, job_id="killed")

    save_fetched_together([one])

    assert set(FetchRun.objects.values_list("status", flat=True)) == {"failed", "complete"}


def test_more_take_no_more_queries(team: Team) -> None:
    """With twenty-three for each, storing took most of a backfill's time."""
    counts = []
    for numbers in ([1], [2, 3], [4, 5, 6, 7, 8]):
        fetched = fetch(team, *numbers)
        with CaptureQueriesContext(connection) as queries:
            save_fetched_together(fetched)
        counts.append(len(queries))

    assert counts[2] == counts[1]


def test_row_keeps_what_the_run_of_another_sets(team: Team) -> None:
    """One statement writes the fields of all, also those that only one of them has set."""
    whole, partial = fetch(team, 1, 2)
    failed = SectionResult(error=RetrySoonError("GitHub answers 502"))
    lists = {**partial.snapshot.sections, Section.COMMITS: failed}
    partial = partial._replace(snapshot=replace(partial.snapshot, sections=lists))
    PullRequest.objects.update(failures=3, retry_at=NOW)

    save_fetched_together([whole, partial])

    rows = PullRequest.objects.order_by("github_pr_number")
    assert [(row.sync_status, row.failures) for row in rows] == [("complete", 0), ("partial", 1)]
    first, second = rows
    assert (first.retry_at, first.completed_at is None) == (None, False)
    assert (second.retry_at in {None, NOW}, second.completed_at) == (False, None)
