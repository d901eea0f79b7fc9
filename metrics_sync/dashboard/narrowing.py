"""Narrows pull requests down to those that one figure of the dashboard is of."""

from dataclasses import fields
from datetime import timedelta
from itertools import pairwise

from django.db.models import Exists, F, OuterRef, Q

from metrics_sync.dashboard.summary import BY_BOT, CLASSES, UNREVIEWED
from metrics_sync.metrics import Metrics
from metrics_sync.models import PRReview, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.models.sync_status import SyncStatus

BY_PEOPLE = ~BY_BOT
WITH_REVIEW, WITHOUT_REVIEW = Q(merged_without_review=False), UNREVIEWED
#: The metrics that can be unknown.
METRIC_NAMES = frozenset(
    field.name
    for field in PullRequest._meta.concrete_fields  # noqa: SLF001  (public in all but name)
    if field.null and field.name in {metric.name for metric in fields(Metrics)}
)
#: A pull request that nobody reviewed had none of these, which is another thing than 0 of them.
OF_REVIEWED = {
    "review_rounds",
    "reviewer_count",
    "changes_requested_count",
    "commits_after_first_review",
}
#: How many classes of times to complete there are; the last has what is not complete yet.
CLASS_COUNT = len(CLASSES) + 2


def is_known(metric: str) -> Q:
    """Return the condition for pull requests whose value of a metric counts."""
    known = Q(**{f"{metric}__isnull": False})
    return known & ~UNREVIEWED if metric in OF_REVIEWED else known


def keep_class(rows: PullRequestQuerySet, place: int) -> PullRequestQuerySet:
    """Keep merges of one class of times to complete, without those from before the connection."""
    return exclude_history(rows).filter(_describe_classes()[place])


def exclude_history(rows: PullRequestQuerySet) -> PullRequestQuerySet:
    """Leave out merges from before their repository was connected."""
    connected_later = TrackedRepository.objects.filter(
        team=OuterRef("team"),
        full_name__iexact=OuterRef("github_repo"),
        connected_at__gt=OuterRef("merged_at"),
    )
    return rows.filter(~Exists(connected_later))


def is_reviewed_by(login: str) -> Exists:
    """Return the condition for pull requests that this account reviewed; not for its own."""
    reviews = PRReview.objects.filter(pull_request=OuterRef("pk"), reviewer_login=login)
    return Exists(reviews.exclude(submitted_at=None).exclude(pull_request__author_login=login))


def _describe_classes() -> list[Q]:
    ends = [F("merged_at") + end for end in CLASSES]
    return [
        Q(completed_at__lte=ends[0]),
        *(Q(completed_at__gt=start, completed_at__lte=end) for start, end in pairwise(ends)),
        Q(completed_at__gt=ends[-1]),
        Q(completed_at=None) & ~Q(sync_status=SyncStatus.UNTRACKED),
    ]


def name_class(place: int) -> str:
    """Say in words how long the merges of a class took to complete."""
    if place > len(CLASSES):
        return "not complete yet"
    if place == len(CLASSES):
        return f"complete after over {_show(CLASSES[-1])}"
    return f"complete within {_show(CLASSES[place])}" + (
        f", after over {_show(CLASSES[place - 1])}" if place else ""
    )


def _show(limit: timedelta) -> str:
    seconds = int(limit.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 3600 else f"{seconds // 3600} h"
