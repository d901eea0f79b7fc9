"""Which reviews count, and how requested changes were answered; pure."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import fmean

from metrics_sync.metrics.history import BotRule, Comment, Review
from metrics_sync.metrics.hours import to_hours

APPROVED = "approved"
CHANGES_REQUESTED = "changes_requested"
DISMISSED = "dismissed"


@dataclass(slots=True)
class Exclusions:
    """How many reviews and comments do not count, by the reason; bots by the rule."""

    own_reviews: int = 0
    pending_reviews: int = 0
    bot_reviews: dict[str, int] = field(default_factory=dict)
    own_comments: int = 0
    bot_comments: dict[str, int] = field(default_factory=dict)


def select_reviews(
    reviews: Iterable[Review] | None, *, author_id: int | None, excluded: Exclusions
) -> list[tuple[datetime, Review]] | None:
    """Keep the reviews that count, each with its time, counting the others into `excluded`.

    Those are submitted, by somebody else than the author, and not by a bot. An author who
    answers a review comment creates a review of their own. A deleted account cannot be compared
    with the author's and counts as somebody else.
    """
    if reviews is None:
        return None
    counted = []
    for review in reviews:
        if review.submitted_at is None:
            excluded.pending_reviews += 1
        elif _is_author(review.reviewer_id, author_id):
            excluded.own_reviews += 1
        elif review.bot_rule is not None:
            _count(excluded.bot_reviews, review.bot_rule)
        else:
            counted.append((review.submitted_at, review))
    return counted


def select_people(
    comments: Iterable[Comment] | None, *, author_id: int | None, excluded: Exclusions
) -> list[Comment] | None:
    """Keep the comments of people other than the author, counting the others into `excluded`."""
    if comments is None:
        return None
    counted = []
    for comment in comments:
        if _is_author(comment.author_id, author_id):
            excluded.own_comments += 1
        elif comment.bot_rule is not None:
            _count(excluded.bot_comments, comment.bot_rule)
        else:
            counted.append(comment)
    return counted


def _count(counts: dict[str, int], rule: BotRule) -> None:
    counts[rule.value] = counts.get(rule.value, 0) + 1


def _is_author(account_id: int | None, author_id: int | None) -> bool:
    return account_id is not None and account_id == author_id


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
    return to_hours(timedelta(seconds=fmean(waits))) if waits else None


def _find_later(moments: Sequence[datetime], moment: datetime) -> datetime | None:
    """Return the first of the sorted moments that is later than the given one."""
    position = bisect_right(moments, moment)
    return moments[position] if position < len(moments) else None
