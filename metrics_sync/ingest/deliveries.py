"""Writes webhook deliveries: first that one came, then what it tells, once."""

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
from metrics_sync.snapshot import read_text
from metrics_sync.store.transactions import run_transaction

logger = logging.getLogger(__name__)

#: How much of a payload is kept, in characters: far more than a pull request has.
LONGEST_PAYLOAD = 512 * 1024

#: What reading or writing a payload raises that is not what its event says.
UNREADABLE = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    DataError,
    IntegrityError,
    ValidationError,
)


def record_delivery(
    delivery: Delivery, *, integration: GitHubIntegration | None
) -> WebhookDelivery:
    """Record a delivery and write what it tells, once; returns its row.

    `integration` is None for the shared endpoint, whose deliveries go to every team that tracks
    the repository; those of an integration go to its own team only. One transaction holds the
    record, so that of the same delivery sent twice at the same time the second waits for the
    first and then does nothing; the same body is the same delivery, under whatever id. A delivery
    that failed before is taken up again, and one that met another in a deadlock is tried again at
    once. Of what is ignored no payload is kept.

    Raises MalformedDeliveryError when the payload is not what its event says; the record stays,
    with the reason, and a redelivery is welcome.
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
    except UNREADABLE as error:
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

    A body that came before is the same delivery under whatever id, as the id is not signed. Of
    two that come at the same time the second waits for the first.
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
