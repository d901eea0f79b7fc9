"""The figures of the dashboard, each beside that of the period before, and their trends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.safestring import SafeString

from metrics_sync.admin.changes import (
    LONGER,
    MORE_MERGES,
    SHARE_IN_TIME,
    SHARE_UNREVIEWED,
    Words,
    show_change,
)
from metrics_sync.admin.charts import Chart, draw_trend
from metrics_sync.admin.definitions import DEFINITIONS
from metrics_sync.admin.labels import UNKNOWN, show_duration
from metrics_sync.dashboard import Selection, Summary, Totals

#: The share of merges that are to be complete within five minutes.
PROMISE = 0.99

CLASS_NAMES = ("≤ 5 s", "≤ 15 s", "≤ 60 s", "≤ 5 min", "≤ 1 h", "longer", "not yet")


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    value: str
    change: SafeString
    #: What the service promises, and whether it is kept.
    promise: str = ""
    colour: str = ""
    remark: str = ""


def describe_period(selection: Selection) -> dict[str, str]:
    """Name the days of the period and of the one before, all in UTC."""
    own, before = selection.span, selection.before.span
    whole = f"from {_show_day(own.since)}"
    if own.until:
        whole = f"{whole} to {_show_day(own.until - timedelta(seconds=1))}"
    name = whole if selection.chosen else f"in the last {selection.weeks} weeks"
    end = (before.until or selection.now) - timedelta(seconds=1)
    return {"name": name, "before": f"{_show_day(before.since)} to {_show_day(end)}"}


def _show_day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def build_figures(now: Totals, before: Totals) -> list[Figure]:
    """Return how fast and how surely merges became complete."""
    promise: dict[str, Any] = {}
    if (within := now.share_within_five_minutes) is not None:
        is_kept = within > PROMISE
        promise = {
            "promise": f"over {PROMISE:.0%}" if is_kept else f"not over {PROMISE:.0%}",
            "colour": "success" if is_kept else "danger",
        }
    minute = (now.share_within_minute, before.share_within_minute)
    five = (within, before.share_within_five_minutes)
    time, earlier = now.time_to_complete, before.time_to_complete
    return [
        Figure("Complete within 60 seconds", *_compare(*minute, SHARE_IN_TIME)),
        Figure("Complete within 5 minutes", *_compare(*five, SHARE_IN_TIME), **promise),
        Figure("Median time to complete", *_compare(time.median, earlier.median, LONGER)),
        Figure("9 of 10 are complete within", *_compare(time.p90, earlier.p90, LONGER)),
    ]


def build_review_figures(now: Totals, before: Totals) -> list[Figure]:
    """Return how many merges the reviews are of, and how many of them nobody reviewed."""
    return [
        Figure("Merged", str(now.merged), show_change(now.merged, before.merged, MORE_MERGES, str)),
        Figure(
            "Merged without review",
            *_compare(now.share_without_review, before.share_without_review, SHARE_UNREVIEWED),
            remark=f"{now.without_review} pull requests",
        ),
    ]


def _compare(now: Any, before: Any, words: Words) -> tuple[str, SafeString]:
    show = show_share if words.is_share else show_duration
    return show(now), show_change(now, before, words, show)


def show_share(share: float | None) -> str:
    # Rounded down: 100 % says that not one was late.
    return UNKNOWN if share is None else f"{int(share * 1000) / 10:g} %"


def draw_trends(selection: Selection, summary: Summary, before: Totals) -> list[Chart]:
    """Draw the trend of each metric that was read."""
    return [
        draw_trend(
            DEFINITIONS[metric],
            summary.points,
            metric,
            whole=spread,
            change=show_change(
                spread.median,
                before.metrics[metric].median,
                DEFINITIONS[metric].words,
                DEFINITIONS[metric].show,
            ),
            is_in_months=selection.is_in_months,
        )
        for metric, spread in summary.totals.metrics.items()
    ]
