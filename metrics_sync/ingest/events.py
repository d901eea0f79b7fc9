"""Applies each webhook event to the rows of the teams that it concerns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db.models import BigIntegerField, CharField, DateTimeField, QuerySet

from metrics_sync.ingest.installations import save_installation, save_installation_repositories
from metrics_sync.ingest.targets import find_targets
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, PullRequest
from metrics_sync.models.prepared import Prepared, PreparedUpdate, Slot
from metrics_sync.snapshot import read_pull_request, read_review, read_review_event
from metrics_sync.store import doubt
from metrics_sync.store.pull_requests import save_pull_request

#: Actions whose payload has the review's true state; that of `edited` cannot be trusted.
REVIEW_ACTIONS = {"submitted", "dismissed"}


def save_event(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Apply an event; return False if it concerns nothing that is stored here.

    `integration` is None for the shared endpoint. Safe to repeat, and in any order. Raises
    UnlinkedInstallationError, and whatever reading an unfit payload raises.
    """
    handler = HANDLERS.get(delivery.event)
    delivery.check_shape()
    return handler is not None and handler(delivery, integration)


def _list_merged() -> QuerySet[PullRequest]:
    of_repository = {"repository": Slot("repository_id", BigIntegerField())}
    return PullRequest.objects.merged().filter(**of_repository).only("state", "refetch_at")


_with_number = Prepared(
    lambda: _list_merged().filter(github_pr_number=Slot("number", BigIntegerField()))
)
_with_head = Prepared(lambda: _list_merged().filter(head_sha=Slot("head_sha", CharField())))


def _list_changed() -> QuerySet[PullRequest]:
    row = PullRequest.objects.filter(pk=Slot("pk", BigIntegerField()))
    return row.not_refetched_by(Slot("soon", DateTimeField()))


_save_refetch = PreparedUpdate(_list_changed, refetch_at=Slot("soon", DateTimeField()))


def _note_change(
    delivery: Delivery,
    integration: GitHubIntegration | None,
    merged: Prepared[PullRequest],
    **which: Any,
) -> bool:
    """Have the merged pull requests that a delivery is about fetched again in a minute.

    Returns False if there are none. Nearly all such deliveries write nothing here: most come
    before the merge, and one of a minute speaks for those that follow.
    """
    found = [
        row
        for target in find_targets(delivery, integration)
        if target.repository is not None
        for row in merged.run(repository_id=target.repository.pk, **which)
    ]
    for row in found:
        if row.note_change():
            _save_refetch.run(pk=row.pk, soon=row.refetch_at)
    return bool(found)


def _save_pull_request(
    delivery: Delivery, integration: GitHubIntegration | None, **change: Any
) -> bool:
    item = read_pull_request(delivery.payload["pull_request"], github_repo=delivery.github_repo)
    item = replace(item, review_events=read_review_event(delivery.event, delivery.payload))
    if item.base_repo_id not in (None, delivery.github_repo_id):
        raise ValueError("the pull request is another repository's")
    targets = find_targets(delivery, integration)
    for team, repository in targets:
        save_pull_request(team, item, repository=repository, **change)
    return bool(targets)


def _save_review(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Store the review at once: after a dismissal the API no longer says what it was."""
    is_whole = delivery.action in REVIEW_ACTIONS
    review = read_review(delivery.payload["review"]) if is_whole else None
    return _save_pull_request(delivery, integration, review=review, is_refetched=True)


def _note_review_comment(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    number = delivery.payload["pull_request"]["number"]
    return _note_change(delivery, integration, _with_number, number=number)


def _note_issue_comment(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Note a comment in the conversation; an issue that is no pull request has no row."""
    number = delivery.payload["issue"]["number"]
    return _note_change(delivery, integration, _with_number, number=number)


def _note_check_run(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Note a check run of the head; for forks GitHub does not name the pull request."""
    head_sha = delivery.payload["check_run"]["head_sha"]
    return _note_change(delivery, integration, _with_head, head_sha=head_sha)


def _note_status(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Note a commit status of the head, which older CI services set."""
    head_sha = delivery.payload["sha"]
    return _note_change(delivery, integration, _with_head, head_sha=head_sha)


def _doubt_repository(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Verify at GitHub a repository that is reported as renamed, transferred or deleted.

    An archived repository can still be read, so nothing changes.
    """
    if delivery.action not in {"renamed", "transferred", "deleted"}:
        return False
    targets = find_targets(delivery, integration)
    for _, repository in targets:
        if repository is not None and repository.is_active:
            actor = f"webhook delivery {delivery.guid}"
            doubt(repository, reason=f"a delivery says that it is {delivery.action}", actor=actor)
    return any(repository is not None for _, repository in targets)


HANDLERS: dict[str, Callable[[Delivery, GitHubIntegration | None], bool]] = {
    "pull_request": _save_pull_request,
    "pull_request_review": _save_review,
    "pull_request_review_comment": _note_review_comment,
    "issue_comment": _note_issue_comment,
    "check_run": _note_check_run,
    "status": _note_status,
    "repository": _doubt_repository,
    "installation": save_installation,
    "installation_repositories": save_installation_repositories,
}

#: The events that a repository's webhook needs; GitHub sends the others to Apps only.
REPOSITORY_EVENTS = HANDLERS.keys() - {"installation", "installation_repositories"}
