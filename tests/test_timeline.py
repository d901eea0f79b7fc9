"""The picture of a pull request's history: where things are drawn, and what is said of them."""

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from metrics_sync.admin.events import Event, list_drafts, list_events
from metrics_sync.admin.timeline import (
    LEFT,
    RIGHT,
    WIDTH,
    Axis,
    draw_timeline,
    gather_marks,
    make_axis,
)
from metrics_sync.models import PullRequest
from tests.factories import (
    MERGED_AT,
    CommitFactory,
    PRCheckRunFactory,
    PRCommentFactory,
    PRCommitStatusFactory,
    PRReviewFactory,
    PRTimelineEventFactory,
    PullRequestFactory,
)

OPENED_AT = MERGED_AT - timedelta(hours=10)
AXIS = Axis(OPENED_AT, MERGED_AT)
#: Between the two ends of the axis.
ROOM = WIDTH - LEFT - RIGHT


def after(hours: float) -> datetime:
    return OPENED_AT + timedelta(hours=hours)


def make_event(hours: float, shape: str = "commit") -> Event:
    return Event(after(hours), "commits", shape, "happened")


@pytest.fixture
def row(db: None) -> PullRequest:
    return PullRequestFactory(merged=True, pr_created_at=OPENED_AT, author_login="mona")


@pytest.mark.parametrize(
    ("hours", "share"),
    [(0, 0), (5, 0.5), (10, 1), (-99, 0), (99, 1)],
    ids=["start", "middle", "end", "before", "behind"],
)
def test_axis_places_moments_and_holds_what_is_beyond_its_ends(hours: float, share: float) -> None:
    """Nothing is drawn outside of the picture."""
    assert AXIS.place(after(hours)) == LEFT + share * ROOM


@pytest.mark.parametrize(
    ("events", "start", "end"),
    [
        pytest.param([], 0, 10, id="nothing else"),
        pytest.param([-0.5, 10.5], -0.5, 10.5, id="a little outside"),
        pytest.param([-1000, 1000], -0.8, 10.8, id="far outside"),
    ],
)
def test_axis_leaves_little_room_outside_of_opening_and_merge(
    events: list[float], start: float, end: float
) -> None:
    """A commit that is months older would leave a point of all the rest."""
    axis = make_axis(OPENED_AT, MERGED_AT, [make_event(hours) for hours in events])

    assert (axis.start, axis.end) == (after(start), after(end))


def test_pull_request_merged_at_once_has_an_axis() -> None:
    """Bots merge in the second of the opening; nothing is divided by zero."""
    axis = make_axis(OPENED_AT, OPENED_AT, [])

    assert axis.place(OPENED_AT) == LEFT


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        (timedelta(hours=10), ["02 Mar 03:00", "02 Mar 06:00", "02 Mar 09:00", "02 Mar 12:00"]),
        (timedelta(days=4), ["03 Mar 2026", "04 Mar 2026", "05 Mar 2026", "06 Mar 2026"]),
        (timedelta(minutes=3), ["02 Mar 02:00", "02 Mar 02:01", "02 Mar 02:02", "02 Mar 02:03"]),
    ],
)
def test_ticks_are_round_and_few(span: timedelta, labels: list[str]) -> None:
    """People read hours and days, not seven equal parts."""
    ticks = list(Axis(OPENED_AT, OPENED_AT + span).list_ticks())

    assert [label for _, label in ticks] == labels


def test_marks_of_one_kind_at_about_the_same_time_become_one() -> None:
    """A hundred dots on top of each other look like one, and say so by a number."""
    marks = gather_marks(AXIS, [make_event(5 + n / 1000) for n in range(100)])

    assert [len(mark.events) for mark in marks] == [100]
    assert marks[0].x == LEFT + ROOM / 2
    assert "and 92 more" in marks[0].title


@pytest.mark.parametrize("hours", [0, 5, 10], ids=["at the start", "in the middle", "at the end"])
def test_marks_of_two_kinds_do_not_cover_each_other(hours: float) -> None:
    """Shapes are how kinds are told apart."""
    shapes = ["approved", "changes_requested", "approved"]
    marks = gather_marks(AXIS, [make_event(hours, shape) for shape in shapes])

    assert [mark.shape for mark in marks] == shapes
    assert all(left.reach <= right.x for left, right in pairwise(marks))
    assert marks[0].x >= LEFT
    assert marks[-1].x <= WIDTH - RIGHT


def test_many_marks_of_two_kinds_stay_in_the_picture() -> None:
    """A matrix of checks that pass and fail in turns has more marks than there is room for."""
    shapes = ["passed", "failed"] * 150
    events = [make_event(n / 30, shape) for n, shape in enumerate(shapes)]

    marks = gather_marks(AXIS, events)

    assert all(LEFT <= mark.x <= WIDTH - RIGHT for mark in marks)
    assert sum(len(mark.events) for mark in marks) == len(events)
    assert "several" in {mark.shape for mark in marks}


@pytest.mark.parametrize(
    ("turns", "is_draft", "drafts"),
    [
        pytest.param([], False, [], id="never"),
        pytest.param([], True, [(0, 10)], id="always"),
        pytest.param([("ready_for_review", 2)], False, [(0, 2)], id="at first"),
        pytest.param([("convert_to_draft", 6)], True, [(6, 10)], id="at last"),
        pytest.param(
            [("convert_to_draft", 3), ("ready_for_review", 4)], False, [(3, 4)], id="in between"
        ),
        pytest.param(
            [("ready_for_review", 1), ("convert_to_draft", 3), ("ready_for_review", 4)],
            False,
            [(0, 1), (3, 4)],
            id="twice",
        ),
    ],
)
def test_draft_phases_follow_from_the_turns(
    turns: list[tuple[str, float]], is_draft: bool, drafts: list[tuple[float, float]]
) -> None:
    """Waiting for a draft to be reviewed is no waiting."""
    row = PullRequest(pr_created_at=OPENED_AT, merged_at=MERGED_AT, is_draft=is_draft)

    phases = list_drafts(row, [make_event(hours, shape) for shape, hours in turns])

    assert phases == [(after(start), after(end)) for start, end in drafts]


@pytest.mark.parametrize(
    ("factory", "values", "shape", "text"),
    [
        (CommitFactory, {"github_sha": "a1b2c3d4e5"}, "commit", "committed a1b2c3d"),
        (PRReviewFactory, {"state": "approved"}, "approved", "approved"),
        (PRReviewFactory, {"state": "new_kind"}, "commented", "reviewed: new_kind"),
        (
            PRReviewFactory,
            {"state": "dismissed", "submitted_state": "changes_requested"},
            "dismissed",
            "requested changes (dismissed since)",
        ),
        (PRReviewFactory, {"state": "dismissed"}, "dismissed", "reviewed (dismissed since)"),
        (PRCommitStatusFactory, {"state": "success"}, "passed", "finished ci/anvil: success"),
        (PRCommitStatusFactory, {"state": "error"}, "failed", "finished ci/anvil: error"),
        (PRCommentFactory, {"comment_type": "review"}, "comment", "commented on the diff"),
        (PRCheckRunFactory, {"conclusion": "success"}, "passed", "finished tests: success"),
        (PRCheckRunFactory, {"conclusion": "timed_out"}, "failed", "finished tests: timed_out"),
        (
            PRTimelineEventFactory,
            {"event": "review_requested", "subject_login": "ann"},
            "review_requested",
            "asked ann to review",
        ),
    ],
)
def test_every_kind_of_row_is_an_event(
    row: PullRequest, factory: Any, values: dict[str, str], shape: str, text: str
) -> None:
    """What is stored and not drawn would be missed by nobody."""
    factory(pull_request=row, **{TIMES[factory]: after(1)}, **values)

    event = next(event for event in list_events(row) if event.at == after(1))

    assert (event.shape, event.text) == (shape, text)


TIMES: dict[Any, str] = {
    CommitFactory: "committed_at",
    PRReviewFactory: "submitted_at",
    PRCommentFactory: "created_at",
    PRCheckRunFactory: "completed_at",
    PRCommitStatusFactory: "updated_at",
    PRTimelineEventFactory: "created_at",
}


def test_what_has_no_time_is_left_out(row: PullRequest) -> None:
    """A pending review and a running check have not happened yet."""
    PRReviewFactory(pull_request=row)
    PRCheckRunFactory(pull_request=row, status="in_progress")
    CommitFactory(pull_request=row)

    assert [event.shape for event in list_events(row)] == ["opened", "merged"]


def test_picture_and_table_say_the_same(row: PullRequest) -> None:
    """Who cannot see the one reads the other, in the order in which it happened."""
    PRReviewFactory(pull_request=row, submitted_at=after(2), reviewer_login="ann")
    CommitFactory(pull_request=row, committed_at=after(1), author_login="<b>mona")

    page = draw_timeline(row)

    assert "reviews (1)" in page
    assert "ann approved" in page
    assert page.index("committed") < page.rindex("approved")
    assert "<b>mona" not in page


def test_queries_do_not_grow_with_the_history(row: PullRequest) -> None:
    """There may be a thousand comments."""
    for _ in range(30):
        PRCommentFactory(pull_request=row)

    with CaptureQueriesContext(connection) as queries:
        draw_timeline(row)

    assert len(queries) == 6


def test_pull_request_without_a_known_beginning_has_no_picture(db: None) -> None:
    """An axis that begins nowhere shows nothing."""
    assert draw_timeline(PullRequestFactory(merged=True)) == ""
