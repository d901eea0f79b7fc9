"""The queries behind the dashboard: their number does not grow with the rows."""

from metrics_sync.dashboard.current import (
    IN_TROUBLE,
    UNDER_WAY,
    CurrentState,
    read_current_state,
)
from metrics_sync.dashboard.selection import DEFAULT_WEEKS, Selection, Weeks
from metrics_sync.dashboard.summary import METRICS, Spread, Summary, Week, summarise
from metrics_sync.dashboard.waiting import OpenState, Waiting, read_open

__all__ = [
    "DEFAULT_WEEKS",
    "IN_TROUBLE",
    "METRICS",
    "UNDER_WAY",
    "CurrentState",
    "OpenState",
    "Selection",
    "Spread",
    "Summary",
    "Waiting",
    "Week",
    "Weeks",
    "read_current_state",
    "read_open",
    "summarise",
]
