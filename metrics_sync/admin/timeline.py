"""The picture of a pull request's history: one time axis, a lane for each kind of event.

What is drawn is told by shape and by words, and colour only helps; the same is in a table.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil

from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from metrics_sync.admin.events import Event, list_drafts, list_events
from metrics_sync.admin.labels import UNKNOWN, show_moment, show_on_one_line, show_table
from metrics_sync.models import PullRequest

#: Units of the picture; the page scales it.
WIDTH, LEFT, RIGHT, TOP, LANE, BOTTOM = 1000, 120, 30, 44, 38, 30
#: Marks nearer than this are pushed apart, and those of one kind become one with a number.
APART = 18
#: What happened before the opening or after the merge gets this share of the axis at most.
MARGIN = 0.08
#: How many rows the table has; the tabs of the page have all.
ROWS = 200

STEPS = [
    *(timedelta(minutes=n) for n in (1, 5, 15, 30)),
    *(timedelta(hours=n) for n in (1, 3, 6, 12)),
    *(timedelta(days=n) for n in (1, 2, 7, 14, 30, 90, 365)),
]
TICKS = 7

LANES = ("commits", "reviews", "comments", "checks")
LEGEND = {
    "commit": "commit",
    "approved": "approved",
    "changes_requested": "changes requested",
    "commented": "reviewed",
    "dismissed": "dismissed since",
    "comment": "comment",
    "passed": "check passed",
    "failed": "check failed",
    "several": "of several kinds",
}


@dataclass(slots=True)
class Mark:
    """One or more events at a place of the picture."""

    x: float
    events: list[Event]

    @property
    def shape(self) -> str:
        shapes = {event.shape for event in self.events}
        return shapes.pop() if len(shapes) == 1 else "several"

    @property
    def title(self) -> str:
        lines = [f"{show_moment(event.at)} {event}" for event in self.events[:8]]
        more = len(self.events) - len(lines)
        return "\n".join([*lines, *([f"and {more} more"] if more else [])])

    @property
    def reach(self) -> float:
        """Where the next mark may begin: a number behind the mark takes room, too."""
        return self.x + APART + (7 * len(str(len(self.events))) if len(self.events) > 1 else 0)


@dataclass(frozen=True, slots=True)
class Axis:
    """Where a moment is in the picture; what is beyond the ends is drawn at them."""

    start: datetime
    end: datetime

    def place(self, moment: datetime) -> float:
        share = (moment - self.start) / (self.end - self.start)
        return round(LEFT + min(max(share, 0), 1) * (WIDTH - LEFT - RIGHT), 1)

    def list_ticks(self) -> Iterator[tuple[float, str]]:
        """Yield place and label of round moments, at most TICKS of them."""
        span = self.end - self.start
        step = next((step for step in STEPS if span / step <= TICKS), STEPS[-1])
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        moment = epoch + ceil((self.start - epoch) / step) * step
        pattern = "%d %b %Y" if step >= timedelta(days=1) else "%d %b %H:%M"
        while moment <= self.end:
            yield self.place(moment), moment.strftime(pattern)
            moment += step


def draw_timeline(row: PullRequest) -> SafeString:
    """Return the picture and its table, from six queries; empty without a date of opening."""
    if row.pr_created_at is None:
        return SafeString()
    events = sorted(list_events(row), key=lambda event: event.at)
    axis = make_axis(row.pr_created_at, row.merged_at or row.closed_at, events)
    drafts = [(axis.place(start), axis.place(end)) for start, end in list_drafts(row, events)]
    context = {
        "width": WIDTH,
        "height": TOP + LANE * len(LANES) + BOTTOM,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": TOP + LANE * len(LANES),
        "lanes_height": LANE * len(LANES),
        "lanes": [_build_lane(axis, lane, n, events) for n, lane in enumerate(LANES)],
        "ticks": list(axis.list_ticks()),
        "drafts": [(start, max(end - start, 2)) for start, end in drafts],
        "rulers": list(_build_rulers(axis, row)),
        "legend": LEGEND.items(),
        "count": len(events),
        "shown": min(len(events), ROWS),
        "table": _show_events(events[:ROWS]),
    }
    return render_to_string("metrics_sync/timeline.html", context)


def make_axis(opened_at: datetime, ended_at: datetime | None, events: Sequence[Event]) -> Axis:
    """Return an axis from the opening to the end, with a little room before and after it.

    A commit that is months older than the pull request must not leave the rest no room.
    """
    moments = [event.at for event in events]
    ended_at = ended_at or max(moments, default=opened_at)
    span = max(ended_at - opened_at, timedelta(minutes=1))
    return Axis(
        start=max(min([opened_at, *moments]), opened_at - MARGIN * span),
        end=min(max([opened_at + span, *moments]), opened_at + span + MARGIN * span),
    )


def gather_marks(axis: Axis, events: Iterable[Event]) -> list[Mark]:
    """Place the events of one lane, in order; what would lie on top of another makes way.

    Where that is more than the lane has room for, kinds share a mark.
    """
    events = list(events)
    marks = _gather(axis, events, mixes=False)
    limit = float(WIDTH - RIGHT + APART)
    if sum(mark.reach - mark.x for mark in marks) > limit - LEFT:
        marks = _gather(axis, events, mixes=True)
    for mark in reversed(marks):
        mark.x -= max(mark.reach - limit, 0)
        limit = mark.x
    return marks


def _gather(axis: Axis, events: Iterable[Event], *, mixes: bool) -> list[Mark]:
    marks: list[Mark] = []
    for event in events:
        x = axis.place(event.at)
        last = marks[-1] if marks else None
        if last and x < last.reach and (mixes or last.shape == event.shape):
            last.events.append(event)
        else:
            marks.append(Mark(max(x, last.reach) if last else x, [event]))
    return marks


def _build_lane(axis: Axis, name: str, position: int, events: Iterable[Event]) -> dict[str, object]:
    mine = [event for event in events if event.lane == name]
    return {
        "name": name,
        "count": len(mine),
        "y": TOP + LANE * position + LANE // 2,
        "marks": gather_marks(axis, mine),
        "bars": list(dict.fromkeys(_list_bars(axis, mine))),
    }


def _list_bars(axis: Axis, events: Iterable[Event]) -> Iterator[tuple[float, float]]:
    """Yield place and width of what lasted."""
    for event in events:
        if event.since is not None:
            x = axis.place(event.since)
            yield x, round(max(axis.place(event.at) - x, 1), 1)


def _build_rulers(axis: Axis, row: PullRequest) -> Iterator[dict[str, object]]:
    moments = {
        "opened": row.pr_created_at,
        "ready for review": row.ready_at if row.ready_at != row.pr_created_at else None,
        "merged": row.merged_at,
    }
    for position, (text, moment) in enumerate(moments.items()):
        if moment is not None:
            x = axis.place(moment)
            # Labels of neighbours are written above each other.
            yield {
                "x": x, "text": text, "y": 30 if position % 2 == 0 else 14,
                "anchor": "end" if x > WIDTH / 2 else "start",
                "label_x": x - 5 if x > WIDTH / 2 else x + 5,
            }  # fmt: skip


def _show_events(events: Iterable[Event]) -> SafeString:
    rows = [[show_on_one_line(event.at), event.who or UNKNOWN, event.text] for event in events]
    return show_table("Events", ["when (UTC)", "who", "what"], rows)
