"""Finds the approval that stood at the merge, and how soon each reviewer responded; pure."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any

from metrics_sync.metrics.history import Event, Review
from metrics_sync.metrics.hours import measure_hours

APPROVED = "approved"
CHANGES_REQUESTED = "changes_requested"
DISMISSED = "dismissed"
ASKED = "review_requested"

Timed = tuple[datetime, Review]


class OpinionKind(IntEnum):
    """What a reviewer's opinion became; opinions of the same second are read in this order."""

    APPROVAL = 1
    REQUEST = 2
    DISMISSAL = 3


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a reviewer thought from that moment on, and the review that said so."""

    at: datetime
    kind: OpinionKind
    review: Review


def find_approved_at(reviews: Iterable[Timed]) -> datetime | None:
    """Say since when there was an approval that stood at the merge; None when none stood.

    For each reviewer, the last approval, request or dismissal decides; approvals with nothing else
    between them are one. If several approvals stood, the one that stood longest counts.
    """
    standing = [_find_standing(theirs) for theirs in _list_opinions(reviews)]
    return min((since for since in standing if since is not None), default=None)


def list_last_opinions(reviews: Iterable[Timed]) -> list[Opinion]:
    """Return of each reviewer the last of approval, request and dismissal."""
    return [theirs[-1] for theirs in _list_opinions(reviews) if theirs]


def _list_opinions(reviews: Iterable[Timed]) -> list[list[Opinion]]:
    """Return the opinions of each reviewer in the order of time."""
    found = []
    for group in _group_by_person(reviews).values():
        opinions = []
        for at, review in group:
            if review.state == APPROVED:
                opinions.append(Opinion(at, OpinionKind.APPROVAL, review))
            elif review.state == CHANGES_REQUESTED:
                opinions.append(Opinion(at, OpinionKind.REQUEST, review))
            if review.was_dismissed:
                # A dismissal whose time is not known counts from the review on.
                dismissed_at = review.dismissed_at or at
                opinions.append(Opinion(dismissed_at, OpinionKind.DISMISSAL, review))
        found.append(sorted(opinions, key=lambda opinion: (opinion.at, opinion.kind)))
    return found


def _find_standing(opinions: Iterable[Opinion]) -> datetime | None:
    since = None
    for opinion in opinions:
        since = (since or opinion.at) if opinion.kind is OpinionKind.APPROVAL else None
    return since


def describe_reviewers(
    reviews: Iterable[Timed], events: Sequence[Event] | None
) -> list[dict[str, Any]]:
    """Return who reviewed, in the order of their first reviews, and how long each was waited for.

    That is the time from the first request of this person before the review; unknown for one
    whom nobody asked.
    """
    asked: dict[str, list[datetime]] = defaultdict(list)
    for event in events or ():
        if event.event == ASKED:
            asked[event.subject_login.lower()].append(event.created_at)
    found = []
    for group in _group_by_person(reviews).values():
        reviewed_at, review = min(group, key=lambda timed: (timed[0], timed[1].login))
        is_known = review.reviewer_id is not None
        moments = [at for at in asked[review.login.lower()] if at <= reviewed_at and is_known]
        found.append((reviewed_at, review.login, min(moments, default=None)))
    found.sort(key=lambda one: (one[0], one[1], one[2] or one[0]))
    return [
        {
            "login": login,
            "requested_at": requested_at.isoformat() if requested_at else None,
            "reviewed_at": reviewed_at.isoformat(),
            "hours": _to_number(measure_hours(requested_at, reviewed_at)),
        }
        for reviewed_at, login, requested_at in found
    ]


def _to_number(hours: Decimal | None) -> float | None:
    return None if hours is None else float(hours)


def _group_by_person(reviews: Iterable[Timed]) -> dict[Hashable, list[Timed]]:
    """Group reviews by their reviewer; each one by a deleted account is somebody else's."""
    groups: dict[Hashable, list[Timed]] = defaultdict(list)
    for number, (at, review) in enumerate(reviews):
        is_deleted = review.reviewer_id is None
        groups[("deleted", number) if is_deleted else review.reviewer_id].append((at, review))
    return groups
