"""Builds the data and options of the charts, and the tables behind them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils.safestring import SafeString

from metrics_sync.admin.definitions import DEFINITIONS, Definition
from metrics_sync.admin.labels import UNKNOWN, choose_unit, show_table, to_duration
from metrics_sync.admin.leading import link
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


#: The line of a goal, which has no points.
GOAL = {
    "borderColor": "#b45309", "borderWidth": 2, "borderDash": [2, 3], "pointRadius": 0,
    "pointHitRadius": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chart:
    """`data` and `options` are JSON for Chart.js.

    A link of the table with a `data-point` is what a click on that point or bar follows.
    """

    title: str
    data: str
    options: str
    table: SafeString
    headline: SafeString | str = ""
    change: SafeString | str = ""
    remark: str = ""
    definition: str = ""
    goal: str = ""
    #: The address of the page without this chart; empty for one that is always there.
    without: str = ""


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric over a period, and the address of the list behind each of its points."""

    metric: str
    points: Sequence[Point]
    urls: Sequence[str]
    is_in_months: bool
    goal: float | None = None

    @property
    def definition(self) -> Definition:
        return DEFINITIONS[self.metric]

    @property
    def spreads(self) -> list[Spread]:
        return [point.metrics[self.metric] for point in self.points]

    @property
    def unit(self) -> tuple[str, float]:
        """The name of the unit of the chart, and how many of the metric's own make one of it."""
        if not self.definition.is_duration:
            return self.definition.unit, 1.0
        name, length = choose_unit(to_duration(spread.median) for spread in self.spreads)
        return name, length / timedelta(hours=1)

    def draw(self) -> str:
        """Return median, 90th percentile and goal as data; a step without has no point."""
        lines: list[dict[str, Any]] = [
            {"label": "median", "data": [spread.median for spread in self.spreads], **LINE},
            {"label": "90th percentile", "data": [spread.p90 for spread in self.spreads], **DASHED},
        ]
        if self.goal is not None:
            lines.append({"label": "goal", "data": [self.goal] * len(self.points), **GOAL})
        _, size = self.unit
        for line in lines:
            line["data"] = [None if v is None else round(float(v) / size, 2) for v in line["data"]]
        label = "%b %Y" if self.is_in_months else "%d %b"
        days = [f"{point.begins_on:{label}}" for point in self.points]
        return json.dumps({"labels": days, "datasets": lines})

    def show_table(self) -> SafeString:
        """Return the same as a table, the newest first, with a link behind each number."""
        day, step = ("%Y-%m", "month") if self.is_in_months else ("%Y-%m-%d", "week of")
        show, rows = self.definition.show, list[list[Any]]()
        medians = [spread.median for spread in self.spreads]
        # Both columns have one unit, so that they compare.
        texts = self.definition.show_column([*medians, *(one.p90 for one in self.spreads)])
        for place, (point, spread, url) in enumerate(
            zip(self.points, self.spreads, self.urls, strict=True)
        ):
            if point.merged:
                behind = link(url, spread.count, data_point=place) if spread.count else 0
                known = [texts[place], texts[len(medians) + place], behind]
                rows.append([f"{point.begins_on:{day}}", *known, *self._show_goal(spread)])
        headers = [step, "median", "9 of 10 within", "pull requests"]
        if self.goal is not None:
            headers.append(f"goal: {show(self.goal)}")
        title = self.definition.title
        return show_table(f"{title} over time", headers, rows[::-1])

    def _show_goal(self, spread: Spread) -> list[str]:
        if self.goal is None:
            return []
        if spread.median is None:
            return [UNKNOWN]
        return ["met" if spread.median <= self.goal else "missed"]


def draw_trend(
    trend: Trend, *, headline: SafeString | str, change: SafeString, remark: str, without: str
) -> Chart:
    """Draw a metric step by step, below what it is for the whole period."""
    definition = trend.definition
    goal = "" if trend.goal is None else f"Goal: at most {definition.show(trend.goal)}"
    return Chart(
        title=definition.title,
        data=trend.draw(),
        options=_make_options(trend.unit[0], is_whole=definition.is_whole),
        table=trend.show_table(),
        headline=headline,
        change=change,
        remark=remark,
        definition=definition.text,
        goal=goal,
        without=without,
    )


def draw_classes(
    title: str, names: Sequence[str], counts: Sequence[int], urls: Sequence[str]
) -> Chart:
    """Draw a bar for each class."""
    bars = {
        "label": "merges",
        "data": list(counts),
        "backgroundColor": "var(--color-primary-500)",
        "maxBarThickness": 48,
    }
    total = sum(counts)
    rows = [
        [
            name,
            link(url, count, data_point=place) if count else 0,
            f"{100 * count / total:.1f} %" if total else UNKNOWN,
        ]
        for place, (name, count, url) in enumerate(zip(names, counts, urls, strict=True))
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
