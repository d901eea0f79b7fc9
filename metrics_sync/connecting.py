"""Connects a team to a repository: everything a webhook needs to find its rows and its token."""

from dataclasses import dataclass
from functools import partial

from django.conf import settings
from django.db import transaction

from metrics_sync.access import Access
from metrics_sync.github import fetch_repository
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


@transaction.atomic
def save_connection(
    item: RepositoryItem, *, team_slug: str, token: str, api_url: str
) -> Connection:
    """Write team, credential, integration and tracked repository; keep those that exist.

    Safe to repeat: a new token replaces the old one and releases what waited for it. An
    integration is shared by all repositories of one owner in a team.
    """
    team, _ = Team.objects.get_or_create(slug=team_slug, defaults={"name": team_slug})
    owner = item.full_name.split("/")[0]
    own_url = "" if api_url == settings.GITHUB_API_URL else api_url
    integration = (
        team.integrations.filter(organization_slug__iexact=owner, api_url=own_url)
        .select_related("credential")
        .defer("credential__access_token")
        .first()
    )
    if integration is None:
        credential = IntegrationCredential.objects.create(team=team, access_token=token)
        integration = GitHubIntegration.objects.create(
            team=team, credential=credential, organization_slug=owner, api_url=own_url
        )
    else:
        integration.credential.store_token(token)
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
