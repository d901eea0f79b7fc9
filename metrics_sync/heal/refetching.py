"""Fetches complete pull requests again, many with one query; for GitHub Apps."""

import logging
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from django.utils import timezone

from metrics_sync.exceptions import MetricsSyncError, QueueUnavailableError
from metrics_sync.github import FETCHED, REPLICATION_LAG
from metrics_sync.heal.backfilling import Backfill
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.states import SyncStatus
from metrics_sync.work.queueing import BULK, enqueue_fetch

logger = logging.getLogger(__name__)


def group_for_bulk(pks: Collection[int]) -> list[list[int]]:
    """Choose those of the rows that cost less in bulk, in groups that one query each fetches.

    They are those of GitHub Apps. An App's token lasts an hour and its ETags no longer, so most
    further fetches by REST cost it nine requests each. Merges of the last minutes are left to REST,
    which does not believe an answer from before the merge.
    """
    settled = timezone.now() - REPLICATION_LAG
    rows = PullRequest.objects.filter(pk__in=pks, merged_at__lte=settled)
    rows = rows.tracked(integration__credential__kind=IntegrationCredential.Kind.APP)
    of_repository = defaultdict[int | None, list[int]](list)
    for repository_id, pk in rows.order_by("repository", "pk").values_list("repository", "pk"):
        of_repository[repository_id].append(pk)
    return [
        found[n : n + FETCHED]
        for found in of_repository.values()
        for n in range(0, len(found), FETCHED)
    ]


def refetch_in_bulk(job_id: str, pr_ids: list[int]) -> dict[str, Any]:
    """Fetch the pull requests of one repository that `job_id` has claimed; an RQ job.

    Each is written as a run of its own, in one transaction. What bulk does not bring gets a job of
    its own, as does everything when GitHub refuses the query. When the job is killed, the rows that
    are left stay queued without a job, and the clock queues them. Safe to repeat.
    """
    claimed = PullRequest.objects.filter(
        pk__in=pr_ids, sync_status=SyncStatus.QUEUED, sync_job_id=job_id
    )
    rows = list(claimed.order_by("pk"))
    repository = _find_repository(rows)
    errors = list[str]()
    fetched = 0
    if repository is not None:
        try:
            backfill = Backfill(repository)
            backfill.take(rows)
            for _ in backfill.fetch():
                pass
            fetched = backfill.tally.fetched
        except MetricsSyncError as error:
            logger.warning("%s is not fetched in bulk: %s", repository, error)
            errors.append(str(error))
    left = list(claimed.all())
    for row in left:
        try:
            enqueue_fetch(row, queue_name=BULK)
        except QueueUnavailableError as error:
            errors.append(str(error))
            break
    return {"fetched": fetched, "queued": len(left), "errors": errors}


def _find_repository(rows: list[PullRequest]) -> TrackedRepository | None:
    if not rows:
        return None
    return TrackedRepository.objects.matching(rows[0]).with_credentials().first()
