"""Unusual pull requests whose metrics are easy to get wrong, from GitHub's answers to the row.

Times are hours after the opening; the expected values were worked out by hand.
"""

from collections.abc import Callable
from typing import Any

import pytest

from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import PullRequest
from metrics_sync.sandbox import SandboxServer
from metrics_sync.sandbox.builder import PullRequestBuilder
from metrics_sync.sandbox.shapes import Json
from tests.fetching import fetch_recording

HOUR = 60


class Story:
    """A pull request by Mona that Grace merges; times are hours after its opening."""

    def __init__(self, merged: float) -> None:
        self.merged = merged
        self.builder = PullRequestBuilder("acme/cases", 7)
        self.commit(-1)

    def commit(self, at: float, *, merges: str = "") -> Json:
        built = self.builder.commit(at * HOUR)
        if merges:
            built["parents"].append({**built["parents"][0], "sha": self.builder.sha(merges)})
        return built

    def review(self, at: float | None, login: str, state: str, body: str = "") -> Json:
        minutes = None if at is None else at * HOUR
        return self.builder.review(minutes, login=login, state=state, body=body)

    def run(self, start: float, end: float | None, name: str = "test", **more: Any) -> Json:
        if end is None:
            return self.builder.check_run(start * HOUR, name=name, status="in_progress", **more)
        minutes = (end - start) * HOUR
        return self.builder.check_run(start * HOUR, name=name, minutes=minutes, **more)

    def event(self, at: float, name: str, **more: object) -> None:
        self.builder.event(at * HOUR, name, **more)

    def remark(self, at: float, login: str) -> Json:
        return self.builder.comment(at * HOUR, login=login)

    def dismiss(self, at: float, review: Json) -> None:
        was = {"review_id": review["id"], "state": review["state"].lower()}
        review["state"] = "DISMISSED"
        self.event(at, "review_dismissed", dismissed_review=was)


def cleanup_after_the_merge(story: Story) -> None:
    story.run(0.1, 0.2)
    story.run(story.merged + 0.01, story.merged + 0.02, "cleanup", suite=1)


def failure_that_was_run_again(story: Story) -> None:
    story.run(0.1, 0.2, conclusion="failure", suite=1)
    story.run(0.5, 0.6, suite=2)


def failure_that_came_again(story: Story) -> None:
    story.run(0.1, 0.2, suite=1)
    story.run(0.5, 0.6, conclusion="failure", suite=2)


def replaced_after_the_merge(story: Story) -> None:
    story.run(0.1, 0.2, conclusion="failure")
    story.run(story.merged + 1, story.merged + 2)


def equal_names_of_two_apps(story: Story) -> None:
    story.run(0.1, 0.2, conclusion="failure", suite=1)
    story.run(0.2, 0.3, suite=2, app_slug="circleci-checks")


def stale_check(story: Story) -> None:
    story.run(0.1, 0.2, conclusion="stale")


def check_that_runs_at_the_merge(story: Story) -> None:
    story.run(0.5, story.merged + 0.3, conclusion="failure")


def workflow_that_reviews_start(story: Story) -> None:
    story.run(0.1, 0.2, suite=1)
    story.review(story.merged - 1, "grace", "APPROVED")
    story.run(story.merged - 1, story.merged - 0.9, "on-review", suite=2)


def status_after_the_merge(story: Story) -> None:
    story.builder.status(0.5 * HOUR, context="ci", state="success")
    story.builder.status((story.merged + 2) * HOUR, context="deploy", state="failure")


def review_after_the_merge(story: Story) -> None:
    story.review(story.merged + 24, "grace", "COMMENTED", "why?")


def dismissed_approval(story: Story) -> None:
    review = story.review(2, "grace", "APPROVED")
    story.commit(5)
    story.dismiss(5, review)


def approval_after_a_dismissal(story: Story) -> None:
    dismissed_approval(story)
    story.review(8, "grace", "APPROVED")


def approval_that_was_taken_back(story: Story) -> None:
    story.review(2, "grace", "APPROVED")
    story.review(4, "grace", "CHANGES_REQUESTED")


def draft_again(story: Story) -> None:
    story.event(1, "convert_to_draft")
    story.event(6, "ready_for_review")
    story.review(8, "grace", "APPROVED")


def review_of_a_draft(story: Story) -> None:
    story.event(4, "ready_for_review")
    story.review(2, "grace", "COMMENTED", "early")
    story.review(7, "grace", "APPROVED")


def update_of_the_branch(story: Story) -> None:
    story.review(2, "grace", "CHANGES_REQUESTED")
    story.commit(3, merges="main")
    story.commit(9)


def commit_by_a_bot(story: Story) -> None:
    """Its author has no account, only an address of the form that GitHub gives to bots."""
    story.review(2, "grace", "CHANGES_REQUESTED")
    bot = story.commit(3)
    bot["author"] = None
    bot["commit"]["author"]["email"] = "66853113+pre-commit-ci[bot]@users.noreply.github.com"
    story.commit(8)


def slow_clock(story: Story) -> None:
    story.review(2, "grace", "CHANGES_REQUESTED")
    story.commit(-20)


def bots_that_answer_first(story: Story) -> None:
    review = story.review(0.05, "copilot-pull-request-reviewer[bot]", "COMMENTED", "Overview")
    line = story.builder.review_comment(0.05 * HOUR, review, path="src/app.py")
    line["user"] = {**line["user"], "login": "Copilot", "type": "Bot"}
    story.remark(0.1, "coderabbitai[bot]")
    story.review(5, "grace", "APPROVED")


def deleted_accounts(story: Story) -> None:
    story.builder.pull["user"] = None
    story.remark(1, "ghost")["user"] = None


def review_with_a_text(story: Story) -> None:
    story.review(2, "grace", "COMMENTED", "Please rename this.")
    story.remark(3, "mona")


def pending_and_own_reviews(story: Story) -> None:
    story.review(1, "mona", "COMMENTED", "see below")
    story.commit(2)


CASES: list[tuple[Callable[[Story], None], float, dict[str, Any]]] = [
    (cleanup_after_the_merge, 48, {"ci_at_merge": "passed", "ci_duration_hours": 0.1}),
    (failure_that_was_run_again, 1, {"ci_at_merge": "passed", "ci_duration_hours": 0.2}),
    (failure_that_came_again, 1, {"ci_at_merge": "failed"}),
    (replaced_after_the_merge, 1, {"ci_at_merge": "failed", "ci_duration_hours": 0.1}),
    (equal_names_of_two_apps, 1, {"ci_at_merge": "failed"}),
    (stale_check, 400, {"ci_at_merge": "pending"}),
    (check_that_runs_at_the_merge, 1, {"ci_at_merge": "pending", "ci_duration_hours": 0.5}),
    (workflow_that_reviews_start, 48, {"ci_at_merge": "passed", "ci_duration_hours": 0.2}),
    (status_after_the_merge, 1, {"ci_at_merge": "passed"}),
    (
        review_after_the_merge,
        10,
        {"review_time_hours": None, "review_wait_hours": None, "first_review_at": None}
        | {"cycle_time_hours": 10, "merged_without_review": True},
    ),
    (dismissed_approval, 10, {"approval_to_merge_hours": None, "merged_without_approval": True}),
    (approval_after_a_dismissal, 10, {"approval_to_merge_hours": 2, "first_approval_hours": 2}),
    (approval_that_was_taken_back, 10, {"approval_to_merge_hours": None}),
    (draft_again, 10, {"review_wait_hours": 3, "draft_hours": 5}),
    (review_of_a_draft, 10, {"review_wait_hours": 3, "review_time_hours": 2}),
    (update_of_the_branch, 10, {"avg_fix_response_hours": 7, "commits_after_first_review": 1}),
    (commit_by_a_bot, 10, {"avg_fix_response_hours": 6, "commits_after_first_review": 1}),
    (slow_clock, 10, {"avg_fix_response_hours": 0, "review_rounds": 1}),
    (
        bots_that_answer_first,
        6,
        {"review_wait_hours": 5, "first_response_hours": 5, "total_comments": 2},
    ),
    (deleted_accounts, 4, {"first_response_hours": 1, "merged_by_author": None}),
    (review_with_a_text, 5, {"total_comments": 1, "human_comments": 2}),
    (
        pending_and_own_reviews,
        5,
        {"review_wait_hours": None, "commits_after_first_review": 0, "merged_by_author": False},
    ),
]


def fetch(sandbox: SandboxServer, tell: Callable[[Story], None], merged: float) -> PullRequest:
    """Fetch the pull request of a story."""
    story = Story(merged)
    tell(story)
    return fetch_recording(sandbox, story.builder.finish(merged=merged * HOUR, merged_by="grace"))


@pytest.mark.parametrize(
    ("tell", "merged", "expected"), [pytest.param(*case, id=case[0].__name__) for case in CASES]
)
@pytest.mark.django_db
def test_numbers_are_those_worked_out_by_hand(
    sandbox: SandboxServer,
    tell: Callable[[Story], None],
    merged: float,
    expected: dict[str, Any],
) -> None:
    """The whole path is tested, from GitHub's answer to the row."""
    row = fetch(sandbox, tell, merged)

    found = {name: getattr(row, name) for name in expected}
    exact = {n: round(v, 2) if isinstance(v, float) else v for n, v in expected.items()}
    assert {n: float(v) if n.endswith("_hours") and v is not None else v
            for n, v in found.items()} == exact  # fmt: skip


@pytest.mark.django_db
def test_all_runs_are_asked_for_only_when_one_began_after_the_merge(
    sandbox: SandboxServer,
) -> None:
    """It costs a request, which an ordinary pull request does not need."""
    row = fetch(sandbox, replaced_after_the_merge, 1)
    asked = [request for request in sandbox.requests if "/check-runs" in request.path]

    assert ["filter=all" in request.query for request in asked] == [False, True]
    assert row.receipt["check_runs"]["scope"] == "all"
    assert row.check_runs.count() == 2
    assert row.provenance["excluded"]["after_merge"]["unknown_checks"] == []


@pytest.mark.django_db
def test_ordinary_pull_request_has_its_runs_with_one_request(sandbox: SandboxServer) -> None:
    """If nothing ran after the merge, the newest run of each check is enough."""
    fetch(sandbox, failure_that_was_run_again, 1)

    asked = [request.query for request in sandbox.requests if "/check-runs" in request.path]
    assert ["filter" in query for query in asked] == [False]
    assert len(sandbox.requests) <= 9


@pytest.mark.django_db
def test_runs_that_are_fetched_again_stay_all_of_them(sandbox: SandboxServer) -> None:
    """An unchanged page does not show with which filter it was requested."""
    row = fetch(sandbox, replaced_after_the_merge, 1)
    asked = len(sandbox.requests)

    row.claim(job_id="again")
    fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    later = [r for r in list(sandbox.requests)[asked:] if "/check-runs" in r.path]
    assert [request.query.count("filter=all") for request in later] == [1]
    assert (row.receipt["check_runs"]["scope"], row.ci_at_merge) == ("all", "failed")
