"""Writes webhook deliveries: first that one came, then what it tells, once."""

import logging
from functools import partial

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, transaction
from django.utils import timezone

from metrics_sync.exceptions import MalformedDeliveryError, UnlinkedInstallationError
from metrics_sync.models import GitHubIntegration, WebhookDelivery
from metrics_sync.snapshot import read_text
from metrics_sync.store.events import save_event
from metrics_sync.store.transactions import run_transaction
from metrics_sync.webhooks import Delivery

logger = logging.getLogger(__name__)

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
    first and then does nothing. A delivery that failed before is taken up again, and one that met
    another in a deadlock is tried again at once.

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
    row, created = WebhookDelivery.objects.select_for_update().get_or_create(
        endpoint=integration.uuid if integration else WebhookDelivery.SHARED_ENDPOINT,
        guid=delivery.guid,
        defaults={
            "integration": integration,
            "team_id": integration.team_id if integration else None,
            "event": delivery.event,
            "action": delivery.action,
            "github_repo": delivery.github_repo,
            "payload": delivery.text,
        },
    )
    if not created and row.status != WebhookDelivery.Status.FAILED:
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
    row.processed_at = timezone.now()
    row.save(update_fields=["status", "error", "processed_at"])
    return row, malformed
