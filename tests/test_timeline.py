"""The timeline of a pull request: the data of its chart, and the table behind it."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from metrics_sync.admin.timeline import choose_rows, draw_timeline, find_range
from metrics_sync.admin.timeline_events import Event, list_drafts, list_events
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


def after(hours: float) -> datetime:
    return OPENED_AT + timedelta(hours=hours)


def make_event(hours: float, shape: str = "commit") -> Event:
    return Event(after(hours), shape, "happened")


@pytest.fixture
def row(db: None) -> PullRequest:
    return PullRequestFactory(merged=True, pr_created_at=OPENED_AT, author_login="mona")


def to_milliseconds(hours: float) -> float:
    return after(hours).timestamp() * 1000


@pytest.mark.parametrize(
    ("events", "first_view", "all_of_it"),
    [
        pytest.param([], (0, 10), (0, 10), id="nothing else"),
        pytest.param([-0.5, 10.5], (-0.5, 10.5), (-0.5, 10.5), id="a little outside"),
        pytest.param([-1000, 1000], (-0.8, 10.8), (-1000, 1000), id="far outside"),
    ],
)
def test_first_view_is_from_the_opening_to_the_end(
    events: list[float], first_view: tuple[float, float], all_of_it: tuple[float, float]
) -> None:
    """A much older commit would squeeze all other events together; zooming out shows it."""
    found = find_range(OPENED_AT, MERGED_AT, [make_event(hours) for hours in events])

    assert (found["min"], found["max"]) == tuple(map(to_milliseconds, first_view))
    assert (found["first"], found["last"]) == tuple(map(to_milliseconds, all_of_it))


def test_pull_request_merged_at_once_has_a_range() -> None:
    """Bots merge in the second of the opening, and a chart needs some width."""
    found = find_range(OPENED_AT, OPENED_AT, [])

    assert found["max"] - found["min"] == 60_000


def read_chart(row: PullRequest) -> dict[str, Any]:
    [found] = re.findall(r'<script id="timeline-data"[^>]*>(.*?)</script>', draw_timeline(row))
    return dict(json.loads(found))


def test_timeline_of_an_open_pull_request_ends_now(row: PullRequest) -> None:
    """It once ended at its last event, as if nothing had waited since."""
    row.state, row.merged_at = "open", None
    PRReviewFactory(pull_request=row, submitted_at=after(2))
    now = after(50)

    with time_machine.travel(now, tick=False):
        chart = read_chart(row)

    assert chart["max"] == to_milliseconds(50)


def test_no_number_of_commits_hides_a_review(row: PullRequest) -> None:
    """300 commits once hid requests and approvals in marks “of several kinds”."""
    CommitFactory.create_batch(300, pull_request=row, committed_at=after(2))
    for state in ("approved", "changes_requested", "commented"):
        PRReviewFactory(pull_request=row, state=state, submitted_at=after(2))

    chart = read_chart(row)

    lanes = {dataset["label"]: chart["lanes"][dataset["lane"]] for dataset in chart["datasets"]}
    assert lanes == {
        "changes requested": "changes requested",
        "approved": "approved",
        "reviewed": "other reviews",
        "commit": "commits",
        "event of the pull request": "pull request",
    }


def test_each_point_says_what_happened_and_when(row: PullRequest) -> None:
    """The reader sees this text under the pointer."""
    PRReviewFactory(pull_request=row, submitted_at=after(2), reviewer_login="ann")

    chart = read_chart(row)

    [[x, who, what]] = next(one for one in chart["datasets"] if one["kind"] == "approved")["data"]
    assert x == to_milliseconds(2)
    assert (chart["words"][who], chart["words"][what]) == ("ann", "approved")


def test_what_lasted_is_a_line(row: PullRequest) -> None:
    """A draft of two days and a check of an hour are no moments."""
    PRTimelineEventFactory(pull_request=row, created_at=after(3))
    PRCheckRunFactory(
        pull_request=row, started_at=after(4), completed_at=after(5), conclusion="success"
    )

    found = {one["kind"]: one["data"] for one in read_chart(row)["datasets"]}

    for kind, start, end in (("draft", 0, 3), ("checking", 4, 5)):
        assert found[kind] == [[to_milliseconds(start), to_milliseconds(end)]]


def test_table_leaves_out_what_is_frequent_first() -> None:
    """A large pull request once had a table of 200 commits and no review."""
    commits = [make_event(n / 100) for n in range(500)]
    reviews = [make_event(n, "approved") for n in range(10)]

    rows = choose_rows([*commits, *reviews])

    assert len(rows) == 200
    assert [row for row in rows if row.shape == "approved"] == reviews
    assert [row.at for row in rows] == sorted(row.at for row in rows)


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
    """Nobody waits for the review of a draft."""
    row = PullRequest(pr_created_at=OPENED_AT, merged_at=MERGED_AT, is_draft=is_draft)

    phases = list_drafts(row, [make_event(hours, shape) for shape, hours in turns], after(99))

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
    """Nobody would notice stored rows that are not drawn."""
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


def test_table_has_the_events_in_their_order(row: PullRequest) -> None:
    """Users who cannot see the chart read the table."""
    PRReviewFactory(pull_request=row, submitted_at=after(2), reviewer_login="ann")
    CommitFactory(pull_request=row, committed_at=after(1), author_login="<b>mona")

    page = draw_timeline(row)

    table = page.partition("<table")[2]
    assert table.index("committed") < table.index("approved") < table.index("merged it")
    assert "<b>mona" not in page


def test_queries_do_not_grow_with_the_history(row: PullRequest) -> None:
    """There may be a thousand comments."""
    for _ in range(30):
        PRCommentFactory(pull_request=row)

    with CaptureQueriesContext(connection) as queries:
        draw_timeline(row)

    assert len(queries) == 6


def test_pull_request_without_a_known_opening_has_no_timeline(db: None) -> None:
    """The axis would have no beginning."""
    assert draw_timeline(PullRequestFactory(merged=True)) == ""
