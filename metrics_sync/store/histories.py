"""Reads the stored rows of a pull request as the history that its metrics are measured by."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from metrics_sync.metrics import (
    METRICS_VERSION,
    Check,
    Comment,
    Commit,
    Event,
    History,
    Review,
    measure,
)
from metrics_sync.metrics.history import BotRule
from metrics_sync.models import PullRequest, TeamMember
from metrics_sync.snapshot import Receipt, Section

COMPLETED = "completed"


def measure_rows(row: PullRequest) -> dict[str, Any]:
    """Measure the stored rows; returns the values of the model's fields, unsaved.

    Only reads, and only the database. Lists that were not fetched whole are left out as unknown.
    """
    return {**asdict(measure(read_history(row))), "metrics_version": METRICS_VERSION}


def read_history(row: PullRequest) -> History:
    known = Receipt.from_json(row.receipt).whole
    bots = frozenset(row.team.bot_logins.lower().split())
    return History(
        created_at=row.pr_created_at,
        merged_at=row.merged_at,
        author_id=row.author.github_id if row.author else None,
        commits=_read_commits(row) if Section.COMMITS in known else None,
        reviews=_read_reviews(row, bots) if Section.REVIEWS in known else None,
        comments=_read_comments(row, bots) if known >= COMMENTS else None,
        events=_read_events(row) if Section.TIMELINE in known else None,
        checks=_read_checks(row) if known >= CHECKS else None,
    )


COMMENTS = {Section.ISSUE_COMMENTS, Section.REVIEW_COMMENTS}
CHECKS = {Section.CHECK_RUNS, Section.COMMIT_STATUSES}


def find_bot_rule(person: TeamMember | None, bots: Iterable[str]) -> BotRule | None:
    """Say by which rule an account is a bot: the team's list, the login, or GitHub's word."""
    if person is None:
        return None
    if person.login.lower() in bots:
        return BotRule.TEAM
    if person.login.endswith("[bot]"):
        return BotRule.SUFFIX
    return BotRule.TYPE if person.is_bot else None


def _read_commits(row: PullRequest) -> Sequence[Commit]:
    values = row.commits.values_list("github_sha", "committed_at", "position")
    return [Commit(*value) for value in values]


def _read_reviews(row: PullRequest, bots: frozenset[str]) -> Sequence[Review]:
    return [
        Review(
            submitted_at=review.submitted_at,
            state=review.submitted_state or review.state,
            reviewer_id=review.reviewer.github_id if review.reviewer else None,
            commit_sha=review.commit_sha,
            bot_rule=find_bot_rule(review.reviewer, bots),
            was_dismissed=review.state == "dismissed",
        )
        for review in row.reviews.select_related("reviewer").defer("body")
    ]


def _read_comments(row: PullRequest, bots: frozenset[str]) -> Sequence[Comment]:
    return [
        Comment(
            created_at=comment.created_at,
            author_id=comment.author.github_id if comment.author else None,
            bot_rule=find_bot_rule(comment.author, bots),
        )
        for comment in row.comments.select_related("author").defer("body")
    ]


def _read_events(row: PullRequest) -> Sequence[Event]:
    if not _has_rows(row, Section.TIMELINE):
        return []
    return [Event(*value) for value in row.timeline_events.values_list("event", "created_at")]


def _read_checks(row: PullRequest) -> Sequence[Check]:
    """Return check runs and legacy statuses alike; a status has no start."""
    runs = row.check_runs.values_list("status", "conclusion", "started_at", "completed_at")
    statuses: Iterable[Any] = ()
    if _has_rows(row, Section.COMMIT_STATUSES):
        statuses = row.commit_statuses.values_list("state", "updated_at")
    return [
        *(Check(done if status == COMPLETED else "", *times) for status, done, *times in runs),
        *(Check("" if state == "pending" else state, None, at) for state, at in statuses),
    ]


def _has_rows(row: PullRequest, section: Section) -> bool:
    """Whether the last fetch left rows of a section that only a fetch writes."""
    return Receipt.from_json(row.receipt).count_stored(section) > 0
