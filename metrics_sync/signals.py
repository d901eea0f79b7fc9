"""Queues the fetch of a pull request when it merges; other apps find our own signals here."""

from collections.abc import Collection
from functools import partial
from typing import Any

from django.core.signals import request_finished
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from metrics_sync.models import PullRequest
from metrics_sync.store.announcing import (
    announce,
    pull_request_completed,
    pull_request_merged,
    repository_doubted,
)
from metrics_sync.work.counts import save_counts_of_answers
from metrics_sync.work.queueing import enqueue_verification
from metrics_sync.work.turns import enqueue_merge

__all__ = ["enqueue_merged", "pull_request_completed", "pull_request_merged"]


@receiver(post_save, sender=PullRequest)
def enqueue_merged(
    *, instance: PullRequest, raw: bool, update_fields: Collection[str] | None, **options: Any
) -> None:
    """Queue a pull request on the transition to merged, once it is committed."""
    if instance.is_new_merge(update_fields) and not raw:
        transaction.on_commit(partial(enqueue_merge, instance))
        announce(pull_request_merged, instance)


@receiver(repository_doubted)
def ask_about_repositories(**options: Any) -> None:
    """Queue the job that asks GitHub about repositories that a delivery or a fetch put in doubt."""
    enqueue_verification()


@receiver(request_finished)
def save_counts_after_answer(**options: Any) -> None:
    """Save what requests have counted, once an answer is sent."""
    save_counts_of_answers()
