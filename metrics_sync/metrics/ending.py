"""Ends a history at the merge, and counts what came after it; pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from metrics_sync.metrics.checks import get_key
from metrics_sync.metrics.history import Check, History, Review


@dataclass(slots=True)
class AfterMerge:
    """How much came after the merge, by its list.

    `unknown_checks` names the checks of which only runs after the merge are known, while earlier
    runs may have been replaced.
    """

    reviews: int = 0
    comments: int = 0
    events: int = 0
    check_runs: int = 0
    statuses: int = 0
    unknown_checks: list[str] = field(default_factory=list)


def end_at_merge(history: History) -> tuple[History, AfterMerge]:
    """Return the history as it was at the merge, and what was left out.

    What happened in the very second of the merge belongs to it. A dismissal after the merge is
    taken back, and a check that ended after it was running. Commits stay: GitHub lists none that
    was pushed after the merge.
    """
    merged_at = history.merged_at
    if merged_at is None:
        return history, AfterMerge()
    after = AfterMerge()
    reviews = _keep_until(history.reviews, "submitted_at", merged_at)
    comments = _keep_until(history.comments, "created_at", merged_at)
    events = _keep_until(history.events, "created_at", merged_at)
    checks = None
    if history.checks is not None:
        checks = [_stop(check, merged_at) for check in history.checks if _is_by(check, merged_at)]
        later = [check for check in history.checks if not _is_by(check, merged_at)]
        after.statuses = sum(check.is_status for check in later)
        after.check_runs = len(later) - after.statuses
        known = {get_key(check) for check in checks}
        hidden = [c for c in later if c.is_status or not history.has_all_runs]
        after.unknown_checks = sorted({c.name for c in hidden if get_key(c) not in known})
    for name, kept in (("reviews", reviews), ("comments", comments), ("events", events)):
        if kept is not None:
            setattr(after, name, len(getattr(history, name)) - len(kept))
    if reviews is not None:
        reviews = [_take_back(review, merged_at) for review in reviews]
    ended = replace(history, reviews=reviews, comments=comments, events=events, checks=checks)
    return ended, after


def describe(after: AfterMerge) -> dict[str, Any]:
    return asdict(after)


def _keep_until(items: Sequence[Any] | None, name: str, merged_at: datetime) -> list[Any] | None:
    if items is None:
        return None
    return [item for item in items if (getattr(item, name) or merged_at) <= merged_at]


def _is_by(check: Check, merged_at: datetime) -> bool:
    """Whether a check run had started, or a status was set; without a time it may have been."""
    began_at = check.ended_at if check.is_status else check.started_at
    return began_at is None or began_at <= merged_at


def _stop(check: Check, merged_at: datetime) -> Check:
    if check.ended_at is None or check.ended_at <= merged_at:
        return check
    return replace(check, conclusion="", ended_at=None)


def _take_back(review: Review, merged_at: datetime) -> Review:
    if review.dismissed_at is None or review.dismissed_at <= merged_at:
        return review
    return replace(review, was_dismissed=False, dismissed_at=None)
