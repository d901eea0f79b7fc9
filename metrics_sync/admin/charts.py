"""Builds the data and options of the charts, and the tables behind them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from metrics_sync.admin.labels import UNKNOWN, show_hours, show_table
from metrics_sync.dashboard import Spread, Week

#: Readable on the light and on the dark background.
GREY = "#6b7280"
AXIS = {
    "ticks": {"color": GREY, "maxRotation": 0, "autoSkipPadding": 12},
    "grid": {"display": False},
}
LINE = {"borderColor": "var(--color-primary-500)", "borderWidth": 2, "pointStyle": "circle"}
#: Dashed and with other points, so that it is another line without colours, too.
DASHED = {
    "borderColor": GREY, "borderWidth": 2, "borderDash": [5, 4], "pointStyle": "rectRot",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chart:
    """`data` and `options` are JSON for Chart.js."""

    title: str
    data: str
    options: str
    table: SafeString
    headline: str = ""
    remark: str = ""


def draw_trend(
    title: str, weeks: Sequence[Week], metric: str, *, whole: Spread, is_in_hours: bool
) -> Chart:
    """Draw median and 90th percentile of a metric week by week; a week without has no point."""
    show = show_hours if is_in_hours else _show_number
    spreads = [week.metrics[metric] for week in weeks]
    datasets = [
        {"label": "median", "data": [spread.median for spread in spreads], **LINE},
        {"label": "90th percentile", "data": [spread.p90 for spread in spreads], **DASHED},
    ]
    days = [f"{week.begins_on:%Y-%m-%d}" for week in weeks]
    rows = [
        [day, show(spread.median), show(spread.p90), week.merged]
        for day, spread, week in zip(days, spreads, weeks, strict=True)
        if week.merged
    ]
    return Chart(
        title=title,
        data=json.dumps(
            {"labels": [f"{week.begins_on:%d %b}" for week in weeks], "datasets": datasets}
        ),
        options=_make_options("hours" if is_in_hours else "rounds", is_whole=not is_in_hours),
        table=show_table(
            f"{title}, week by week", ["week of", "median", "9 of 10 within", "merged"], rows[::-1]
        ),
        headline=show(whole.median),
        remark="" if whole.p90 is None else f"9 of 10 within {show(whole.p90)}",
    )


def draw_classes(title: str, names: Sequence[str], counts: Sequence[int]) -> Chart:
    """Draw a bar for each class."""
    bars = {
        "label": "merges",
        "data": list(counts),
        "backgroundColor": "var(--color-primary-500)",
        "maxBarThickness": 48,
    }
    total = sum(counts)
    rows = [
        [name, count, f"{100 * count / total:.1f} %" if total else UNKNOWN]
        for name, count in zip(names, counts, strict=True)
    ]
    return Chart(
        title=title,
        data=json.dumps({"labels": list(names), "datasets": [bars]}),
        options=_make_options("merges", is_whole=True),
        table=show_table(title, ["time to complete", "merges", "share"], rows),
    )


def _make_options(unit: str, *, is_whole: bool) -> str:
    y = {
        "beginAtZero": True,
        "grid": {"tickWidth": 0},
        "ticks": {"color": GREY, "maxTicksLimit": 6, **({"precision": 0} if is_whole else {})},
        "title": {"display": True, "text": unit, "color": GREY},
    }
    options = {
        "animation": False,
        "responsive": True,
        "maintainAspectRatio": False,
        "plugins": {"legend": {"display": False}},
        "scales": {"x": AXIS, "y": y},
    }
    return json.dumps(options)


def _show_number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"
