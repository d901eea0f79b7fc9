"""The timeline of a pull request: what its chart is drawn from, and the table behind the chart.

Each kind of review has a lane of its own, so that no number of commits or checks hides one.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from metrics_sync.admin.labels import UNKNOWN, show_on_one_line, show_table
from metrics_sync.admin.timeline_events import Event, list_drafts, list_events
from metrics_sync.models import PullRequest

#: Events before the opening or after the end get this share of the first view at most.
MARGIN = 0.08
#: How many rows the table has; the lists behind the page have all.
ROWS = 200

#: The lanes from top to bottom; the first has all events that are in no other.
LANES = (
    "pull request",
    "changes requested",
    "approved",
    "other reviews",
    "comments",
    "commits",
    "checks",
)
#: For each kind of event its lane, and the name that the legend gives it.
KINDS = {
    "changes_requested": ("changes requested", "changes requested"),
    "approved": ("approved", "approved"),
    "commented": ("other reviews", "reviewed"),
    "dismissed": ("other reviews", "dismissed since"),
    "comment": ("comments", "comment"),
    "commit": ("commits", "commit"),
    "failed": ("checks", "check failed"),
    "passed": ("checks", "check passed"),
}
OTHERS = ("pull request", "event of the pull request")
#: What may come in hundreds; the table leaves these out first.
FREQUENT = {"comment", "commit", "failed", "passed"}


def draw_timeline(row: PullRequest) -> SafeString:
    """Return the chart and its table, from six queries; empty without a date of opening."""
    if row.pr_created_at is None:
        return SafeString()
    now = timezone.now()
    events = sorted(list_events(row), key=lambda event: event.at)
    ended_at = row.merged_at or row.closed_at or now
    shown = choose_rows(events)
    words: dict[str, int] = {}
    datasets = [*_build_spans(row, events, now), *_build_points(events, words)]
    context = {
        "data": {
            **find_range(row.pr_created_at, ended_at, events),
            "lanes": LANES,
            "datasets": datasets,
            "words": list(words),
        },
        "is_open": ended_at is now,
        "count": len(events),
        "shown": len(shown),
        "table": _show_events(shown),
    }
    return render_to_string("metrics_sync/timeline.html", context)


def find_range(
    opened_at: datetime, ended_at: datetime, events: Sequence[Event]
) -> dict[str, float]:
    """Return the first view (`min` to `max`) and how far one can zoom out, in milliseconds.

    The first view is the time from the opening to the end, with a little room before and after:
    a commit that is months older than the pull request leaves the rest its room.
    """
    span = max(ended_at - opened_at, timedelta(minutes=1))
    ended_at = opened_at + span
    moments = [opened_at, ended_at, *(event.at for event in events)]
    first, last = min(moments), max(moments)
    return {
        "min": _to_milliseconds(max(first, opened_at - MARGIN * span)),
        "max": _to_milliseconds(min(last, ended_at + MARGIN * span)),
        "first": _to_milliseconds(first),
        "last": _to_milliseconds(last),
    }


def choose_rows(events: Sequence[Event]) -> list[Event]:
    """Return the events of the table, at most ROWS; frequent kinds are left out first."""
    rare = [event for event in events if event.shape not in FREQUENT][:ROWS]
    frequent = [event for event in events if event.shape in FREQUENT][: ROWS - len(rare)]
    return sorted([*rare, *frequent], key=lambda event: event.at)


def _build_points(events: Iterable[Event], words: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Yield a dataset for each kind of event that occurred.

    A point is a time and the places of who and what in `words`: of a thousand comments, most
    texts repeat.
    """
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.shape if event.shape in KINDS else "other", []).append(event)
    for kind in [*KINDS, "other"]:
        if kind in found:
            lane, label = KINDS.get(kind, OTHERS)
            points = [
                [_to_milliseconds(event.at), *(words.setdefault(w, len(words)) for w in told)]
                for event in found[kind]
                for told in [(event.who or "somebody", event.text)]
            ]
            yield {"kind": kind, "label": label, "lane": LANES.index(lane), "data": points}


def _build_spans(
    row: PullRequest, events: Sequence[Event], now: datetime
) -> Iterator[dict[str, Any]]:
    """Yield datasets for what lasted, each from its start to its end: drafts and checks."""
    drafts = list_drafts(row, events, now)
    checks = [(event.since, event.at) for event in events if event.since is not None]
    for kind, lane, spans in (("draft", "pull request", drafts), ("checking", "checks", checks)):
        if spans:
            data = [[_to_milliseconds(start), _to_milliseconds(end)] for start, end in spans]
            yield {"kind": kind, "label": kind, "lane": LANES.index(lane), "data": data}


def _to_milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _show_events(events: Iterable[Event]) -> SafeString:
    rows = [[show_on_one_line(event.at), event.who or UNKNOWN, event.text] for event in events]
    return show_table("Events", ["when (UTC)", "who", "what"], rows)
