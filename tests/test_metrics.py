"""The formulas, on histories whose numbers were worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_sync.metrics import Check, Comment, Commit, Event, History, Review, measure
from metrics_sync.metrics.history import BotRule
from metrics_sync.metrics.hours import measure_hours
from tests.histories import AUTHOR_ID, OPENED_AT, hour, tell

#: Each line: what happened; the expected numbers; how they come about where it is not plain.
HISTORIES = [
    # Who counts.
    pytest.param(
        "0 author pushes a", {"rounds": 0, "asked": 0, "after": 0, "fix": None}, id="none"
    ),
    pytest.param(
        "0 author pushes a; 1 author comments a; 2 author pushes b",
        {"first": None, "after": 0},
        id="own review",
    ),
    pytest.param(
        "0 author pushes a; 1 app[bot] asks a; 2 author pushes b",
        {"first": None, "asked": 0, "rounds": 0},
        id="bot by its name",
    ),
    pytest.param(
        "0 author pushes a; 1 robot asks a; 2 author pushes b",
        {"first": None, "asked": 0},
        id="bot by GitHub's word",
    ),
    pytest.param(
        "0 author pushes a; 1 nightly asks a; 2 author pushes b",
        {"first": None, "asked": 0},
        id="bot by the team's list",
    ),
    pytest.param(
        "0 author pushes a; 1 robot approves a; 3 ann approves a",
        {"first": 3, "after": 0},
        id="bot before a person",
    ),
    pytest.param(
        "0 author pushes a; 1 ghost asks a; 2 author pushes b",
        {"first": 1, "rounds": 1, "fix": "1.00", "after": 1},
        id="ghost is somebody",
    ),
    pytest.param(
        "0 author pushes a; 1 ann starts a; 2 author pushes b", {"first": None}, id="pending"
    ),
    # Rounds and answers.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 ann approves b",
        {"first": 2, "rounds": 1, "asked": 1, "fix": "1.00", "after": 1},
        id="asked, fixed, approved",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a",
        {"rounds": 0, "asked": 1, "fix": None},
        id="never answered",
    ),
    # Ann waits 3 h, Bob 2 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 bob asks a; 5 author pushes b",
        {"rounds": 1, "asked": 2, "fix": "2.50"},
        id="two reviewers, one fix",
    ),
    # Ann waits 0.5 h, Bob 4 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 2.5 author pushes b; 3 bob asks b; 7 author pushes c",
        {"rounds": 2, "asked": 2, "fix": "2.25", "after": 2},
        id="two rounds",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 5 ann asks b",
        {"rounds": 1, "asked": 2, "fix": "1.00"},
        id="second request not answered",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 ann asks a; 4 ann asks a; 6 author pushes b",
        # She waits 4, 3 and 2 h.
        {"rounds": 1, "asked": 3, "fix": "3.00"},
        id="one reviewer asks three times",
    ),
    pytest.param(
        "0 author pushes a; 2 ann comments a; 3 ann asks a; 4 author pushes b",
        {"first": 2, "rounds": 1, "fix": "1.00", "after": 1},
        id="comment before the request",
    ),
    pytest.param(
        "0 author pushes a; 1 ann approves a; 2 author pushes b",
        {"rounds": 0, "asked": 0, "after": 1},
        id="approval is no request",
    ),
    pytest.param(
        "0 author pushes a; 1 ann approves a; 2 bob asks a; 3 author pushes b; 4 bob approves b",
        {"first": 1, "rounds": 1, "asked": 1, "fix": "1.00", "after": 1},
        id="approval, then a request",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 2 author pushes b",
        {"rounds": 0, "fix": None, "after": 1},
        id="commit in the second of the request is no answer",
    ),
    # Dismissed and asked again.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 bob dismisses ann",
        {"rounds": 1, "asked": 1, "fix": "1.00", "recovered": 1, "unknown": 0},
        id="dismissed request, known for what it was",
    ),
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 bob forgets ann",
        {"first": 2, "rounds": 0, "asked": 0, "recovered": 0, "unknown": 1},
        id="dismissed request that nobody told",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 3 bob dismisses ann; 4 ann approves a",
        {"rounds": 0, "asked": 0, "recovered": 1, "first": 2},
        id="dismissed approval",
    ),
    # Ann's dismissed request and Bob's new one are answered by one commit each: 1 h, 2 h.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 3 author pushes b; 4 bob dismisses ann; "
        "5 bob asks b; 7 author pushes c; 8 bob approves c",
        {"rounds": 2, "asked": 2, "fix": "1.50", "after": 2},
        id="dismissed, then requested by another",
    ),
    # What came after the first review.
    pytest.param(
        "0 author pushes a; 1 author pushes b; 2 ann comments b; 3 author pushes c d",
        {"after": 2, "basis": "reviewed commit"},
        id="commits before and after",
    ),
    # b was committed at hour 1 and pushed after the review of a: Ann had not seen it.
    pytest.param(
        "0 author pushes a; 1 author pushes b; 2 ann comments a",
        {"after": 1, "basis": "reviewed commit"},
        id="committed before, pushed after",
    ),
    # The author's clock is 5 h fast, so a seems later than the review that saw it.
    pytest.param(
        "5 author pushes a; 2 ann comments a",
        {"after": 0, "basis": "reviewed commit"},
        id="fast clock",
    ),
    # The author's clock is a day slow.
    pytest.param(
        "0 author pushes a; 2 ann comments a; -20 author pushes b",
        {"after": 1, "basis": "reviewed commit"},
        id="slow clock",
    ),
    # The rebase made a, b anew at hour 6; the reviewed commits are gone, so dates decide.
    pytest.param(
        "0 author pushes a b; 2 ann asks b; 6 author -a; 6 author -b; 6 author pushes a2 b2 c",
        {"after": 3, "basis": "committer date", "rounds": 1, "fix": "4.00"},
        id="rebase after review",
    ),
    pytest.param(
        "0 author pushes a; 1 author -a; 1 author pushes a2; 2 ann approves a2",
        {"after": 0, "basis": "reviewed commit"},
        id="rebase before review",
    ),
    pytest.param(
        "0 author pushes a b c; 2 ann asks c; "
        "5 author -a; 5 author -b; 5 author -c; 5 author pushes s",
        {"after": 1, "basis": "committer date", "rounds": 1, "fix": "3.00"},
        id="squashed into one",
    ),
    pytest.param(
        "0 author pushes a b; 2 ann asks b; 4 author -b; 4 author pushes b2",
        {"after": 1, "basis": "committer date"},
        id="last commit amended",
    ),
    pytest.param(
        "0 author pushes a b; 2 ann comments a; 2 bob comments b; 3 author pushes c",
        {"after": 1},
        id="two first reviews at once: the one that saw most",
    ),
    # Ann began on a and submitted after b was pushed: GitHub names a, and b counts.
    pytest.param(
        "0 author pushes a; 1 author pushes b; 2 ann comments a; 3 author pushes c",
        {"after": 2},
        id="review begun on an older commit",
    ),
    # A stacked pull request lists its parent's commits first, which Ann saw there.
    pytest.param(
        "-9 author pushes p q; 0 author pushes a; 1 ann asks a; 2 author pushes b",
        {"after": 1, "rounds": 1, "fix": "1.00"},
        id="stacked on another's commits",
    ),
    pytest.param(
        "0 author pushes a; 1 ann asks x; 2 author pushes b",
        {"after": 1, "basis": "committer date"},
        id="reviewed commit of nowhere",
    ),
    # Draft phases.
    pytest.param(
        "0 author pushes a; 5 author readies; 7 ann approves a",
        {"ready": 5, "wait": "2.00", "review": "7.00"},
        id="opened as a draft",
    ),
    pytest.param(
        "0 author pushes a; 7 ann approves a",
        {"ready": 0, "wait": "7.00", "review": "7.00"},
        id="never a draft",
    ),
    pytest.param(
        "0 author pushes a; 1 author drafts; 5 author readies; 7 ann approves a",
        {"ready": 0, "wait": "7.00"},
        id="a draft later",
    ),
    pytest.param(
        "0 author pushes a; 2 author readies; 3 author drafts; 8 author readies; 9 ann approves a",
        {"ready": 2, "wait": "7.00"},
        id="a draft twice: the first time counts",
    ),
    pytest.param(
        "0 author pushes a; 2 ann comments a; 5 author readies",
        {"ready": 5, "wait": "0.00", "review": "2.00", "response": 2},
        id="reviewed while a draft",
    ),
    # First response.
    pytest.param(
        "0 author pushes a; 1 author remarks; 2 robot remarks; 3 ann remarks; 4 bob approves a",
        {"response": 3, "first": 4, "total": 3},
        id="a comment answers first",
    ),
    pytest.param(
        "0 author pushes a; 3 ann approves a; 4 bob remarks",
        {"response": 3},
        id="a review answers first",
    ),
    pytest.param(
        "0 author pushes a; 1 ci[bot] remarks", {"response": None, "total": 1}, id="nobody"
    ),
    # Approval and merge.
    pytest.param(
        "0 author pushes a; 2 ann approves a; 10 author merges",
        {"approval": "8.00", "cycle": "10.00"},
        id="approved, then merged",
    ),
    pytest.param(
        "0 author pushes a; 2 ann approves a; 6 bob approves a; 10 author merges",
        {"approval": "4.00"},
        id="the last approval counts",
    ),
    pytest.param(
        "0 author pushes a; 10 author merges; 12 ann approves a",
        {"approval": None, "first": 12},
        id="approved after the merge",
    ),
    pytest.param("0 author pushes a; 0.333 author merges", {"cycle": "0.33"}, id="twenty minutes"),
    pytest.param(
        "0 author pushes a; -1 author merges", {"cycle": "0.00"}, id="merged before opened"
    ),
    # Closed at 3 and opened again at 50: the time between counts, as it did for the reviewers.
    pytest.param(
        "0 author pushes a; 2 ann asks a; 52 author pushes b; 53 ann approves b; 54 ann merges",
        {"rounds": 1, "fix": "50.00", "cycle": "54.00", "approval": "1.00"},
        id="reopened",
    ),
    # CI.
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 9 ann merges", {"ci": "passed"}, id="CI passed"
    ),
    pytest.param(
        "0 author pushes a; 3 ci fails 1; 4 ci passes 2; 9 ann merges",
        {"ci": "failed", "ci_hours": "3.00"},
        id="CI failed",
    ),
    pytest.param(
        "0 author pushes a; 3 ci passes 1; 5 ci runs; 9 ann merges",
        {"ci": "pending"},
        id="CI ran on",
    ),
    pytest.param(
        "0 author pushes a; 12 ci fails 8; 9 ann merges",
        {"ci": "pending"},
        id="failed after the merge",
    ),
    pytest.param("0 author pushes a; 9 ann merges", {"ci": "none", "ci_hours": None}, id="no CI"),
]

#: The short names above, and what they are.
NAMES = {
    "rounds": "review_rounds",
    "asked": "changes_requested_count",
    "after": "commits_after_first_review",
    "total": "total_comments",
    "ci": "ci_at_merge",
    "first": "first_review_at",
    "ready": "ready_at",
    "response": "first_response_at",
    "fix": "avg_fix_response_hours",
    "wait": "review_wait_hours",
    "review": "review_time_hours",
    "cycle": "cycle_time_hours",
    "approval": "approval_to_merge_hours",
    "ci_hours": "ci_duration_hours",
}
MOMENTS = {"first", "ready", "response"}
HOURS = {"fix", "wait", "review", "cycle", "approval", "ci_hours"}


@pytest.mark.parametrize(("text", "expected"), HISTORIES)
def test_history_gives_the_numbers_worked_out_by_hand(text: str, expected: dict[str, Any]) -> None:
    """Team leads compare themselves by these numbers."""
    metrics = measure(tell(text))

    provenance = metrics.provenance
    found = {short: getattr(metrics, name) for short, name in NAMES.items()}
    found |= {"basis": provenance["commits_after_first_review"], **provenance["dismissed_reviews"]}
    assert {name: found[name] for name in expected} == {
        name: _convert(name, value) for name, value in expected.items()
    }


def _convert(name: str, value: Any) -> Any:
    if value is None:
        return None
    return hour(value) if name in MOMENTS else Decimal(value) if name in HOURS else value


def test_one_hundred_reviews_are_one_hundred_rounds_if_each_is_answered() -> None:
    """Asked at 1, 3, ... 199 and each fixed an hour later."""
    lines = [f"{2 * n + 1} ann asks\n{2 * n + 2} author pushes c{n}" for n in range(100)]

    metrics = measure(tell("\n".join(lines)))

    assert (metrics.review_rounds, metrics.changes_requested_count) == (100, 100)
    assert metrics.avg_fix_response_hours == Decimal("1.00")


def test_what_was_left_out_is_told_with_its_reason() -> None:
    """A number that nobody can check is believed by nobody."""
    text = """
        0 author pushes a
        1 author comments a
        1 app[bot] comments a
        1 robot comments a
        2 nightly comments a
        2 ann starts a
        3 author remarks
        3 robot remarks
    """
    assert measure(tell(text)).provenance["excluded"] == {
        "own_reviews": 1,
        "pending_reviews": 1,
        "bot_reviews": {"suffix": 1, "type": 1, "team": 1},
        "own_comments": 1,
        "bot_comments": {"type": 1},
    }


WHOLE = (
    "0 author pushes a; 1 ann asks a; 2 author pushes b; 3 ann approves b; 4 ci passes 3; "
    "9 ann merges"
)
OF_REVIEWS = {
    *("first_review_at", "review_time_hours", "review_rounds", "avg_fix_response_hours"),
    *("commits_after_first_review", "review_wait_hours", "changes_requested_count"),
    *("first_response_at", "first_response_hours", "approval_to_merge_hours"),
}
UNKNOWN_WITHOUT = {
    "reviews": OF_REVIEWS,
    "commits": {"review_rounds", "avg_fix_response_hours", "commits_after_first_review"},
    "comments": {"total_comments", "first_response_at", "first_response_hours"},
    "events": {"ready_at", "review_wait_hours", "first_response_hours"},
    "checks": {"ci_at_merge", "ci_duration_hours"},
}


@pytest.mark.parametrize("name", UNKNOWN_WITHOUT)
def test_numbers_of_what_was_not_fetched_are_unknown(name: str) -> None:
    """A zero would be believed; everything else is still known."""
    metrics = measure(replace(tell(WHOLE), **{name: None}))

    unknown = {field for field in type(metrics).__slots__ if getattr(metrics, field) in (None, "")}
    assert unknown == UNKNOWN_WITHOUT[name]
    assert metrics.provenance["missing"] == [name]


def test_commit_without_a_date_is_left_out_of_what_dates_tell() -> None:
    """GitHub knows commits whose date is null."""
    history = tell("1 ann asks x\n2 author pushes a")
    history = replace(history, commits=[*(history.commits or ()), Commit("b", None, 1)])

    assert measure(history).commits_after_first_review == 1


def test_unknown_author_is_nobody_in_particular() -> None:
    """Two deleted accounts are both null and still two people."""
    history = replace(tell("1 ghost asks a\n2 author pushes b"), author_id=None)

    assert measure(history).review_rounds == 1


def test_hours_have_two_decimals_and_are_never_negative() -> None:
    """Other programs read the column as it is."""
    assert measure_hours(hour(0), hour(9000.5)) == Decimal("9000.50")
    assert measure_hours(hour(1), hour(0)) == Decimal("0.00")
    assert measure_hours(None, hour(0)) is None


# What holds for every history.

moments = st.integers(0, 500).map(lambda minutes: hour(minutes / 10))
people = st.sampled_from([None, AUTHOR_ID, 2, 3])
shas = st.sampled_from("abcdefgh")
states = st.sampled_from(["approved", "changes_requested", "commented", "dismissed"])
reviews = st.builds(Review, st.none() | moments, states, people, shas)
comments = st.builds(Comment, moments, people)
events = st.builds(Event, st.sampled_from(["ready_for_review", "convert_to_draft"]), moments)
checks = st.builds(Check, st.sampled_from(["success", "failure", ""]), moments, moments)


@st.composite
def histories(draw: st.DrawFn) -> History:
    order = draw(st.lists(shas, unique=True))
    return History(
        created_at=OPENED_AT,
        merged_at=draw(st.none() | moments),
        author_id=AUTHOR_ID,
        commits=[Commit(sha, draw(st.none() | moments), n) for n, sha in enumerate(order)],
        reviews=draw(st.lists(reviews)),
        comments=draw(st.lists(comments)),
        events=draw(st.lists(events)),
        checks=draw(st.lists(checks)),
    )


LISTS = ("commits", "reviews", "comments", "events", "checks")


@given(histories(), st.randoms())
def test_order_of_the_items_does_not_matter(history: History, chance: Any) -> None:
    """GitHub's lists are in the order of history, of time, or in none."""

    def shuffle(items: Sequence[Any]) -> Sequence[Any]:
        return chance.sample(list(items), len(items))

    shuffled = replace(history, **{name: shuffle(getattr(history, name)) for name in LISTS})

    assert measure(shuffled) == measure(history)


@given(histories(), reviews)
def test_bots_and_the_authors_own_reviews_change_no_number(history: History, extra: Review) -> None:
    """They answer every push, and would be the first reviewer everywhere."""
    own = replace(extra, reviewer_id=AUTHOR_ID)
    bot = replace(extra, reviewer_id=99, bot_rule=BotRule.TYPE)
    more = replace(history, reviews=[*(history.reviews or ()), own, bot])

    assert _read_numbers(more) == _read_numbers(history)


def _read_numbers(history: History) -> dict[str, Any]:
    metrics = measure(history)
    return {name: getattr(metrics, name) for name in NAMES.values()}


@given(histories())
def test_no_number_is_negative_and_no_more_rounds_than_requests(history: History) -> None:
    """A negative duration is a fault of clocks, and a round takes a request."""
    metrics = measure(history)

    numbers = [
        value for value in _read_numbers(history).values() if isinstance(value, (int, Decimal))
    ]
    assert all(number >= 0 for number in numbers)
    assert (metrics.review_rounds or 0) <= (metrics.changes_requested_count or 0)
