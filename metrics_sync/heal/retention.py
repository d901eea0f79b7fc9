"""Deletes old payloads, deliveries and fetch runs."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from django.db.models import QuerySet
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.models import FetchRun, WebhookDelivery

logger = logging.getLogger(__name__)

Pruned = TypeVar("Pruned", WebhookDelivery, FetchRun)

#: The most that is kept for one endpoint, however new: its secret's holder can sign anything.
PAYLOADS_KEPT = 10_000
DELIVERIES_KEPT = 100_000
#: Rows changed by one statement, so that locks are short.
BATCH = 5_000


def prune() -> dict[str, int]:
    """Empty the payloads of old deliveries, delete old fetch runs, and enforce the quotas.

    Old means RETENTION_DAYS, also for failed deliveries, which GitHub keeps for a few days only.
    The rows of deliveries stay, so that a late repetition is still recognized, and so does each
    pull request's last fetch run, whose receipt proves its data. Safe to repeat; the clock runs
    it once a day. Returns the number of each.
    """
    before = timezone.now() - timedelta(days=app_settings.RETENTION_DAYS)
    with_payload = WebhookDelivery.objects.exclude(payload="")
    emptied = _go_through(with_payload.filter(received_at__lt=before), _empty)
    dropped = 0
    for endpoint in (
        WebhookDelivery.objects.order_by().values_list("endpoint", flat=True).distinct()
    ):
        emptied += _go_through(_select_over(with_payload, endpoint, PAYLOADS_KEPT), _empty)
        rows = WebhookDelivery.objects.all()
        dropped += _go_through(_select_over(rows, endpoint, DELIVERIES_KEPT), _delete)
    superseded = FetchRun.objects.filter(is_superseded=True, started_at__lt=before)
    deleted = _go_through(superseded, _delete)
    logger.info(
        "Emptied %s deliveries, deleted %s, and %s old fetch runs", emptied, dropped, deleted
    )
    return {"payloads": emptied, "deliveries": dropped, "fetch_runs": deleted}


def _select_over(
    rows: QuerySet[WebhookDelivery], endpoint: str, kept: int
) -> QuerySet[WebhookDelivery]:
    """Return the rows of an endpoint that are older than its newest ones."""
    rows = rows.filter(endpoint=endpoint)
    last = rows.order_by("-pk").values_list("pk", flat=True)[kept : kept + 1].first()
    return rows.filter(pk__lte=last) if last is not None else rows.none()


def _go_through(rows: QuerySet[Pruned], change: Callable[[QuerySet[Pruned]], int]) -> int:
    """Change rows, some thousand at a time, the oldest first; return how many there were."""
    changed = last = 0
    while pks := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        changed += change(rows.model.objects.filter(pk__in=pks))
        last = pks[-1]
    return changed


def _empty(rows: QuerySet[WebhookDelivery]) -> int:
    return rows.update(payload="")


def _delete(rows: QuerySet[Pruned]) -> int:
    deleted, _ = rows.delete()
    return deleted
