"""Records webhook deliveries, and applies each one once."""

import logging
from functools import partial

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from metrics_sync.exceptions import MalformedDeliveryError, UnlinkedInstallationError
from metrics_sync.ingest.events import save_event
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, WebhookDelivery
from metrics_sync.snapshot import UNREADABLE, read_text
from metrics_sync.store.transactions import run_transaction

logger = logging.getLogger(__name__)

#: Characters of a payload that are stored; a pull request's payload is far shorter.
LONGEST_PAYLOAD = 512 * 1024

#: Raised when a payload that does not fit its event is read or written.
UNUSABLE = (*UNREADABLE, DataError, IntegrityError, ValidationError)


def record_delivery(
    delivery: Delivery, *, integration: GitHubIntegration | None
) -> WebhookDelivery:
    """Record a delivery, apply it once, and return its row.

    `integration` is None for the shared endpoint, whose deliveries apply to every team that
    tracks the repository; those of an integration apply to its own team only. Safe to repeat:
    everything is written in one transaction, so that the second of two equal deliveries waits for
    the first and then does nothing. Deliveries with the same body are equal, whatever their ids.
    A delivery that failed before is applied again, and a deadlock is retried at once. The payload
    of an ignored delivery is not stored.

    Raises MalformedDeliveryError if the payload does not fit its event; the row stays, with the
    reason, and GitHub may redeliver.
    """
    row, malformed = run_transaction(partial(_record, delivery, integration))
    if malformed:
        raise MalformedDeliveryError(
            f"The payload is not a {delivery.event} as GitHub writes it ({row.error})."
        ) from malformed
    return row


def _record(
    delivery: Delivery, integration: GitHubIntegration | None
) -> tuple[WebhookDelivery, Exception | None]:
    malformed = None
    row = _claim_row(delivery, integration)
    if row.status != WebhookDelivery.Status.FAILED:
        return row, None
    try:
        with transaction.atomic():
            handled = save_event(delivery, integration)
        row.status = WebhookDelivery.Status.PROCESSED if handled else WebhookDelivery.Status.IGNORED
        row.error = ""
    except UnlinkedInstallationError as error:
        row.status, row.error = WebhookDelivery.Status.IGNORED, read_text(str(error))
    except UNUSABLE as error:
        row.status = WebhookDelivery.Status.FAILED
        row.error = read_text(f"{type(error).__name__}: {error}")
        malformed = error
    is_ignored = row.status == WebhookDelivery.Status.IGNORED
    row.payload = "" if is_ignored else delivery.text[:LONGEST_PAYLOAD]
    row.processed_at = timezone.now()
    row.save(update_fields=["status", "error", "payload", "processed_at"])
    return row, malformed


def _claim_row(delivery: Delivery, integration: GitHubIntegration | None) -> WebhookDelivery:
    """Return the delivery's row, locked; a new one is `failed` until it is processed.

    The same body is the same delivery whatever its id, because the id is not signed. The second
    of two equal deliveries waits here for the first.
    """
    endpoint = str(integration.uuid) if integration else WebhookDelivery.SHARED_ENDPOINT
    new = WebhookDelivery(
        endpoint=endpoint,
        guid=delivery.guid,
        body_hash=delivery.body_hash,
        integration=integration,
        team_id=integration.team_id if integration else None,
        event=delivery.event,
        action=delivery.action,
        github_repo=delivery.github_repo,
    )
    WebhookDelivery.objects.bulk_create([new], ignore_conflicts=True)
    same = Q(guid=delivery.guid) | Q(event=delivery.event, body_hash=delivery.body_hash)
    rows = WebhookDelivery.objects.select_for_update().defer("payload")
    return rows.filter(same, endpoint=endpoint).order_by("pk")[:1].get()
