"""Builds the data and options of the charts, and the tables behind them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.safestring import SafeString

from metrics_sync.admin.definitions import Definition
from metrics_sync.admin.labels import UNKNOWN, show_table
from metrics_sync.dashboard import Point, Spread

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
    change: SafeString | str = ""
    remark: str = ""
    definition: str = ""


def draw_trend(
    definition: Definition,
    points: Sequence[Point],
    metric: str,
    *,
    whole: Spread,
    change: SafeString,
    is_in_months: bool,
) -> Chart:
    """Draw median and 90th percentile of a metric step by step; a step without has no point."""
    show = definition.show
    spreads = [point.metrics[metric] for point in points]
    datasets = [
        {"label": "median", "data": [spread.median for spread in spreads], **LINE},
        {"label": "90th percentile", "data": [spread.p90 for spread in spreads], **DASHED},
    ]
    label, day, step = (
        ("%b %Y", "%Y-%m", "month") if is_in_months else ("%d %b", "%Y-%m-%d", "week")
    )
    rows = [
        [f"{point.begins_on:{day}}", show(spread.median), show(spread.p90), spread.count]
        for point, spread in zip(points, spreads, strict=True)
        if point.merged
    ]
    return Chart(
        title=definition.title,
        data=json.dumps(
            {"labels": [f"{point.begins_on:{label}}" for point in points], "datasets": datasets}
        ),
        options=_make_options(definition.unit, is_whole=definition.is_whole),
        table=show_table(
            f"{definition.title}, {step} by {step}",
            [f"{step} of" if step == "week" else step, "median", "9 of 10 within", "known of"],
            rows[::-1],
        ),
        headline=show(whole.median),
        change=change,
        remark="" if whole.p90 is None else f"9 of 10 within {show(whole.p90)}",
        definition=definition.text,
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
