"""Finds the repository that somebody names by hand, and finds or makes a pull request's row."""

import os
from dataclasses import replace
from functools import partial

from django.db import transaction

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.api_roots import serves_host
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import AmbiguousTeamError, NameReusedError
from metrics_sync.github import fetch_pull_request
from metrics_sync.models import PullRequest, Team, TrackedRepository
from metrics_sync.names import Address

#: Whose rows pull requests of untracked repositories become.
LOCAL_TEAM = "local"


def find_access(address: Address, *, team_slug: str = "") -> tuple[Team, Access]:
    """Return the team and the access for a repository.

    Without a tracked repository: the team `local`, made if needed, with GITHUB_TOKEN or no
    token. Raises AmbiguousTeamError when several teams track it, or the named one does not;
    DecryptionError when its token cannot be read.
    """
    repository = _find_tracked(address, team_slug=team_slug)
    if repository is not None:
        return repository.team, Access.of(repository, is_bulk=False)
    is_local = not team_slug or team_slug.lower() == LOCAL_TEAM
    if not is_local or not serves_host(app_settings.GITHUB_API_URL, address.host):
        raise _make_untracked_error(address, team_slug=team_slug)
    team, _ = Team.objects.get_or_create(slug=LOCAL_TEAM, defaults={"name": "Local"})
    token = os.environ.get("GITHUB_TOKEN", "").strip()
    return team, Access(api_url=app_settings.GITHUB_API_URL, token=token)


def find_repository(address: Address, *, team_slug: str = "") -> TrackedRepository:
    """Return the active tracked repository of that address.

    Raises AmbiguousTeamError, whose text names the teams, if there is not exactly one.
    """
    repository = _find_tracked(address, team_slug=team_slug)
    if repository is None:
        raise _make_untracked_error(address, team_slug=team_slug)
    return repository


def _find_tracked(address: Address, *, team_slug: str) -> TrackedRepository | None:
    repositories = TrackedRepository.objects.active().named(address.full_name)
    if team_slug:
        repositories = repositories.filter(team__slug__iexact=team_slug)
    found = [
        row
        for row in repositories.with_credentials().order_by("team__slug", "pk")
        if serves_host(row.integration.get_api_root(), address.host)
    ]
    # Of two in one team that changed names, one is doubted until GitHub is asked.
    found = [row for row in found if row.doubted_at is None] or found
    if len(found) > 1:
        slugs = ", ".join(row.team.slug for row in found)
        raise AmbiguousTeamError(
            f"Several teams track {address.full_name}: {slugs}. Name one with --team."
        )
    return found[0] if found else None


def _make_untracked_error(address: Address, *, team_slug: str) -> AmbiguousTeamError:
    who = f"The team {team_slug} does not track" if team_slug else "No team tracks"
    place = f" at {address.host}" if address.host else ""
    return AmbiguousTeamError(
        f"{who} {address.full_name}{place}. `manage.py connect` adds a repository, "
        "`manage.py connect --list` shows those that are tracked."
    )


def get_pull_request(
    team: Team, access: Access, full_name: str, number: int
) -> tuple[PullRequest, int]:
    """Return the team's row, and how many requests it took to find it.

    GitHub is asked, once, for one that we do not have. Its row is written past the signal, as
    the caller is about to fetch it; it has no lists yet. Raises GitHubError when GitHub does not
    have it either.
    """
    rows = PullRequest.objects.filter(team=team)
    row = rows.in_repositories([full_name]).filter(github_pr_number=number).first()
    if row is not None:
        return row, 0
    item = access.ask(partial(fetch_pull_request, full_name=full_name, number=number))
    repository = team.repositories.active().first_named(full_name)
    if repository is not None and not store.is_own(repository, [item.base_repo_id]):
        store.doubt(repository, reason=f"{full_name} is another repository now", actor="fetch_pr")
        raise NameReusedError(f"{full_name} is another repository now; GitHub is asked for ours")
    item = replace(item, github_repo=item.base_repo or full_name)
    with transaction.atomic():
        if repository is not None:
            repository.rename(item.github_repo)
        if item.merged_at:
            store.save_missed_merges(team, [item], repository=repository)
        else:
            save = partial(store.save_pull_request, team, item, repository=repository)
            store.run_transaction(save)
        row = rows.in_repositories([item.github_repo]).get(github_pr_id=item.github_pr_id)
        if row.github_pr_number is None:
            store.save_number(row, number)
    return row, 1
