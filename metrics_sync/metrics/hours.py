"""Durations as people compare them: hours with two decimals; pure."""

from datetime import datetime, timedelta
from decimal import Decimal


def measure_hours(start: datetime | None, end: datetime | None) -> Decimal | None:
    """Return the hours from start to end, never below zero; None when either is unknown.

    Clocks disagree, and drafts are reviewed before they are ready.
    """
    if start is None or end is None:
        return None
    return to_hours(max(end - start, timedelta(0)))


def to_hours(duration: timedelta) -> Decimal:
    return round(Decimal(duration / timedelta(hours=1)), 2)
