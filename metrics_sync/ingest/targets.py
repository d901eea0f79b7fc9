"""Finds the repositories that a delivery is about, and so the teams whose rows it may write."""

from typing import NamedTuple

from django.db.models import BigIntegerField, CharField, Q, QuerySet
from django.db.models.functions import Upper

from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, Team, TrackedRepository
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.store import doubt


class Target(NamedTuple):
    """A team whose rows a delivery may write, and its repository; None if it tracks none."""

    team: Team
    repository: TrackedRepository | None


def _list_repositories() -> QuerySet[TrackedRepository]:
    """Keep the repositories of one GitHub server that have an id or a name."""
    # Another GitHub server has other repositories with the same names and ids.
    rows = TrackedRepository.objects.filter(integration__api_url=Slot("api_url", CharField()))
    name = Q(name=Upper(Slot("name", CharField())))
    rows = rows.alias(name=Upper("full_name")).filter(
        Q(github_repo_id=Slot("github_repo_id", BigIntegerField())) | name
    )
    return rows.select_related("team").order_by()


_of_all_teams = Prepared(_list_repositories)
_of_one_team = Prepared(
    lambda: _list_repositories().filter(team=Slot("team_id", BigIntegerField()))
)


def find_targets(delivery: Delivery, integration: GitHubIntegration | None) -> list[Target]:
    """Return the teams whose rows a delivery may write, in one query; by key, the lowest first.

    The order is fixed, so that two deliveries never wait for each other's rows.

    A delivery of an integration concerns its own team. A delivery of the shared endpoint concerns
    each team whose own token has read the repository with that id. A repository with the same
    name and another id is another repository. Tracked repositories that the delivery contradicts
    are marked for verification. Raises ValueError if the delivery names no repository.
    """
    github_repo_id, name = delivery.github_repo_id, delivery.github_repo
    about = {"github_repo_id": github_repo_id, "name": name}
    if integration is None:
        rows = _of_all_teams.run(api_url="", **about)
    else:
        rows = _of_one_team.run(api_url=integration.api_url, team_id=integration.team_id, **about)
    targets, is_strangers = dict[int, Target](), False
    # The last row of a team wins: tracked ones, and those with an id, come last.
    for row in sorted(rows, key=_rank):
        if reason := _find_contradiction(row, github_repo_id, name):
            doubt(row, reason=reason, actor=f"webhook delivery {delivery.guid}")
        if row.github_repo_id not in (None, github_repo_id):
            is_strangers = True
        elif integration is not None or _may_be_told(row, github_repo_id):
            targets[row.team_id] = Target(row.team, row)
    if integration is not None and not targets and not is_strangers:
        return [Target(integration.team, None)]
    return [targets[pk] for pk in sorted(targets)]


def _rank(row: TrackedRepository) -> tuple[bool, int, int]:
    return row.is_active, row.github_repo_id or 0, row.pk


def _may_be_told(row: TrackedRepository, github_repo_id: int) -> bool:
    """Whether the team's own token is known to read the repository with this id."""
    is_shown = row.verified_at is not None and row.github_repo_id == github_repo_id
    return row.is_active and is_shown


def _find_contradiction(row: TrackedRepository, github_repo_id: int, name: str) -> str:
    """Say where the delivery contradicts a tracked repository; empty if it does not."""
    if not row.is_active or row.doubted_at is not None:
        return ""
    if row.github_repo_id is None or row.verified_at is None:
        return f"a delivery names it with the id {github_repo_id}, which GitHub has not shown yet"
    if row.github_repo_id != github_repo_id:
        return f"a delivery names a repository {name} with another id, {github_repo_id}"
    if row.full_name.lower() != name.lower():
        return f"a delivery calls it {name}"
    return ""
