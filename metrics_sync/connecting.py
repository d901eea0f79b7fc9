"""Connects a team to a repository: everything a webhook needs to find its rows and its token."""

import asyncio
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.db import transaction

from metrics_sync.access import Access
from metrics_sync.exceptions import GoneError, NarrowTokenError, PermissionMissingError
from metrics_sync.github import GitHub, fetch_repository
from metrics_sync.models import GitHubIntegration, IntegrationCredential, Team, TrackedRepository
from metrics_sync.snapshot import RepositoryItem


@dataclass(frozen=True, slots=True)
class Connection:
    """What `connect` made or found."""

    repository: TrackedRepository
    integration: GitHubIntegration
    is_new: bool


def check_access(full_name: str, *, token: str, api_url: str) -> RepositoryItem:
    """Ask GitHub for the repository with the token. Raises GitHubError saying what is wrong."""
    access = Access(api_url=api_url, token=token)
    return access.ask(partial(fetch_repository, full_name=full_name))


def check_others(item: RepositoryItem, *, team_slug: str, token: str, api_url: str) -> None:
    """Refuse a token that cannot read the other repositories that would depend on it.

    All repositories of one owner in a team share their token. One request for each. Raises
    NarrowTokenError that names them, or another GitHubError.
    """
    integration = _find_integration(item, team_slug=team_slug, api_url=api_url)
    if integration is None:
        return
    others = integration.repositories.active().exclude(full_name__iexact=item.full_name)
    names = list(others.values_list("full_name", flat=True))
    unreadable = Access(api_url=api_url, token=token).ask(partial(_list_unreadable, names))
    if unreadable:
        raise NarrowTokenError(
            f"the team's other repositories of this owner share the token, and it cannot read "
            f"{', '.join(unreadable)}; let it, or deactivate them in the admin"
        )


async def _list_unreadable(names: list[str], github: GitHub) -> list[str]:
    asked = (fetch_repository(github, name) for name in names)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    unreadable = []
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, GoneError | PermissionMissingError):
            unreadable.append(name)
        elif isinstance(answer, BaseException):
            raise answer
    return unreadable


def _find_integration(
    item: RepositoryItem, *, team_slug: str, api_url: str
) -> GitHubIntegration | None:
    """Return the integration of a repository's owner in a team, without the stored token."""
    rows = GitHubIntegration.objects.select_related("credential").defer("credential__access_token")
    own_url = "" if api_url == settings.GITHUB_API_URL else api_url
    owner = item.full_name.partition("/")[0]
    rows = rows.filter(team__slug=team_slug, api_url=own_url, organization_slug__iexact=owner)
    return rows.first()


@transaction.atomic
def save_connection(
    item: RepositoryItem, *, team_slug: str, token: str, api_url: str
) -> Connection:
    """Write team, credential, integration and tracked repository; keep those that exist.

    Safe to repeat: a new token replaces the old one and releases what waited for it. An
    integration is shared by all repositories of one owner in a team.
    """
    team, _ = Team.objects.get_or_create(slug=team_slug, defaults={"name": team_slug})
    integration = _find_integration(item, team_slug=team_slug, api_url=api_url)
    if integration is None:
        credential = IntegrationCredential.objects.create(team=team, access_token=token)
        integration = GitHubIntegration.objects.create(
            team=team,
            credential=credential,
            organization_slug=item.full_name.partition("/")[0],
            api_url="" if api_url == settings.GITHUB_API_URL else api_url,
        )
    else:
        integration.credential.store_token(token)
    for known in team.repositories.filter(github_repo_id=item.github_repo_id):
        known.rename(item.full_name)
    repository, is_new = TrackedRepository.objects.update_or_create(
        team=team,
        full_name=item.full_name,
        defaults={
            "integration": integration,
            "github_repo_id": item.github_repo_id,
            "is_active": True,
        },
    )
    return Connection(repository, integration, is_new)
