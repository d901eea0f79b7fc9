"""Throws away what nobody will look at any more."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from metrics_sync.models import FetchRun, WebhookDelivery

logger = logging.getLogger(__name__)


def prune() -> dict[str, int]:
    """Empty the payloads of old deliveries that were processed, and delete old fetch runs.

    Old is RETENTION_DAYS. Kept are the deliveries themselves, so that a late repetition is still
    known, the payloads of failed ones, and each pull request's last run, whose receipt proves
    what we hold. Safe to repeat; what the clock runs once a day. Returns how many of each.
    """
    before = timezone.now() - timedelta(days=settings.RETENTION_DAYS)
    deliveries = WebhookDelivery.objects.filter(received_at__lt=before)
    done = deliveries.exclude(status=WebhookDelivery.Status.FAILED).exclude(payload="")
    emptied = done.update(payload="")
    last = FetchRun.objects.filter(pull_request=OuterRef("pull_request"))
    old = FetchRun.objects.filter(started_at__lt=before).exclude(
        pk=Subquery(last.order_by("-started_at", "-pk").values("pk")[:1])
    )
    deleted, _ = old.delete()
    logger.info("Emptied %s old deliveries, deleted %s old fetch runs", emptied, deleted)
    return {"payloads": emptied, "fetch_runs": deleted}
