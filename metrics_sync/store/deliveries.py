"""Writes webhook deliveries: first that it came, then what it tells, to each team concerned."""

import logging

from django.db import DataError, IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from metrics_sync.exceptions import MalformedDeliveryError
from metrics_sync.models import GitHubIntegration, Team, TrackedRepository, WebhookDelivery
from metrics_sync.snapshot import PullRequestItem, ReviewItem, read_pull_request, read_review
from metrics_sync.store.snapshots import save_pull_request, save_review
from metrics_sync.webhooks import Delivery

logger = logging.getLogger(__name__)

#: Reviews whose webhook says what they are; `edited` comes without a state that can be trusted.
REVIEW_ACTIONS = {"submitted", "dismissed"}

#: What reading or writing a payload raises that is not what its event says.
UNREADABLE = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    DataError,
    IntegrityError,
)


def record_delivery(
    delivery: Delivery, *, integration: GitHubIntegration | None
) -> WebhookDelivery:
    """Record a delivery and write what it tells, once; returns its row.

    `integration` is None for the shared endpoint, whose deliveries go to every team that tracks
    the repository; those of an integration go to its own team only. One transaction holds the
    record, so that of the same delivery sent twice at the same time the second waits for the
    first and then does nothing. A delivery that failed before is taken up again.

    Raises MalformedDeliveryError when the payload is not what its event says; the record stays,
    with the reason, and a redelivery is welcome.
    """
    malformed = None
    with transaction.atomic():
        row, created = WebhookDelivery.objects.select_for_update().get_or_create(
            endpoint=integration.uuid if integration else WebhookDelivery.SHARED_ENDPOINT,
            guid=delivery.guid,
            defaults={
                "integration": integration,
                "team": integration.team if integration else None,
                "event": delivery.event,
                "action": delivery.action,
                "github_repo": delivery.github_repo,
                "payload": delivery.text,
            },
        )
        if not created and row.status != WebhookDelivery.Status.FAILED:
            return row
        try:
            with transaction.atomic():
                handled = _save_event(delivery, integration)
            row.status = (
                WebhookDelivery.Status.PROCESSED if handled else WebhookDelivery.Status.IGNORED
            )
            row.error = ""
        except UNREADABLE as error:
            row.status = WebhookDelivery.Status.FAILED
            row.error = f"{type(error).__name__}: {error}"
            malformed = error
        row.processed_at = timezone.now()
        row.save(update_fields=["status", "error", "processed_at"])
    if malformed:
        raise MalformedDeliveryError(
            f"The payload is not a {delivery.event} as GitHub writes it ({row.error})."
        ) from malformed
    return row


def _save_event(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Write what the event tells to each team's rows; False when it concerns nobody here."""
    if delivery.event not in ("pull_request", "pull_request_review"):
        return False
    item = read_pull_request(delivery.payload["pull_request"], github_repo=delivery.github_repo)
    review = None
    if delivery.event == "pull_request_review" and delivery.action in REVIEW_ACTIONS:
        review = read_review(delivery.payload["review"])
    teams = _list_teams(delivery, integration)
    for team in teams:
        _save_for_team(team, item, review)
    return bool(teams)


def _save_for_team(team: Team, item: PullRequestItem, review: ReviewItem | None) -> None:
    pull_request = save_pull_request(team, item)
    if review is not None:
        save_review(pull_request, review)


def _list_teams(delivery: Delivery, integration: GitHubIntegration | None) -> QuerySet[Team]:
    """Return the teams whose rows this delivery may write."""
    if integration is not None:
        return Team.objects.filter(pk=integration.team_id)
    repositories = TrackedRepository.objects.named(delivery.github_repo)
    return Team.objects.filter(pk__in=repositories.values("team"))
