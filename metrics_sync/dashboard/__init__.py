"""The queries behind the dashboard: their number does not grow with the rows."""

from metrics_sync.dashboard.current import (
    IN_TROUBLE,
    UNDER_WAY,
    CurrentState,
    read_current_state,
)
from metrics_sync.dashboard.selection import DEFAULT_WEEKS, Selection, Weeks
from metrics_sync.dashboard.summary import METRICS, Spread, Summary, Week, summarise
