"""How a pull request was reviewed, in numbers: history in, numbers out; pure."""

from metrics_sync.metrics.history import Check, Comment, Commit, Event, History, Review
from metrics_sync.metrics.measuring import METRICS_VERSION, Metrics, measure

__all__ = [
    "METRICS_VERSION",
    "Check",
    "Comment",
    "Commit",
    "Event",
    "History",
    "Metrics",
    "Review",
    "measure",
]
