"""How a pull request was reviewed, in numbers: history in, numbers out; pure."""

from metrics_sync.metrics.history import Check, Comment, Commit, Event, History, Review
from metrics_sync.metrics.measuring import METRICS_VERSION, Metrics, measure
from metrics_sync.metrics.whose_turn import OpenPullRequest, Person, Turn, Wait, find_wait
