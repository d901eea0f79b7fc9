"""Selects the reviews and comments that count, by who wrote them; pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from metrics_sync.metrics.history import BotRule, Comment, Review


@dataclass(slots=True)
class Exclusions:
    """How many items do not count, by the reason; those of bots by the rule."""

    own_reviews: int = 0
    pending_reviews: int = 0
    bot_reviews: dict[str, int] = field(default_factory=dict)
    own_comments: int = 0
    bot_comments: dict[str, int] = field(default_factory=dict)
    merge_commits: int = 0
    bot_commits: dict[str, int] = field(default_factory=dict)
    after_merge: dict[str, Any] = field(default_factory=dict)


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
            count_bot(excluded.bot_reviews, review.bot_rule)
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
            count_bot(excluded.bot_comments, comment.bot_rule)
        else:
            counted.append(comment)
    return counted


def count_human_comments(
    comments: Iterable[Comment] | None, reviews: Iterable[Review] | None
) -> int | None:
    """Count what people, including the author, wrote: comments, and reviews with a text."""
    if comments is None or reviews is None:
        return None
    texts = [r for r in reviews if r.submitted_at is not None and r.has_body and not r.bot_rule]
    return len(texts) + sum(comment.bot_rule is None for comment in comments)


def count_bot(counts: dict[str, int], rule: BotRule) -> None:
    counts[rule.value] = counts.get(rule.value, 0) + 1


def _is_author(account_id: int | None, author_id: int | None) -> bool:
    return account_id is not None and account_id == author_id
