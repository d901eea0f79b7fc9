"""Measures a history: every number, and how it got its value; pure."""

from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from metrics_sync.metrics.checks import measure_ci, measure_ci_hours
from metrics_sync.metrics.commits import Basis, measure_commits_after
from metrics_sync.metrics.history import Comment, Event, History, Review
from metrics_sync.metrics.hours import measure_hours
from metrics_sync.metrics.reviews import (
    APPROVED,
    CHANGES_REQUESTED,
    DISMISSED,
    Exclusions,
    measure_fix_response,
    measure_review_rounds,
    select_people,
    select_reviews,
)

#: Raised whenever a formula gives another number for the same history.
METRICS_VERSION = 2


@dataclass(frozen=True, slots=True)
class Metrics:
    """The numbers, under the names of the model's fields; None where they cannot be known.

    `provenance` says what they rest on: which reviews and comments were left out and why, how
    many dismissed reviews were known for what they had been, how the commits after the first
    review were told, and which lists were missing. docs/metrics.md explains each number.
    """

    first_review_at: datetime | None
    cycle_time_hours: Decimal | None
    review_time_hours: Decimal | None
    review_rounds: int | None
    avg_fix_response_hours: Decimal | None
    commits_after_first_review: int | None
    total_comments: int | None
    ready_at: datetime | None
    review_wait_hours: Decimal | None
    first_response_at: datetime | None
    first_response_hours: Decimal | None
    changes_requested_count: int | None
    approval_to_merge_hours: Decimal | None
    ci_at_merge: str
    ci_duration_hours: Decimal | None
    provenance: dict[str, Any]


def measure(history: History) -> Metrics:
    """Measure a history. A number that needs a list which was not fetched whole is None.

    A pull request that nobody reviewed has no `first_review_at` and, known for certain, no
    review rounds and no commits after the first review. The order of the items does not matter.
    """
    excluded = Exclusions()
    reviews = select_reviews(history.reviews, author_id=history.author_id, excluded=excluded)
    people = select_people(history.comments, author_id=history.author_id, excluded=excluded)
    first_review_at = _find_first([at for at, _ in reviews]) if reviews else None
    ready_at = find_ready_at(history)
    first_response_at = _find_first_response(reviews, people)
    rounds = response = after = asked = None
    basis: Basis | None = None
    if reviews is not None:
        asked_at = [at for at, review in reviews if review.state == CHANGES_REQUESTED]
        asked = len(asked_at)
        if history.commits is not None:
            committed_at = [c.committed_at for c in history.commits if c.committed_at]
            rounds = measure_review_rounds(asked_at, committed_at)
            response = measure_fix_response(asked_at, committed_at)
            after, basis = measure_commits_after(history.commits, reviews)
    return Metrics(
        first_review_at=first_review_at,
        cycle_time_hours=measure_hours(history.created_at, history.merged_at),
        review_time_hours=measure_hours(history.created_at, first_review_at),
        review_rounds=rounds,
        avg_fix_response_hours=response,
        commits_after_first_review=after,
        total_comments=None if history.comments is None else len(history.comments),
        ready_at=ready_at,
        review_wait_hours=measure_hours(ready_at, first_review_at),
        first_response_at=first_response_at,
        first_response_hours=measure_hours(ready_at, first_response_at),
        changes_requested_count=asked,
        approval_to_merge_hours=measure_approval(reviews, merged_at=history.merged_at),
        ci_at_merge=measure_ci(history.checks, merged_at=history.merged_at),
        ci_duration_hours=measure_ci_hours(history.checks),
        provenance=_explain(history, excluded, basis=basis),
    )


def find_ready_at(history: History) -> datetime | None:
    """Say since when the pull request asked for review; None without the timeline.

    That is when it was first marked ready for review if it was opened as a draft, else its
    opening. One that only became a draft later was ready at first.
    """
    if history.events is None:
        return None
    drafting = [e for e in history.events if e.event in {"ready_for_review", "convert_to_draft"}]
    first: Event | None = min(drafting, key=lambda e: (e.created_at, e.event), default=None)
    if first is not None and first.event == "ready_for_review":
        return first.created_at
    return history.created_at


def measure_approval(
    reviews: list[tuple[datetime, Review]] | None, *, merged_at: datetime | None
) -> Decimal | None:
    """Return the hours from the last approval before the merge to the merge; None without one."""
    if reviews is None or merged_at is None:
        return None
    approved = [at for at, review in reviews if review.state == APPROVED and at <= merged_at]
    return measure_hours(max(approved), merged_at) if approved else None


def _find_first(moments: list[datetime]) -> datetime | None:
    return min(moments, default=None)


def _find_first_response(
    reviews: list[tuple[datetime, Review]] | None, people: list[Comment] | None
) -> datetime | None:
    """Find the first comment or review by a person other than the author."""
    if reviews is None or people is None:
        return None
    return _find_first([*(at for at, _ in reviews), *(comment.created_at for comment in people)])


def _explain(history: History, excluded: Exclusions, *, basis: Basis | None) -> dict[str, Any]:
    dismissed = [review for review in history.reviews or () if review.was_dismissed]
    unknown = sum(review.state == DISMISSED for review in dismissed)
    lists = ("commits", "reviews", "comments", "events", "checks")
    return {
        "commits_after_first_review": basis,
        "excluded": asdict(excluded),
        "dismissed_reviews": {"recovered": len(dismissed) - unknown, "unknown": unknown},
        "missing": [name for name in lists if getattr(history, name) is None],
    }
