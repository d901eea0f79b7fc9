"""The figures of a selection week by week, or month by month where the period is long."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date

from django.db.models import Count
from django.db.models.functions import TruncMonth, TruncWeek

from metrics_sync.dashboard.measures import METRICS, Spread, read_spreads, spread_metrics
from metrics_sync.dashboard.selection import Selection, Span


@dataclass(frozen=True, slots=True)
class Point:
    """The merges of one week, which began on that Monday (UTC), or of one month.

    `span` is what of it is in the period.
    """

    begins_on: date
    span: Span
    merged: int
    metrics: Mapping[str, Spread]


def read_trend(selection: Selection, metrics: Iterable[str] = METRICS) -> list[Point]:
    """Read a point for each week, or month, also for one without merges; with one query."""
    truncate = TruncMonth if selection.is_in_months else TruncWeek
    rows = selection.reviewable.order_by().annotate(step=truncate("merged_at", tzinfo=UTC))
    counted = rows.values("step").annotate(merged=Count("pk"), **spread_metrics(metrics))
    found = {row["step"].date(): row for row in counted}
    points = []
    for step in selection.steps:
        row = found.get(step.begins_on)
        spreads = read_spreads(metrics, row) if row else dict.fromkeys(metrics, Spread())
        points.append(Point(step.begins_on, step.span, row["merged"] if row else 0, spreads))
    return points
