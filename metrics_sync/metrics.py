"""How a pull request was reviewed, in numbers: history in, numbers out; pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import fmean

#: Raised whenever a formula below gives another number for the same history.
METRICS_VERSION = 1

CHANGES_REQUESTED = "changes_requested"


@dataclass(frozen=True, slots=True)
class Review:
    """A review as it was when submitted. `reviewer_id` is null for a deleted account."""

    submitted_at: datetime | None
    state: str
    reviewer_id: int | None = None
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one pull request; a list that was not fetched whole is None."""

    created_at: datetime | None
    merged_at: datetime | None
    author_id: int | None
    committed_at: Sequence[datetime | None] | None
    reviews: Sequence[Review] | None
    comments: int | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """The numbers, under the names of the model's fields; None where they cannot be known."""

    first_review_at: datetime | None
    cycle_time_hours: Decimal | None
    review_time_hours: Decimal | None
    review_rounds: int | None
    avg_fix_response_hours: Decimal | None
    commits_after_first_review: int | None
    total_comments: int | None


def measure(history: History) -> Metrics:
    """Measure a history. A number that needs a list which was not fetched whole is None.

    A pull request that nobody reviewed has no `first_review_at` and, known for certain, no
    review rounds and no commits after the first review.
    """
    reviews = None
    if history.reviews is not None:
        reviews = list(select_reviews(history.reviews, author_id=history.author_id))
    commits = history.committed_at
    committed_at = None if commits is None else [moment for moment in commits if moment]
    first_review_at = min((moment for moment, _ in reviews), default=None) if reviews else None
    asked_at = None
    if reviews is not None:
        asked_at = [moment for moment, state in reviews if state == CHANGES_REQUESTED]

    rounds = response = after = None
    if reviews is not None and asked_at is not None and committed_at is not None:
        rounds = measure_review_rounds(asked_at, committed_at)
        response = measure_fix_response(asked_at, committed_at)
        after = sum(first_review_at is not None and at > first_review_at for at in committed_at)
    return Metrics(
        first_review_at=first_review_at,
        cycle_time_hours=measure_hours(history.created_at, history.merged_at),
        review_time_hours=measure_hours(history.created_at, first_review_at),
        review_rounds=rounds,
        avg_fix_response_hours=response,
        commits_after_first_review=after,
        total_comments=history.comments,
    )


def select_reviews(
    reviews: Iterable[Review], *, author_id: int | None
) -> Iterable[tuple[datetime, str]]:
    """Keep the reviews that count: submitted, by somebody else than the author, not by a bot.

    An author who answers a review comment creates a review of their own. A deleted account
    cannot be compared with the author's and counts as somebody else.
    """
    for review in reviews:
        by_author = review.reviewer_id is not None and review.reviewer_id == author_id
        if review.submitted_at is not None and not by_author and not review.is_bot:
            yield review.submitted_at, review.state


def measure_review_rounds(asked_at: Sequence[datetime], committed_at: Sequence[datetime]) -> int:
    """Count how often requested changes were answered with commits.

    Requests with no commit between them belong to one round, so two reviewers asking before
    one fix count once, and a request that nobody answered counts as none. The order of the
    items does not matter.
    """
    asked, fixes = sorted(asked_at), sorted(committed_at)
    rounds = 0
    for position, moment in enumerate(asked):
        fixed_at = _find_later(fixes, moment)
        is_last = position + 1 == len(asked)
        if fixed_at is not None and (is_last or fixed_at < asked[position + 1]):
            rounds += 1
    return rounds


def measure_fix_response(
    asked_at: Sequence[datetime], committed_at: Sequence[datetime]
) -> Decimal | None:
    """Average the hours from a request for changes to the first later commit.

    Requests that no commit follows are left out; None when that leaves none. The order of the
    items does not matter.
    """
    fixes = sorted(committed_at)
    answers = [(moment, _find_later(fixes, moment)) for moment in asked_at]
    waits = [(fixed_at - moment).total_seconds() for moment, fixed_at in answers if fixed_at]
    return _to_hours(timedelta(seconds=fmean(waits))) if waits else None


def measure_hours(start: datetime | None, end: datetime | None) -> Decimal | None:
    """Return the hours from start to end, never below zero; None when either is unknown."""
    if start is None or end is None:
        return None
    return _to_hours(max(end - start, timedelta(0)))


def _find_later(moments: Sequence[datetime], moment: datetime) -> datetime | None:
    """Return the first of the sorted moments that is later than the given one."""
    position = bisect_right(moments, moment)
    return moments[position] if position < len(moments) else None


def _to_hours(duration: timedelta) -> Decimal:
    return round(Decimal(duration / timedelta(hours=1)), 2)
