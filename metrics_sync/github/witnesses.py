"""Compares lists that name each other's items, as GitHub counts neither reviews nor events; pure.

The timeline names the reviews, the comments and the merge. A review that is only a reply in a
thread is missing there, but its comment names it. Comments have counters of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from metrics_sync.exceptions import DisagreementError
from metrics_sync.snapshot import (
    OUTDATED,
    UNAVAILABLE,
    Json,
    PullRequestItem,
    ReviewItem,
    Section,
    SectionResult,
)

#: The lists that vouch for each other.
VOUCHING = (Section.REVIEWS, Section.TIMELINE, Section.REVIEW_COMMENTS)

#: The timeline's word for a review that is not submitted yet; only its author's token sees it.
PENDING = "pending"

#: Two lists of review ids, as texts: those that the timeline names, and the other ones.
Agreed = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class TimelineNames:
    """What a timeline names besides the events that are stored."""

    reviews: frozenset[int]
    comments: int
    has_merge: bool


@dataclass(frozen=True, slots=True)
class ReplyNames:
    """The reviews that replies belong to, each with the review that began the reply's thread."""

    reviews: frozenset[tuple[int, int]]


Names = TimelineNames | ReplyNames


def read_names(section: Section, values: Sequence[Json]) -> Names | None:
    """Read what a whole list names of other lists. Raises what reading its items raises."""
    if section is Section.TIMELINE:
        events = [value["event"] for value in values]
        return TimelineNames(
            reviews=frozenset(
                value["id"]
                for value in values
                if value["event"] == "reviewed" and str(value.get("state")).lower() != PENDING
            ),
            comments=events.count("commented"),
            has_merge="merged" in events,
        )
    if section is Section.REVIEW_COMMENTS:
        # Comments that are older than GitHub's reviews belong to no review.
        review_of = {value["id"]: value.get("pull_request_review_id") for value in values}
        replies = [value for value in values if value.get("in_reply_to_id")]
        pairs = [(review_of[r["id"]], review_of.get(r["in_reply_to_id"])) for r in replies]
        return ReplyNames(frozenset((own, first) for own, first in pairs if own and first))
    return None


@dataclass(frozen=True, slots=True)
class _Reviews:
    """Submitted reviews by their ids; `bare` ones may be missing in the timeline.

    `pending` ones are not submitted: their author's token is shown them and their comments.
    """

    ids: frozenset[int]
    bare: frozenset[int]
    pending: frozenset[int] = frozenset()


def corroborate(
    results: Mapping[Section, SectionResult], pull_request: PullRequestItem, *, agreed: Agreed
) -> tuple[dict[Section, SectionResult], Agreed]:
    """Compare the reviews, the timeline and the review comments of one fetch with each other.

    Returns the results, with a DisagreementError for a list that lacks what another one names, and
    the agreed reviews, which the next fetch uses in place of lists that have not changed. They are
    empty unless reviews and timeline agree. `agreed` are those of the fetch before.
    """
    results = dict(results)
    reviews, timeline = results.get(Section.REVIEWS), results.get(Section.TIMELINE)
    if timeline is not None and isinstance(timeline.names, TimelineNames):
        timeline = results[Section.TIMELINE] = _check_timeline(timeline, pull_request)
    known = _list_reviews(reviews, agreed)
    if known is None:
        return results, ()
    named = _list_named(timeline, agreed)
    missing = (named or frozenset()) - known.ids | _find_unlisted_replies(results, known, agreed)
    missing -= known.pending
    if missing:
        results[Section.REVIEWS] = _refuse_reviews(reviews, known.ids, missing)
        return results, ()
    if timeline is not None and timeline.error is not None:
        return _outdate_reviews(results), ()
    if named is None:
        is_unavailable = timeline is not None and timeline.result == UNAVAILABLE
        if reviews is not None and not reviews.witness:
            results[Section.REVIEWS] = replace(
                reviews, reason=reviews.reason or "there is no timeline to vouch for it"
            )
        return results, _note_agreed(known, frozenset()) if is_unavailable else ()
    silent = known.ids - known.bare - named
    if silent:
        text = f"GitHub lists {len(known.ids)} reviews and {len(silent)} are not in its timeline"
        short = timeline or SectionResult(items=None)
        results[Section.TIMELINE] = replace(short, result="", error=DisagreementError(text))
        return _outdate_reviews(results), ()
    if reviews is not None:
        results[Section.REVIEWS] = replace(reviews, witness="timeline")
    return results, _note_agreed(known, named)


def _refuse_reviews(
    reviews: SectionResult | None, known: frozenset[int], missing: frozenset[int]
) -> SectionResult:
    stated = len(known | missing)
    error = DisagreementError(f"other lists name {stated} reviews and GitHub lists {len(known)}")
    return replace(reviews or SectionResult(None), stated=stated, result="", error=error)


def _outdate_reviews(results: dict[Section, SectionResult]) -> dict[Section, SectionResult]:
    """Have reviews fetched again: the timeline that would vouch for them failed."""
    reviews = results.get(Section.REVIEWS)
    if reviews is None or reviews.error is not None or reviews.witness:
        return results
    reason = "the timeline that vouches for it failed"
    return {**results, Section.REVIEWS: replace(reviews, result=OUTDATED, reason=reason)}


def _check_timeline(result: SectionResult, pull_request: PullRequestItem) -> SectionResult:
    """Compare a timeline with what the pull request says of itself.

    A timeline is in order of time: one that has the merge has everything before it.
    """
    names, stated = result.names, pull_request.stated.get(Section.ISSUE_COMMENTS)
    assert isinstance(names, TimelineNames)  # noqa: S101  # nosec B101  (as the caller has seen)
    text = ""
    if pull_request.merged_at is not None and not names.has_merge:
        text = "GitHub states a merge and its timeline lists none"
    elif stated is not None and names.comments != stated:
        text = f"GitHub states {stated} comments and its timeline lists {names.comments}"
    if text:
        return replace(result, result="", error=DisagreementError(text))
    witnesses = {"merge": names.has_merge, "comments": stated, "reviews": names.reviews}
    return replace(result, witness=", ".join(name for name, said in witnesses.items() if said))


def _list_reviews(result: SectionResult | None, agreed: Agreed) -> _Reviews | None:
    """Return the reviews of this fetch, else those agreed on before; None if there are neither."""
    if result is None or (result.items is None and result.error is None):
        if not agreed:
            return None
        named, others = (frozenset(map(int, ids)) for ids in agreed)
        return _Reviews(named | others, bare=others)
    if result.error is not None:
        return None
    listed = [item for item in result.items or () if isinstance(item, ReviewItem)]
    pending = [item for item in listed if item.state == PENDING]
    items = [item for item in listed if item.state != PENDING]
    bare = [item for item in items if item.state == "commented" and not item.body]
    kinds = (items, bare, pending)
    return _Reviews(*(frozenset(item.github_review_id for item in some) for some in kinds))


def _list_named(result: SectionResult | None, agreed: Agreed) -> frozenset[int] | None:
    """Return the reviews that the timeline names; None if neither fetch says which."""
    if result is not None and isinstance(result.names, TimelineNames):
        return result.names.reviews
    is_unchanged = result is None or (result.items is None and result.error is None)
    return frozenset(map(int, agreed[0])) if is_unchanged and agreed else None


def _find_unlisted_replies(
    results: Mapping[Section, SectionResult], known: _Reviews, agreed: Agreed
) -> frozenset[int]:
    """Return unlisted reviews that a reply names; without replies, those agreed on before.

    A reply proves nothing when the review that began its thread is not listed either: there are
    such comments from before GitHub had reviews.
    """
    comments = results.get(Section.REVIEW_COMMENTS)
    if comments is None or comments.items is None:
        return frozenset(map(int, agreed[1])) - known.ids if agreed else frozenset()
    replies: Any = comments.names.reviews if isinstance(comments.names, ReplyNames) else ()
    return frozenset(own for own, first in replies if first in known.ids) - known.ids


def _note_agreed(known: _Reviews, named: frozenset[int]) -> Agreed:
    return [[str(n) for n in sorted(ids)] for ids in (named, known.ids - named)]
