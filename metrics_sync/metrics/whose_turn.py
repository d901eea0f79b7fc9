"""What an open pull request waits for, since when, and for whom; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metrics_sync.metrics.history import Review
from metrics_sync.metrics.people import Exclusions, select_reviews
from metrics_sync.metrics.reviews import (
    Opinion,
    OpinionKind,
    Timed,
    find_approved_at,
    list_last_opinions,
)


class Turn(StrEnum):
    """Who is to act next."""

    #: A reviewer: it waits for a review.
    REVIEW = "review"
    #: Whoever merges: an approval stands, and nobody is asked for more.
    MERGE = "merge"
    #: The author: changes are requested, and nothing was pushed since.
    AUTHOR = "author"
    #: Nobody by the data: reviewed with comments alone, and nobody is asked.
    OPEN = "open"
    #: The author: it is a draft.
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody, or a team, that something waits for, and since when; None is unknown."""

    login: str
    since: datetime | None = None
    github_id: int | None = None
    is_team: bool = False


@dataclass(frozen=True, slots=True)
class OpenPullRequest:
    """What is known of an open pull request.

    `asked` are those whom GitHub listed as asked at the time `asked_as_of`, each with the time of
    the newest request; None where no such time is known. So are `ready_at` and `pushed_at`: when
    it last stopped being a draft, and when its head was last pushed.
    """

    created_at: datetime | None
    is_draft: bool = False
    head_sha: str = ""
    author_id: int | None = None
    reviews: Sequence[Review] = ()
    asked: Sequence[Person] = ()
    asked_as_of: datetime | None = None
    ready_at: datetime | None = None
    pushed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Whose turn it is, since when (None is unknown), and for whom it waits."""

    turn: Turn
    since: datetime | None = None
    people: Sequence[Person] = ()


def find_wait(one: OpenPullRequest) -> Wait:
    """Say what an open pull request waits for. docs/metrics.md has the rules.

    Reviews count as they do there: not the author's, not those of bots. The order of the items
    does not matter.
    """
    ready_at = max(filter(None, (one.created_at, one.ready_at)), default=None)
    if one.is_draft:
        return Wait(Turn.DRAFT)
    reviews = select_reviews(one.reviews, author_id=one.author_id, excluded=Exclusions()) or []
    requests = [found for who in one.asked if (found := _find_request(who, one, reviews, ready_at))]
    opinions = list_last_opinions(reviews)
    rejected = [opinion for opinion in opinions if opinion.kind is OpinionKind.REQUEST]
    asked_again = {request.github_id for request in requests if not request.is_team}
    rejected = [o for o in rejected if o.review.reviewer_id not in asked_again]
    unanswered = [o for o in rejected if o.review.commit_sha in ("", one.head_sha)]
    if unanswered:
        return _make_wait(Turn.AUTHOR, map(_name, unanswered))
    answered = [_await_again(opinion, one.pushed_at) for opinion in rejected]
    approved_at = find_approved_at(reviews)
    is_reviewed = any(ready_at is None or at >= ready_at for at, _ in reviews)
    if not is_reviewed and approved_at is None:
        return Wait(Turn.REVIEW, ready_at, [*requests, *answered])
    if requests or answered:
        return _make_wait(Turn.REVIEW, [*requests, *answered])
    if approved_at is not None:
        approvals = [o for o in opinions if o.kind is OpinionKind.APPROVAL]
        return Wait(Turn.MERGE, approved_at, [_name(opinion) for opinion in approvals])
    dismissed = [opinion for opinion in opinions if opinion.kind is OpinionKind.DISMISSAL]
    if dismissed:
        return _make_wait(Turn.REVIEW, map(_name, dismissed))
    return Wait(Turn.OPEN, max(at for at, _ in reviews))


def _find_request(
    who: Person, one: OpenPullRequest, reviews: Iterable[Timed], ready_at: datetime | None
) -> Person | None:
    """Return a request with the time since which it waits; None if it was answered since.

    A review ends it. GitHub's list is older than the review, or the request is newer: then it
    waits again, from the request on, or from the review where the request's time is not known.
    """
    theirs = [at for at, review in reviews if not who.is_team and _is_by(review, who)]
    reviewed_at = max(theirs, default=None)
    is_again = who.since is not None and (reviewed_at is None or who.since > reviewed_at)
    if reviewed_at is not None and not is_again:
        if one.asked_as_of is None or reviewed_at >= one.asked_as_of:
            return None
        asked_at: datetime | None = reviewed_at
    else:
        asked_at = who.since
    since = max(filter(None, (asked_at, ready_at)), default=None)
    return Person(who.login, since, who.github_id, is_team=who.is_team)


def _is_by(review: Review, who: Person) -> bool:
    return review.reviewer_id is not None and review.reviewer_id == who.github_id


def _await_again(opinion: Opinion, pushed_at: datetime | None) -> Person:
    """Return who has to look at what was pushed after their request for changes."""
    since = max(filter(None, (opinion.at, pushed_at)))
    return Person(opinion.review.login, since, opinion.review.reviewer_id)


def _name(opinion: Opinion) -> Person:
    return Person(opinion.review.login, opinion.at, opinion.review.reviewer_id)


def _make_wait(turn: Turn, people: Iterable[Person]) -> Wait:
    listed = list(people)
    known = [person.since for person in listed if person.since is not None]
    return Wait(turn, min(known, default=None), listed)
