"""Narrows pull requests down to those that one figure of the dashboard is of."""

import json

from django.db.models import Q, TextField, Value
from django.db.models.functions import Cast, StrIndex
from django.db.models.lookups import GreaterThan

from metrics_sync.dashboard.measures import BY_BOT, METRICS, MORE_METRICS, UNREVIEWED, is_known
from metrics_sync.dashboard.totals import CLASSES, describe_classes, exclude_history
from metrics_sync.models.pull_request import PullRequestQuerySet

BY_PEOPLE = ~BY_BOT
WITH_REVIEW, WITHOUT_REVIEW = Q(merged_without_review=False), UNREVIEWED
METRIC_NAMES = {*METRICS, *MORE_METRICS}
#: How many classes of times to complete there are; the last has what is not complete yet.
CLASS_COUNT = len(CLASSES) + 2


def keep_class(rows: PullRequestQuerySet, place: int) -> PullRequestQuerySet:
    """Keep merges of one class of times to complete, without those from before the connection."""
    return exclude_history(rows).filter(describe_classes()[place])


def is_reviewed_by(login: str) -> GreaterThan:
    """Return the condition for merges that this account reviewed, by their `reviewers`."""
    entry = Value(f'"login": {json.dumps(login)}')
    return GreaterThan(StrIndex(Cast("reviewers", TextField()), entry), 0)


__all__ = [
    "BY_PEOPLE",
    "CLASS_COUNT",
    "METRIC_NAMES",
    "WITHOUT_REVIEW",
    "WITH_REVIEW",
    "is_known",
    "is_reviewed_by",
    "keep_class",
]
