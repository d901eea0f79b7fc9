"""Durations as people compare them: hours with two decimals; pure."""

from datetime import datetime, timedelta
from decimal import Decimal

ZERO = timedelta(0)


def measure_hours(start: datetime | None, end: datetime | None) -> Decimal | None:
    """Return the hours from start to end, never below zero; None when either is unknown.

    Clocks disagree.
    """
    if start is None or end is None:
        return None
    return to_hours(max(end - start, ZERO))


def to_hours(duration: timedelta) -> Decimal:
    return round(Decimal(duration / timedelta(hours=1)), 2)
