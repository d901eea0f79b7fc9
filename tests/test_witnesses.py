"""Lists that vouch for each other, as values."""

from metrics_sync.github.witnesses import ReplyNames, TimelineNames, corroborate
from metrics_sync.sandbox import make_recording
from metrics_sync.snapshot import (
    VERIFIED,
    Section,
    SectionResult,
    read_items,
    read_pull_request,
)


def test_reply_of_a_review_that_is_not_submitted_yet_is_no_lost_review() -> None:
    """Its author's token is shown the draft and its comments; the timeline has neither."""
    recording = make_recording("acme/anvil", 7, reviews=2, issue_comments=0)
    submitted, draft = recording.reviews
    drafted = {**draft, "state": "PENDING", "submitted_at": None}
    reviews = read_items(Section.REVIEWS, [submitted, drafted])
    reply = frozenset({(draft["id"], submitted["id"])})
    results = {
        Section.REVIEWS: SectionResult(reviews, result=VERIFIED),
        Section.REVIEW_COMMENTS: SectionResult((), 0, VERIFIED, names=ReplyNames(reply)),
        Section.TIMELINE: SectionResult(
            (),
            result=VERIFIED,
            names=TimelineNames(frozenset({submitted["id"]}), comments=0, has_merge=True),
        ),
    }
    pull_request = read_pull_request(recording.pull, github_repo="acme/anvil")

    proven, _ = corroborate(results, pull_request, agreed=())

    assert proven[Section.REVIEWS].error is None
    assert proven[Section.REVIEWS].witness == "timeline"
