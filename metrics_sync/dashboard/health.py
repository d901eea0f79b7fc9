"""How each tracked repository fares: its deliveries, its merges, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db.models import Count, Max, Q
from django.db.models.functions import Upper
from django.utils import timezone

from metrics_sync.dashboard.current import IN_TROUBLE, UNDER_WAY
from metrics_sync.models import PullRequest, TrackedRepository, WebhookDelivery

#: How far back deliveries are looked for: an index finds those of the last days at once.
LOOKED_BACK = timedelta(days=7)


class Webhook(StrEnum):
    """What the deliveries of the last days say of a webhook."""

    #: The newest delivery was taken.
    DELIVERS = "delivers"
    #: The newest delivery could not be processed.
    FAILING = "failing"
    #: There was a merge, and no delivery.
    SILENT = "silent"
    #: There was neither a merge nor a delivery.
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one repository; `fault` is the reason of its newest merge in trouble."""

    webhook: Webhook
    last_delivery_at: datetime | None = None
    last_merge_at: datetime | None = None
    waiting: int = 0
    in_trouble: int = 0
    fault: str = ""


def read_health(repositories: Sequence[TrackedRepository]) -> dict[int, Health]:
    """Read the health of some repositories by their keys, with three queries.

    A delivery counts for a repository if it came to its integration, or to the shared webhook,
    which serves those at GITHUB_API_URL that the team's own token was shown.
    """
    since = timezone.now() - LOOKED_BACK
    merges = PullRequest.objects.merged().filter(repository__in=repositories).order_by()
    counts: dict[int, dict[str, Any]] = {
        row["repository"]: dict(row)
        for row in merges.values("repository").annotate(
            last_merge_at=Max("merged_at"),
            waiting=Count("pk", filter=Q(sync_status__in=UNDER_WAY)),
            in_trouble=Count("pk", filter=Q(sync_status__in=IN_TROUBLE)),
            troubled_at=Max("merged_at", filter=Q(sync_status__in=IN_TROUBLE)),
        )
    }
    faults = _read_faults({pk: row["troubled_at"] for pk, row in counts.items()})
    deliveries = _read_deliveries(repositories, since)
    return {
        repository.pk: _describe(
            counts.get(repository.pk, {}),
            _choose_deliveries(repository, deliveries),
            faults.get(repository.pk, ""),
            since,
        )
        for repository in repositories
    }


def _read_faults(troubled_at: Mapping[int, datetime | None]) -> dict[int, str]:
    """Return by repository the reason of its newest merge in trouble."""
    newest = Q(pk__in=[])
    for repository, merged_at in troubled_at.items():
        if merged_at is not None:
            newest |= Q(repository=repository, merged_at=merged_at)
    rows = PullRequest.objects.filter(newest, sync_status__in=IN_TROUBLE)
    return dict(rows.order_by("pk").values_list("repository", "sync_error"))


#: When deliveries last came, and which of them last failed, by the webhook and the upper-case name.
_Deliveries = dict[tuple[str, str], tuple[datetime, datetime | None]]


def _read_deliveries(repositories: Sequence[TrackedRepository], since: datetime) -> _Deliveries:
    endpoints = {str(row.integration.uuid) for row in repositories}
    rows = WebhookDelivery.objects.filter(
        received_at__gte=since, endpoint__in=[*endpoints, WebhookDelivery.SHARED_ENDPOINT]
    )
    failed = Q(status=WebhookDelivery.Status.FAILED)
    grouped = rows.order_by().values_list("endpoint", Upper("github_repo"))
    newest = grouped.annotate(Max("received_at"), failed_at=Max("received_at", filter=failed))
    return {(endpoint, name): (at, failed_at) for endpoint, name, at, failed_at in newest}


def _choose_deliveries(
    repository: TrackedRepository, deliveries: _Deliveries
) -> tuple[datetime, datetime | None] | None:
    endpoints = [str(repository.integration.uuid)]
    if not repository.integration.api_url and repository.verified_at is not None:
        endpoints.append(WebhookDelivery.SHARED_ENDPOINT)
    name = repository.full_name.upper()
    found = [deliveries[endpoint, name] for endpoint in endpoints if (endpoint, name) in deliveries]
    return max(found, key=lambda one: one[0], default=None)


def _describe(
    counts: dict[str, Any],
    newest: tuple[datetime, datetime | None] | None,
    fault: str,
    since: datetime,
) -> Health:
    last_merge_at = counts.get("last_merge_at")
    if newest is not None:
        webhook = Webhook.FAILING if newest[0] == newest[1] else Webhook.DELIVERS
    else:
        has_merged = last_merge_at is not None and last_merge_at >= since
        webhook = Webhook.SILENT if has_merged else Webhook.QUIET
    return Health(
        webhook=webhook,
        last_delivery_at=newest[0] if newest else None,
        last_merge_at=last_merge_at,
        waiting=counts.get("waiting", 0),
        in_trouble=counts.get("in_trouble", 0),
        fault=fault,
    )
