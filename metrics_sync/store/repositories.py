"""Writes what GitHub says of tracked repositories.

GitHub's id is the identity. A delivery is a hint: whoever has a webhook's secret can sign any id
with any name, and deliveries come late and twice. So nothing about a repository changes until
GitHub has confirmed it to the team's own token.
"""

from collections.abc import Iterable

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from metrics_sync.models import GitHubIntegration, TrackedRepository
from metrics_sync.models.repository import REPLICATION_LAG
from metrics_sync.snapshot import RepositoryItem
from metrics_sync.store.announcing import repository_doubted
from metrics_sync.store.auditing import record_change


def doubt(repository: TrackedRepository, *, reason: str, actor: str) -> None:
    """Have GitHub asked about a repository: by a job after the commit, or else by the clock.

    Safe to repeat: while the repository is in doubt already, nothing is written.
    """
    if repository.doubt():
        record_change(actor=actor, subject=repository, change=f"GitHub is asked: {reason}")
        transaction.on_commit(_send_doubt)


def hint(rows: QuerySet[TrackedRepository]) -> None:
    """Have GitHub asked about repositories that only a delivery names, with one UPDATE.

    Until GitHub answers, deliveries of the shared endpoint are not written to their team.
    """
    now = timezone.now()
    if rows.update(verified_at=None, doubted_at=now, verify_at=now):
        transaction.on_commit(_send_doubt)


def _send_doubt() -> None:
    repository_doubted.send_robust(sender=TrackedRepository)


@transaction.atomic
def confirm(repository: TrackedRepository, item: RepositoryItem, *, actor: str) -> None:
    """Write the id and the present name of a repository, as GitHub gave them to its team's token.

    Safe to repeat. The doubt ends with an answer that GitHub's replicas had time to catch up for.
    """
    name = repository.full_name
    if repository.github_repo_id is None:
        _save_id(repository, item.github_repo_id)
    repository.rename(item.full_name)
    if not repository.is_active and repository.github_repo_id is None:
        record_change(actor=actor, subject=repository, change=f"is tracked as {item.full_name}")
        return
    is_settled = repository.is_settled
    since = repository.doubted_at or repository.connected_at or timezone.now()
    repository.verified_at = timezone.now()
    repository.verify_at = None if is_settled else since + REPLICATION_LAG
    repository.doubted_at = None if is_settled else repository.doubted_at
    repository.save(update_fields=["verified_at", "verify_at", "doubted_at"])
    if repository.full_name != name:
        change = f"renamed: from {name} to {repository.full_name}, as GitHub says"
        record_change(actor=actor, subject=repository, change=change)


def _save_id(repository: TrackedRepository, github_repo_id: int) -> None:
    """Write the id of a repository that was known by its name; an older row of it is merged in."""
    former = TrackedRepository.objects.filter(
        integration=repository.integration_id, github_repo_id=github_repo_id
    ).first()
    if former is not None:
        former.merge_into(repository)
    else:
        repository.github_repo_id = github_repo_id
        repository.save(update_fields=["github_repo_id"])


@transaction.atomic
def note_gone(repository: TrackedRepository, *, reason: str, actor: str) -> None:
    """Stop tracking a repository that GitHub does not show to its team's token.

    Only after a while: a repository that moves may be missing for a moment, and on a replica.
    """
    if not repository.is_settled:
        since = repository.doubted_at or repository.connected_at or timezone.now()
        repository.postpone_verification(since + REPLICATION_LAG)
        return
    repository.is_active = False
    repository.doubted_at = repository.verify_at = repository.verified_at = None
    repository.save(update_fields=["is_active", "doubted_at", "verify_at", "verified_at"])
    record_change(actor=actor, subject=repository, change=f"tracked no more: {reason}")


@transaction.atomic
def track_named(
    integration: GitHubIntegration, item: RepositoryItem, *, actor: str
) -> tuple[TrackedRepository, bool]:
    """Track a repository that GitHub has just shown to the integration's token.

    Returns the row, and whether it is new for the team. The team reads the repository with this
    integration from now on. GitHub is asked about other repositories of the same name.
    """
    # Another GitHub has other repositories under the same ids.
    rows = integration.team.repositories.filter(integration__api_url=integration.api_url)
    of_id = rows.filter(github_repo_id=item.github_repo_id).order_by("-is_active", "-pk")
    if known := of_id.first():
        known.rename(item.full_name)
    row = of_id.first() or rows.named(item.full_name).filter(github_repo_id=None).first()
    is_new = row is None
    if row is None:
        row = TrackedRepository(team=integration.team, full_name=item.full_name)
    for former in of_id.exclude(pk=row.pk):
        former.merge_into(row)
    row.integration, row.github_repo_id, row.is_active = integration, item.github_repo_id, True
    row.verified_at, row.verify_at, row.doubted_at = timezone.now(), None, None
    row.save()
    for other in rows.named(item.full_name).active().exclude(pk=row.pk):
        doubt(other, reason=f"{item.full_name} is another repository now", actor=actor)
    return row, is_new


def is_own(repository: TrackedRepository, ids: Iterable[int | None]) -> bool:
    """Whether GitHub's answers are about this repository, by the ids in them."""
    known = repository.github_repo_id
    return known is None or all(one in (None, known) for one in ids)
