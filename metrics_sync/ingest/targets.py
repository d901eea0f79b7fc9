"""Finds the repositories that a delivery is about, and so the teams whose rows it may write."""

from typing import NamedTuple

from django.db.models import F, Q

from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, Team, TrackedRepository
from metrics_sync.store import doubt


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
