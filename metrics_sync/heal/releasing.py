"""Releases pull requests that waited for a token: a refused one, or one without requests left."""

import logging
from typing import Any

from django.db.models import Exists, OuterRef
from django.utils import timezone

from metrics_sync.access import is_accepted_again
from metrics_sync.exceptions import MetricsSyncError, QueueUnavailableError
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    TrackedRepository,
)
from metrics_sync.work.queueing import bring_forward

logger = logging.getLogger(__name__)


def release_refused() -> dict[str, Any]:
    """Try each revoked credential at GitHub; the clock runs this every hour. Safe to repeat.

    GitHub sometimes refuses valid tokens, and the delivery that reports the resumption of an App
    may be lost. The `failed` rows of a credential that is accepted are queued by the next
    `requeue_due`. A server that does not answer is asked only once.
    """
    accepted, errors = 0, dict[str, str]()
    for integration in _list_refused():
        api_url = integration.get_api_root()
        if api_url in errors:
            continue
        try:
            is_accepted = is_accepted_again(integration)
        except MetricsSyncError as error:
            errors[api_url] = str(error)
            logger.warning("Cannot ask again about %s: %s", integration.credential, error)
            continue
        accepted += is_accepted
        if is_accepted:
            logger.info("GitHub accepts %s again", integration.credential)
    return {"accepted": accepted, "errors": list(errors.values())}


def _list_refused() -> list[GitHubIntegration]:
    """Return one integration for each revoked credential that a tracked repository uses."""
    is_used = Exists(TrackedRepository.objects.active().filter(integration=OuterRef("pk")))
    rows = GitHubIntegration.objects.filter(is_used, credential__revoked_at__isnull=False)
    rows = rows.select_related("credential__team").order_by("credential", "pk")
    # Secrets are read one by one, so that one that cannot be decrypted stops no other.
    rows = rows.defer("webhook_secret", "credential__access_token")
    return list({row.credential_id: row for row in rows}.values())


def release_parked(credential: IntegrationCredential) -> None:
    """Release the pull requests that waited for this credential's previous token.

    Jobs that wait for its rate limit run now, and failed rows are due at once. Call it after the
    commit that stored another token. If Redis is down, the jobs run at their scheduled time, an
    hour later at most.
    """
    rows = PullRequest.objects.tracked(integration__credential=credential)
    now = timezone.now()
    rows.filter(retry_at__gt=now).update(retry_at=now)
    waiting = rows.filter(sync_status=PullRequest.SyncStatus.QUEUED)
    try:
        count = bring_forward(waiting.values_list("sync_job_id", flat=True))
    except QueueUnavailableError as error:
        logger.warning("Jobs that wait for %s run at their scheduled time: %s", credential, error)
        return
    logger.info("Brought forward %s jobs that waited for %s", count, credential)
