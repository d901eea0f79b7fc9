"""Records webhook deliveries, and applies each one once."""

import logging
from functools import partial
from itertools import count

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError
from django.db.models import Q, QuerySet
from django.utils import timezone

from metrics_sync.exceptions import MalformedDeliveryError, UnlinkedInstallationError
from metrics_sync.ingest.events import save_event
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, WebhookDelivery
from metrics_sync.models.prepared import PreparedInsert
from metrics_sync.snapshot import UNREADABLE, read_text
from metrics_sync.store.transactions import run_transaction

logger = logging.getLogger(__name__)

#: Characters of a payload that are stored; a pull request's payload is far shorter.
LONGEST_PAYLOAD = 512 * 1024

#: Raised when a payload that does not fit its event is read or written.
UNUSABLE = (*UNREADABLE, DataError, IntegrityError, ValidationError)

_insert = PreparedInsert(WebhookDelivery)


def record_delivery(
    delivery: Delivery, *, integration: GitHubIntegration | None
) -> WebhookDelivery:
    """Record a delivery, apply it once, and return its row.

    `integration` is None for the shared endpoint, whose deliveries apply to every team that
    tracks the repository; those of an integration apply to its own team only. Safe to repeat:
    everything is written in one transaction that ends with the row, so that nothing is left of the
    second of two equal deliveries. Deliveries with the same body are equal, whatever their ids.
    A delivery that failed before is applied again, and a deadlock is retried at once. The payload
    of an ignored delivery is not stored.

    Raises MalformedDeliveryError if the payload does not fit its event; the row stays, with the
    reason, and GitHub may redeliver.
    """
    tries = count()
    try:
        # Nearly every delivery is new, so the first try does not look for an equal one.
        return run_transaction(lambda: _record(delivery, integration, is_again=next(tries) > 0))
    except UNUSABLE as error:
        reason = read_text(f"{type(error).__name__}: {error}")
        run_transaction(partial(_record_failure, delivery, integration, reason))
        raise MalformedDeliveryError(
            f"The payload is not a {delivery.event} as GitHub writes it ({reason})."
        ) from error


def _record(
    delivery: Delivery, integration: GitHubIntegration | None, *, is_again: bool
) -> WebhookDelivery:
    """Apply a delivery, then save its row; raises IntegrityError if an equal one has a row.

    With `is_again` it finds and locks that row, which must have failed.
    """
    row = _make_row(delivery, integration)
    if is_again:
        equal = _list_equal(row).select_for_update().defer("payload").first()
        if equal is not None and equal.status != WebhookDelivery.Status.FAILED:
            return equal
        row = equal or row
    try:
        is_handled, row.error = save_event(delivery, integration), ""
    except UnlinkedInstallationError as error:
        # Nothing is written before it is raised.
        is_handled, row.error = False, read_text(str(error))
    row.status = WebhookDelivery.Status.PROCESSED if is_handled else WebhookDelivery.Status.IGNORED
    row.payload = delivery.text[:LONGEST_PAYLOAD] if is_handled else ""
    row.processed_at = timezone.now()
    if row.pk is None:
        _insert.run(row)
    else:
        row.save()
    return row


def _record_failure(delivery: Delivery, integration: GitHubIntegration | None, reason: str) -> None:
    row = _make_row(delivery, integration)
    WebhookDelivery.objects.bulk_create([row], ignore_conflicts=True)
    _list_equal(row).filter(status=WebhookDelivery.Status.FAILED).update(
        error=reason, payload=delivery.text[:LONGEST_PAYLOAD], processed_at=timezone.now()
    )


def _make_row(delivery: Delivery, integration: GitHubIntegration | None) -> WebhookDelivery:
    """Return the row of a new delivery, unsaved; it is `failed` until it is processed."""
    return WebhookDelivery(
        endpoint=str(integration.uuid) if integration else WebhookDelivery.SHARED_ENDPOINT,
        guid=delivery.guid,
        body_hash=delivery.body_hash,
        integration=integration,
        team_id=integration.team_id if integration else None,
        event=delivery.event,
        action=delivery.action,
        github_repo=delivery.github_repo,
    )


def _list_equal(row: WebhookDelivery) -> QuerySet[WebhookDelivery]:
    """Return the rows of a delivery: the same body is the same one, because ids are not signed."""
    same = Q(guid=row.guid) | Q(event=row.event, body_hash=row.body_hash)
    return WebhookDelivery.objects.filter(same, endpoint=row.endpoint).order_by("pk")
