"""Narrows pull requests down to those that one figure of the dashboard is of."""

from datetime import datetime

from django.db.models import F, Q, QuerySet

from metrics_sync.dashboard.counted_reviews import is_answered_by, is_reviewed_by, list_people
from metrics_sync.dashboard.measures import BY_BOT, METRICS, MORE_METRICS, UNREVIEWED, is_known
from metrics_sync.dashboard.totals import (
    PROMISED,
    describe_classes,
    describe_late,
    exclude_history,
)
from metrics_sync.models import PullRequest

BY_PEOPLE = ~BY_BOT
WITH_REVIEW, WITHOUT_REVIEW = Q(merged_without_review=False), UNREVIEWED
METRIC_NAMES = {*METRICS, *MORE_METRICS}
#: The times to complete that a list can be of: each class by its place, of which the last is not
#: complete yet; what was within a promised time, in seconds, or late; all that are known.
KNOWN, WITHIN, LATE = "known", "within-", "late-"


def keep_times(rows: QuerySet[PullRequest], times: str, now: datetime) -> QuerySet[PullRequest]:
    """Keep merges by their times to complete, without those from before the connection.

    Raises KeyError if there are no such times.
    """
    return exclude_history(rows).filter(_describe_times(now)[times])


def _describe_times(now: datetime) -> dict[str, Q]:
    times = {str(place): condition for place, condition in enumerate(describe_classes())}
    for limit in PROMISED:
        seconds = int(limit.total_seconds())
        times[f"{WITHIN}{seconds}"] = Q(completed_at__lte=F("merged_at") + limit)
        times[f"{LATE}{seconds}"] = describe_late(limit, now)
    return {**times, KNOWN: Q(completed_at__isnull=False)}


__all__ = [
    "BY_PEOPLE",
    "KNOWN",
    "LATE",
    "METRIC_NAMES",
    "WITHIN",
    "WITHOUT_REVIEW",
    "WITH_REVIEW",
    "is_answered_by",
    "is_known",
    "is_reviewed_by",
    "keep_times",
    "list_people",
]
