"""Lets go on what waited for a token: one that GitHub refused, or one that was used up."""

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
    """Ask GitHub again about each credential that it refused; what the clock runs once an hour.

    GitHub refuses good tokens now and then, and the delivery that tells of an App's resumption
    may be lost. What waited as `failed` for a credential that is accepted is queued by the next
    `requeue_due`. Safe to repeat. A GitHub that cannot be asked is not asked for the next one.
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
    """Return one integration for each refused credential that something is read with."""
    is_used = Exists(TrackedRepository.objects.active().filter(integration=OuterRef("pk")))
    rows = GitHubIntegration.objects.filter(is_used, credential__revoked_at__isnull=False)
    rows = rows.select_related("credential__team").order_by("credential", "pk")
    # Secrets are read one by one, where one that cannot be decrypted stops no other.
    rows = rows.defer("webhook_secret", "credential__access_token")
    return list({row.credential_id: row for row in rows}.values())


def release_parked(credential: IntegrationCredential) -> None:
    """Let go on what waits for the token that this credential had before.

    Jobs that wait for its limit are brought forward, and rows that failed are due at once. Call it
    after the commit that stored another token. With Redis down the jobs run when their time has
    come, an hour later at most.
    """
    rows = PullRequest.objects.tracked(integration__credential=credential)
    now = timezone.now()
    rows.filter(retry_at__gt=now).update(retry_at=now)
    waiting = rows.filter(sync_status=PullRequest.SyncStatus.QUEUED)
    try:
        count = bring_forward(waiting.values_list("sync_job_id", flat=True))
    except QueueUnavailableError as error:
        logger.warning("What waits for %s is not brought forward: %s", credential, error)
        return
    logger.info("Brought forward %s jobs that waited for %s", count, credential)
