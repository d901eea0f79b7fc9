"""Measures a history: every number, and how it got its value; pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from metrics_sync.metrics.checks import measure_ci, measure_ci_hours
from metrics_sync.metrics.commits import (
    Answer,
    find_answers,
    measure_coding,
    measure_commits_after,
    measure_fix_response,
    measure_last_commit,
    measure_review_rounds,
    select_commits,
)
from metrics_sync.metrics.drafts import Phases, find_ready_at, list_phases
from metrics_sync.metrics.ending import describe, end_at_merge
from metrics_sync.metrics.history import History
from metrics_sync.metrics.hours import measure_hours, to_hours
from metrics_sync.metrics.people import (
    Exclusions,
    count_human_comments,
    select_people,
    select_reviews,
)
from metrics_sync.metrics.reviews import (
    APPROVED,
    CHANGES_REQUESTED,
    DISMISSED,
    Timed,
    describe_reviewers,
    find_approved_at,
)
from metrics_sync.metrics.sizes import count_lines, find_band

#: Raised whenever a formula gives another number for the same history.
METRICS_VERSION = 3


@dataclass(slots=True)
class Metrics:
    """The numbers, under the names of the model's fields; None where they cannot be known.

    `provenance` says how they were computed: what was left out and why, for how many dismissed
    reviews the earlier state is known, how the commits after the first review were identified, and
    which lists were missing. docs/metrics.md explains each number.
    """

    first_review_at: datetime | None = None
    cycle_time_hours: Decimal | None = None
    review_time_hours: Decimal | None = None
    review_rounds: int | None = None
    avg_fix_response_hours: Decimal | None = None
    commits_after_first_review: int | None = None
    total_comments: int | None = None
    ready_at: datetime | None = None
    review_wait_hours: Decimal | None = None
    first_response_at: datetime | None = None
    first_response_hours: Decimal | None = None
    early_feedback_at: datetime | None = None
    changes_requested_count: int | None = None
    first_approval_hours: Decimal | None = None
    approval_to_merge_hours: Decimal | None = None
    ci_at_merge: str = ""
    ci_duration_hours: Decimal | None = None
    merged_without_review: bool | None = None
    merged_without_approval: bool | None = None
    merged_by_author: bool | None = None
    reviewer_count: int | None = None
    reviewers: list[dict[str, Any]] | None = None
    changed_lines: int | None = None
    size_band: str = ""
    coding_hours: Decimal | None = None
    last_commit_to_merge_hours: Decimal | None = None
    draft_hours: Decimal | None = None
    human_comments: int | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def measure(history: History) -> Metrics:
    """Measure a history. A number that needs a list which was not fetched whole is None.

    A pull request that nobody reviewed has no `first_review_at` and, known for certain, no
    review rounds and no commits after the first review. Nothing after the merge changes a
    number, but for `total_comments`. The order of the items does not matter.
    """
    excluded = Exclusions()
    total_comments = None if history.comments is None else len(history.comments)
    history, after_merge = end_at_merge(history)
    excluded.after_merge = describe(after_merge)
    reviews = select_reviews(history.reviews, author_id=history.author_id, excluded=excluded)
    metrics = Metrics(
        cycle_time_hours=measure_hours(history.created_at, history.merged_at),
        total_comments=total_comments,
        human_comments=count_human_comments(history.comments, history.reviews),
        ci_at_merge=measure_ci(
            None if history.merged_at is None else history.checks,
            has_replaced=after_merge.check_runs > 0 and not history.has_all_runs,
        ),
        ci_duration_hours=measure_ci_hours(
            history.checks, created_at=history.created_at, merged_at=history.merged_at
        ),
        merged_by_author=_is_same(history.merged_by_id, history.author_id),
        changed_lines=count_lines(history.additions, history.deletions),
    )
    metrics.size_band = find_band(metrics.changed_lines)
    if reviews is not None:
        _measure_reviews(metrics, history, reviews)
    _measure_waits(metrics, history, reviews, excluded)
    answers = _measure_commits(metrics, history, reviews, excluded)
    metrics.provenance |= _explain(history, excluded, answers)
    return metrics


def _measure_reviews(metrics: Metrics, history: History, reviews: list[Timed]) -> None:
    metrics.first_review_at = min((at for at, _ in reviews), default=None)
    metrics.review_time_hours = measure_hours(history.created_at, metrics.first_review_at)
    metrics.changes_requested_count = sum(r.state == CHANGES_REQUESTED for _, r in reviews)
    metrics.reviewers = describe_reviewers(reviews, history.events)
    metrics.reviewer_count = len(metrics.reviewers)
    if history.merged_at is not None:
        approved_at = find_approved_at(reviews)
        metrics.approval_to_merge_hours = measure_hours(approved_at, history.merged_at)
        metrics.merged_without_review = not reviews
        metrics.merged_without_approval = approved_at is None


def _measure_waits(
    metrics: Metrics, history: History, reviews: list[Timed] | None, excluded: Exclusions
) -> None:
    comments = select_people(history.comments, author_id=history.author_id, excluded=excluded)
    metrics.ready_at = find_ready_at(history)
    phases = list_phases(history)
    if phases is None:
        return
    if history.merged_at is not None:
        metrics.draft_hours = to_hours(phases.measure_draft())
    if reviews is None:
        return
    reviewed = [at for at, _ in reviews]
    metrics.review_wait_hours = _wait(phases, _find_ready(phases, reviewed))
    approved = [at for at, review in reviews if review.state == APPROVED]
    metrics.first_approval_hours = _wait(phases, min(approved, default=None))
    if comments is None:
        return
    answered = [*reviewed, *(comment.created_at for comment in comments)]
    metrics.first_response_at = _find_ready(phases, answered)
    metrics.first_response_hours = _wait(phases, metrics.first_response_at)
    early = [at for at in answered if not phases.is_ready(at)]
    metrics.early_feedback_at = min(early, default=None)


def _find_ready(phases: Phases, moments: Iterable[datetime]) -> datetime | None:
    """Find the first of the moments at which the pull request was ready."""
    return min((moment for moment in moments if phases.is_ready(moment)), default=None)


def _wait(phases: Phases, until: datetime | None) -> Decimal | None:
    return None if until is None else to_hours(phases.measure_ready(until))


def _measure_commits(
    metrics: Metrics, history: History, reviews: list[Timed] | None, excluded: Exclusions
) -> list[Answer]:
    metrics.provenance["commits_after_first_review"] = None
    if history.commits is None:
        return []
    counted = select_commits(history.commits, excluded=excluded)
    created_at, merged_at = history.created_at, history.merged_at
    metrics.coding_hours = measure_coding(counted, created_at)
    metrics.last_commit_to_merge_hours = measure_last_commit(
        counted, created_at=created_at, merged_at=merged_at
    )
    if reviews is None:
        return []
    requests = [timed for timed in reviews if timed[1].state == CHANGES_REQUESTED]
    answers = find_answers(requests, counted, history.commits, merged_at=merged_at)
    metrics.review_rounds = measure_review_rounds(answers)
    metrics.avg_fix_response_hours = measure_fix_response(answers)
    after, basis = measure_commits_after(counted, history.commits, reviews)
    metrics.commits_after_first_review = after
    metrics.provenance["commits_after_first_review"] = basis
    return answers


def _explain(history: History, excluded: Exclusions, answers: list[Answer]) -> dict[str, Any]:
    dismissed = [review for review in history.reviews or () if review.was_dismissed]
    unknown = sum(review.state == DISMISSED for review in dismissed)
    lists = ("commits", "reviews", "comments", "events", "checks")
    return {
        "answers_with_corrected_time": sum(answer.is_corrected for answer in answers),
        "commits_with_unknown_parents": sum(c.parents is None for c in history.commits or ()),
        "excluded": asdict(excluded),
        "dismissed_reviews": {"recovered": len(dismissed) - unknown, "unknown": unknown},
        "missing": [name for name in lists if getattr(history, name) is None],
    }


def _is_same(one: int | None, other: int | None) -> bool | None:
    return None if one is None or other is None else one == other
