"""Random histories: few people, commits and checks, close in time, so that much coincides."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import strategies as st

from metrics_sync.metrics import Check, Comment, Commit, Event, History, Review
from metrics_sync.metrics.history import BotRule
from tests.histories import AUTHOR_ID, OPENED_AT, hour

LISTS = ("commits", "reviews", "comments", "events", "checks")

#: What GitHub writes the time of, in half hours from the opening.
moments = st.integers(0, 40).map(lambda halves: hour(halves / 2))
#: What other clocks say.
clocks = st.integers(-20, 60).map(lambda halves: hour(halves / 2))
people = st.sampled_from([None, AUTHOR_ID, 2, 3])
bots = st.sampled_from([None, None, None, *BotRule])
shas = st.sampled_from("abcdefgh")
logins = st.sampled_from(["ann", "bob", "Ann"])
reviews = st.builds(
    Review,
    submitted_at=st.none() | moments,
    state=st.sampled_from(["approved", "changes_requested", "commented"]),
    reviewer_id=people,
    commit_sha=shas,
    bot_rule=bots,
    login=logins,
    has_body=st.booleans(),
)
comments = st.builds(Comment, moments, people, bots)
events = st.builds(
    Event,
    st.sampled_from(["ready_for_review", "convert_to_draft", "review_requested"]),
    moments,
    logins,
)
words = st.sampled_from(["success", "neutral", "skipped", "failure", "cancelled", "stale", ""])
names, apps = st.sampled_from(["ci", "lint"]), st.sampled_from(["actions", "circle"])
runs = st.builds(Check, words, st.none() | clocks, st.none() | clocks, names, apps)
statuses = st.builds(
    Check,
    st.sampled_from(["success", "failure", "error", ""]),
    ended_at=moments,
    name=names,
    is_status=st.just(value=True),
)


@st.composite
def histories(draw: st.DrawFn) -> History:
    return History(
        created_at=OPENED_AT,
        merged_at=draw(moments),
        author_id=draw(st.sampled_from([AUTHOR_ID, AUTHOR_ID, None])),
        commits=_draw_commits(draw),
        reviews=[_dismiss(draw, review) for review in draw(st.lists(reviews, max_size=8))],
        comments=draw(st.lists(comments, max_size=4)),
        events=draw(st.lists(events, max_size=6)),
        checks=[
            _number(check, number)
            for number, check in enumerate(draw(st.lists(runs | statuses, max_size=6)))
        ],
        merged_by_id=draw(people),
        additions=draw(st.none() | st.integers(0, 1200)),
        deletions=draw(st.none() | st.integers(0, 1200)),
        has_all_runs=draw(st.booleans()),
    )


def _draw_commits(draw: st.DrawFn) -> list[Commit]:
    order = draw(st.lists(shas, unique=True))
    parents = st.none() | st.lists(shas | st.just("main"), max_size=3, unique=True)
    return [
        Commit(
            sha=sha,
            committed_at=draw(st.none() | clocks),
            position=position,
            authored_at=draw(st.none() | clocks),
            parents=draw(parents),
            is_merge_by_message=draw(st.booleans()),
            bot_rule=draw(bots),
        )
        for position, sha in enumerate(order)
    ]


def _dismiss(draw: st.DrawFn, review: Review) -> Review:
    """Dismiss some; when, and what they had been, may not be known."""
    if not draw(st.booleans()) or review.submitted_at is None:
        return review
    halves = draw(st.none() | st.integers(0, 20))
    if halves is None:
        return replace(review, state="dismissed", was_dismissed=True)
    dismissed_at = review.submitted_at + timedelta(hours=halves / 2)
    return replace(review, was_dismissed=True, dismissed_at=dismissed_at)


def _number(check: Check, number: int) -> Check:
    """Give a check an id; one that has not ended has no conclusion, and no end."""
    has_ended = check.is_status or check.conclusion
    return replace(check, github_id=number, ended_at=check.ended_at if has_ended else None)
