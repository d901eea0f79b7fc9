"""Finds the repositories that a delivery is about, and writes what GitHub says of them.

GitHub's id is the identity. A delivery is a hint: whoever has a webhook's secret can sign any id
with any name, and deliveries come late and twice. So nothing about a repository changes before
GitHub has said so to the token of its own team.
"""

from collections.abc import Iterable
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from metrics_sync.announcing import repository_doubted
from metrics_sync.models import GitHubIntegration, Team, TrackedRepository
from metrics_sync.models.integrations import REPLICATION_LAG
from metrics_sync.snapshot import RepositoryItem
from metrics_sync.store.auditing import record_change
from metrics_sync.webhooks import Delivery


class Target(NamedTuple):
    """Whose rows a delivery may write; without a repository they are of one that nobody tracks."""

    team: Team
    repository: TrackedRepository | None


def find_targets(delivery: Delivery, integration: GitHubIntegration | None) -> list[Target]:
    """Return the teams whose rows a delivery may write, in one query; doubts what it contradicts.

    An integration's delivery concerns its own team. That of the shared endpoint concerns each
    team whose own token GitHub has shown the repository of that id. A repository that has the
    name and another id is another one. Raises ValueError when the delivery names none.
    """
    github_repo_id, name = delivery.github_repo_id, delivery.github_repo
    # Another GitHub has other repositories under the same names and ids.
    api_url = integration.api_url if integration else ""
    rows = TrackedRepository.objects.filter(integration__api_url=api_url)
    rows = rows.filter(Q(github_repo_id=github_repo_id) | Q(full_name__iexact=name))
    if integration is not None:
        rows = rows.filter(team=integration.team_id)
    targets, is_strangers = dict[int, Target](), False
    # The best comes last: what is tracked, and what is known by its id.
    by_id = F("github_repo_id").asc(nulls_first=True)
    for row in rows.select_related("team").order_by("is_active", by_id, "pk"):
        if reason := _find_contradiction(row, github_repo_id, name):
            doubt(row, reason=reason, actor=f"webhook delivery {delivery.guid}")
        if row.github_repo_id not in (None, github_repo_id):
            is_strangers = True
        elif integration is not None or _may_be_told(row, github_repo_id):
            targets[row.team_id] = Target(row.team, row)
    if integration is not None and not targets and not is_strangers:
        return [Target(integration.team, None)]
    return list(targets.values())


def _may_be_told(row: TrackedRepository, github_repo_id: int) -> bool:
    """Whether the team's own token has been shown to read the repository of this id."""
    is_shown = row.verified_at is not None and row.github_repo_id == github_repo_id
    return row.is_active and is_shown


def _find_contradiction(row: TrackedRepository, github_repo_id: int, name: str) -> str:
    """Say what of a tracked repository is not as the delivery has it; empty if nothing is."""
    if not row.is_active or row.doubted_at is not None:
        return ""
    if row.github_repo_id is None or row.verified_at is None:
        return f"a delivery names it with the id {github_repo_id}, which GitHub has not shown yet"
    if row.github_repo_id != github_repo_id:
        return f"a delivery names a repository {name} with another id, {github_repo_id}"
    if row.full_name.lower() != name.lower():
        return f"a delivery calls it {name}"
    return ""


def doubt(repository: TrackedRepository, *, reason: str, actor: str) -> None:
    """Have GitHub asked about a repository, after the commit, or else by the clock.

    Safe to repeat: while it is doubted, nothing more is written.
    """
    if repository.doubt():
        record_change(actor=actor, subject=repository, change=f"GitHub is asked: {reason}")
        transaction.on_commit(_tell_of_doubt)


def hint(rows: QuerySet[TrackedRepository]) -> None:
    """Have GitHub asked about repositories that only a delivery speaks of. One UPDATE.

    The shared endpoint tells their team nothing of them before that.
    """
    now = timezone.now()
    if rows.update(verified_at=None, doubted_at=now, verify_at=now):
        transaction.on_commit(_tell_of_doubt)


def _tell_of_doubt() -> None:
    repository_doubted.send_robust(sender=TrackedRepository)


@transaction.atomic
def confirm(repository: TrackedRepository, item: RepositoryItem, *, actor: str) -> None:
    """Write what GitHub said of a repository to its own team's token: its id and name of today.

    Safe to repeat. A doubt ends when GitHub says so after its replicas have caught up.
    """
    name = repository.full_name
    if repository.github_repo_id is None:
        _learn_id(repository, item.github_repo_id)
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


def _learn_id(repository: TrackedRepository, github_repo_id: int) -> None:
    """Keep the id of a repository that was known by its name; a former row of it steps back."""
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
    """Track a repository no more that GitHub does not show to its own team's token.

    Not at once: while a repository moves, and on a replica, it may be missing for a moment.
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

    Returns the row, and whether the team did not track it before. What the team reads it with
    from now on is this integration. GitHub is asked about another repository of that name.
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
    """Whether GitHub's answers are of this repository, by the ids that they state."""
    known = repository.github_repo_id
    return known is None or all(one in (None, known) for one in ids)
