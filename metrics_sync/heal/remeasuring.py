"""Measures stored pull requests again, without asking GitHub."""

import logging
from collections.abc import Iterator

from django.db import transaction
from django.db.models import Q

from metrics_sync import store
from metrics_sync.metrics import METRICS_VERSION
from metrics_sync.models import PullRequest
from metrics_sync.models.pull_request import PullRequestQuerySet

logger = logging.getLogger(__name__)

#: How many the clock measures at a time, so that its job never holds a worker for long.
BATCH = 2_000


def list_measurable(*, team: str = "", only_outdated: bool = False) -> PullRequestQuerySet:
    """Return merged pull requests that were measured, or by older formulas only."""
    rows = PullRequest.objects.merged().exclude(metrics_version=None).order_by("pk")
    if team:
        rows = rows.filter(team__slug=team)
    # In two halves, for each of which there is an index.
    other = Q(metrics_version__lt=METRICS_VERSION) | Q(metrics_version__gt=METRICS_VERSION)
    return rows.filter(other) if only_outdated else rows


def remeasure(rows: PullRequestQuerySet) -> Iterator[PullRequest]:
    """Measure rows anew from what is stored, yielding each as it is written.

    Safe to repeat, to interrupt and to run beside a fetch: each row is locked while it is
    measured, and of it only the metrics are written.
    """
    for pk in rows.values_list("pk", flat=True).iterator(chunk_size=2_000):
        with transaction.atomic():
            row = PullRequest.objects.select_for_update().get(pk=pk)
            PullRequest.objects.filter(pk=pk).update(**store.measure_rows(row))
        yield row


def remeasure_outdated() -> dict[str, int]:
    """Measure what older formulas measured; what the clock runs after an upgrade."""
    count = sum(1 for _ in remeasure(list_measurable(only_outdated=True)[:BATCH]))
    if count:
        logger.info("Measured %s pull requests again by new formulas", count)
    return {"measured": count}
