"""The formulas, on histories whose numbers can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_sync.metrics import History, Review, measure, measure_hours

OPENED_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AUTHOR, ANN, BOB = 1, 2, 3


def hour(count: float) -> datetime:
    """Return the moment so many hours after the pull request was opened."""
    return OPENED_AT + timedelta(hours=count)


def review(at: float, state: str = "commented", by: int | None = ANN, **options: Any) -> Review:
    return Review(hour(at), state, by, **options)


def ask(at: float, by: int | None = ANN, **options: Any) -> Review:
    return review(at, "changes_requested", by, **options)


def make_history(
    reviews: Sequence[Review] | None = (),
    commits: Sequence[float] | None = (),
    **options: Any,
) -> History:
    """Make a history; commits are given as hours after the opening."""
    values = {
        "created_at": OPENED_AT,
        "merged_at": hour(48),
        "author_id": AUTHOR,
        "committed_at": None if commits is None else [hour(at) for at in commits],
        "reviews": reviews,
        "comments": 0,
    }
    return History(**{**values, **options})


@pytest.mark.parametrize(
    ("reviews", "commits", "first", "rounds", "response", "after"),
    [
        pytest.param([], [1, 2], None, 0, None, 0, id="no reviews"),
        pytest.param([ask(1, AUTHOR)], [2], None, 0, None, 0, id="self review"),
        pytest.param([ask(1, is_bot=True)], [2], None, 0, None, 0, id="bot review"),
        pytest.param([ask(1, None)], [2], 1, 1, "1.00", 1, id="deleted reviewer is somebody"),
        pytest.param([ask(2)], [1], 2, 0, None, 0, id="request never answered"),
        pytest.param([ask(2)], [1, 3, 4], 2, 1, "1.00", 2, id="commits before and after"),
        pytest.param([ask(2)], [2], 2, 0, None, 0, id="commit in the same second is no answer"),
        # Ann waits 3 h and Bob 2 h for the same fix.
        pytest.param([ask(2), ask(3, BOB)], [5], 2, 1, "2.50", 1, id="two reviewers, one fix"),
        pytest.param([ask(2), ask(3, BOB)], [2.5, 7], 2, 2, "2.25", 2, id="a fix for each"),
        # The first wait is 1 h, the second 4 h.
        pytest.param([ask(2), ask(5)], [3, 9], 2, 2, "2.50", 2, id="two rounds"),
        pytest.param([ask(2), ask(5)], [3], 2, 1, "1.00", 1, id="second request not answered"),
        # A rebase gives every commit a new committer's date.
        pytest.param([ask(2)], [6, 6, 6], 2, 1, "4.00", 3, id="rebase"),
        pytest.param([review(1), ask(2)], [3], 1, 1, "1.00", 1, id="comment before request"),
        pytest.param([review(1, "approved")], [2], 1, 0, None, 1, id="approval is no request"),
        # What it was is not known, so it is a review and no request.
        pytest.param([review(2, "dismissed")], [3], 2, 0, None, 1, id="dismissed"),
        pytest.param([Review(None, "pending", ANN)], [2], None, 0, None, 0, id="null review time"),
        # Asked at 1, 3, ... 199 and each fixed an hour later.
        pytest.param(
            [ask(2 * n + 1) for n in range(100)],
            [2 * n + 2 for n in range(100)],
            *(1, 100, "1.00", 100),
            id="one hundred reviews",
        ),
        # Asked one hundred times within 99 minutes, fixed 100 minutes after the first: the
        # waits are 100, 99, ... 1 minutes, on average 50.5.
        pytest.param(
            [ask(n / 60) for n in range(100)], [100 / 60], 0, 1, "0.84", 1, id="a storm of requests"
        ),
    ],
)
def test_history_gives_the_numbers_worked_out_by_hand(
    reviews: list[Review],
    commits: list[float],
    first: float | None,
    rounds: int,
    response: str | None,
    after: int,
) -> None:
    """Team leads compare themselves by these numbers."""
    metrics = measure(make_history(reviews, commits))

    assert metrics.first_review_at == (None if first is None else hour(first))
    assert metrics.review_time_hours == (None if first is None else Decimal(first))
    assert metrics.review_rounds == rounds
    assert metrics.avg_fix_response_hours == (response and Decimal(response))
    assert metrics.commits_after_first_review == after


def test_commit_without_a_date_is_left_out() -> None:
    """GitHub knows commits whose date is null."""
    history = make_history([ask(1)], committed_at=[None, hour(2), None])

    assert measure(history).commits_after_first_review == 1


def test_review_of_an_unknown_author_is_not_taken_for_the_authors_own() -> None:
    """Two deleted accounts are both null and still two people."""
    history = make_history([ask(1, None)], [2], author_id=None)

    assert measure(history).review_rounds == 1


UNKNOWN_WITHOUT = {
    "reviews": {
        *("first_review_at", "review_time_hours", "review_rounds"),
        *("avg_fix_response_hours", "commits_after_first_review"),
    },
    "committed_at": {"review_rounds", "avg_fix_response_hours", "commits_after_first_review"},
    "comments": {"total_comments"},
    "created_at": {"cycle_time_hours", "review_time_hours"},
    "merged_at": {"cycle_time_hours"},
}


@pytest.mark.parametrize("name", UNKNOWN_WITHOUT)
def test_numbers_of_what_was_not_fetched_are_unknown(name: str) -> None:
    """A zero would be believed; everything else is still known."""
    whole = make_history([ask(1)], [2], comments=4)
    metrics = measure(replace(whole, **{name: None}))

    unknown = {field for field in type(metrics).__slots__ if getattr(metrics, field) is None}
    assert unknown == UNKNOWN_WITHOUT[name]


@pytest.mark.parametrize(
    ("merged", "hours"),
    [
        pytest.param(48, "48.00", id="two days"),
        pytest.param(1 / 3, "0.33", id="twenty minutes"),
        pytest.param(9000.5, "9000.50", id="more than a year"),
        pytest.param(-1, "0.00", id="clocks that disagree"),
    ],
)
def test_cycle_time_is_hours_with_two_decimals(merged: float, hours: str) -> None:
    """Other programs read the column as it is."""
    cycle_time = measure(make_history(merged_at=hour(merged))).cycle_time_hours

    assert str(cycle_time) == hours


def test_hours_do_not_depend_on_the_time_zone_they_are_given_in() -> None:
    """Old commits carry the committer's offset."""
    there = timedelta(hours=-7)
    start = datetime.fromisoformat("2026-03-02T02:00:00-07:00")

    assert (start.utcoffset(), measure_hours(start, hour(1))) == (there, Decimal(1))


moments = st.integers(0, 60 * 24 * 30).map(lambda minutes: OPENED_AT + timedelta(minutes=minutes))
reviews_strategy = st.lists(
    st.builds(
        Review,
        submitted_at=st.none() | moments,
        state=st.sampled_from(["changes_requested", "approved", "commented", "dismissed"]),
        reviewer_id=st.sampled_from([None, AUTHOR, ANN, BOB]),
        is_bot=st.booleans(),
    ),
    max_size=12,
)
histories = st.builds(
    History,
    created_at=moments,
    merged_at=moments,
    author_id=st.sampled_from([None, AUTHOR]),
    committed_at=st.lists(st.none() | moments, max_size=12),
    reviews=reviews_strategy,
    comments=st.integers(0, 100),
)


@settings(deadline=None)
@given(histories, st.data())
def test_order_of_the_items_does_not_matter(history: History, data: st.DataObject) -> None:
    """GitHub lists commits by their graph and not by their date."""
    shuffled = replace(
        history,
        committed_at=data.draw(st.permutations(history.committed_at or [])),
        reviews=data.draw(st.permutations(history.reviews or [])),
    )

    assert measure(shuffled) == measure(history)


@settings(deadline=None)
@given(histories, reviews_strategy)
def test_reviews_of_bots_and_of_the_author_change_nothing(
    history: History, others: list[Review]
) -> None:
    """Every answer of an author to a remark is a review of their own."""
    history = replace(history, author_id=AUTHOR)
    bots = [replace(item, is_bot=True) for item in others]
    own = [replace(item, reviewer_id=AUTHOR) for item in others]

    more = replace(history, reviews=[*(history.reviews or []), *bots, *own])

    assert measure(more) == measure(history)


@settings(deadline=None)
@given(histories)
def test_no_number_is_ever_negative(history: History) -> None:
    """Clocks disagree, and the columns of the counts refuse less than zero."""
    metrics = measure(history)

    numbers = [getattr(metrics, name) for name in metrics.__slots__ if name != "first_review_at"]
    assert all(number is None or number >= 0 for number in numbers)


@settings(deadline=None)
@given(histories)
def test_rounds_are_never_more_than_the_requests(history: History) -> None:
    """A round groups requests; where there is one there is a response time too."""
    metrics = measure(history)

    requests = [item for item in history.reviews or [] if item.state == "changes_requested"]
    assert (metrics.review_rounds or 0) <= len(requests)
    assert not metrics.review_rounds or metrics.avg_fix_response_hours is not None


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9999), st.booleans()), unique_by=lambda event: event[0]))
def test_rounds_are_what_a_walk_along_the_time_line_counts(events: list[tuple[int, bool]]) -> None:
    """The formula searches; reading the events one after another must count the same."""
    rounds, waiting = 0, False
    for _, is_request in sorted(events):
        rounds += waiting and not is_request
        waiting = is_request

    requests = [ask(at / 60) for at, is_request in events if is_request]
    commits = [at / 60 for at, is_request in events if not is_request]
    assert measure(make_history(requests, commits)).review_rounds == rounds
