"""Narrows pull requests down to those that one figure of the dashboard is of."""

from django.db.models import Exists, OuterRef, Q

from metrics_sync.dashboard.measures import BY_BOT, METRICS, MORE_METRICS, UNREVIEWED, is_known
from metrics_sync.dashboard.totals import CLASSES, describe_classes, exclude_history
from metrics_sync.models import PRReview
from metrics_sync.models.pull_request import PullRequestQuerySet

BY_PEOPLE = ~BY_BOT
WITH_REVIEW, WITHOUT_REVIEW = Q(merged_without_review=False), UNREVIEWED
METRIC_NAMES = {*METRICS, *MORE_METRICS}
#: How many classes of times to complete there are; the last has what is not complete yet.
CLASS_COUNT = len(CLASSES) + 2


def keep_class(rows: PullRequestQuerySet, place: int) -> PullRequestQuerySet:
    """Keep merges of one class of times to complete, without those from before the connection."""
    return exclude_history(rows).filter(describe_classes()[place])


def is_reviewed_by(login: str) -> Exists:
    """Return the condition for pull requests that this account reviewed; not for its own."""
    reviews = PRReview.objects.filter(pull_request=OuterRef("pk"), reviewer_login=login)
    return Exists(reviews.exclude(submitted_at=None).exclude(pull_request__author_login=login))


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
