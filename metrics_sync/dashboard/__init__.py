"""The queries behind the dashboard: their number does not grow with the rows."""

from metrics_sync.dashboard.comparison import COMPARED, By, Compared, Numbers, compare
from metrics_sync.dashboard.current import (
    IN_TROUBLE,
    UNDER_WAY,
    CurrentState,
    read_current_state,
)
from metrics_sync.dashboard.health import Health, Webhook, read_health
from metrics_sync.dashboard.measures import METRICS, MORE_METRICS, Spread, is_known
from metrics_sync.dashboard.reviewers import Reviewer, read_reviewers
from metrics_sync.dashboard.selection import DEFAULT_WEEKS, Selection, Span, Weeks
from metrics_sync.dashboard.summary import Summary, summarise
from metrics_sync.dashboard.totals import CLASSES, Totals, read_totals
from metrics_sync.dashboard.trends import Point, read_trend
from metrics_sync.dashboard.waiting import OpenState, Waiting, read_open
