"""Lists what teams are connected to, and ends a connection."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Prefetch

from metrics_sync.models import GitHubIntegration, IntegrationCredential, Team, TrackedRepository
from metrics_sync.store import record_change


def list_connections(team: Team | None = None) -> list[dict[str, Any]]:
    """Return each team with its integrations and their repositories; reads no secret."""
    integrations = GitHubIntegration.objects.select_related("credential", "team")
    integrations = integrations.defer("webhook_secret", "credential__access_token")
    integrations = integrations.prefetch_related("repositories").order_by("organization_slug", "pk")
    teams = Team.objects.order_by("slug").prefetch_related(Prefetch("integrations", integrations))
    if team is not None:
        teams = teams.filter(pk=team.pk)
    return [
        {
            "team": row.slug,
            "name": row.name,
            "integrations": [_describe(integration) for integration in row.integrations.all()],
        }
        for row in teams
    ]


def _describe(integration: GitHubIntegration) -> dict[str, Any]:
    credential = integration.credential
    return {
        "owner": integration.organization_slug,
        "api_url": integration.get_api_root(),
        "credential": credential.get_kind_display(),
        "is_refused": credential.revoked_at is not None,
        "follows_installation": integration.follows_installation,
        "webhook_path": integration.get_webhook_path(),
        "repositories": [
            {"full_name": row.full_name, "is_active": row.is_active}
            for row in integration.repositories.all()
        ],
    }


@dataclass(frozen=True, slots=True)
class Disconnection:
    """What was ended: the repositories, and whether the token was deleted with the last one."""

    team: Team
    repositories: Collection[str]
    is_token_deleted: bool


@transaction.atomic
def disconnect_repository(repository: TrackedRepository, *, actor: str) -> Disconnection:
    """Track one repository no more; its pull requests and their metrics stay.

    With the last one of an integration its token is deleted, too.
    """
    repository.deactivate()
    record_change(actor=actor, subject=repository, change="tracked no more")
    integration = repository.integration
    is_used = integration.repositories.active().exists() or integration.follows_installation
    is_deleted = not is_used and _delete_token(integration, actor=actor)
    return Disconnection(repository.team, [repository.full_name], is_deleted)


@transaction.atomic
def disconnect_integration(integration: GitHubIntegration, *, actor: str) -> Disconnection:
    """Track no repository of an integration any more, now or later; delete its token."""
    names = list(integration.repositories.active().values_list("full_name", flat=True))
    integration.repositories.update(is_active=False)
    GitHubIntegration.objects.filter(pk=integration.pk).update(follows_installation=False)
    change = f"disconnected; tracked no more: {', '.join(names) or 'nothing was'}"
    record_change(actor=actor, subject=integration, change=change)
    return Disconnection(integration.team, names, _delete_token(integration, actor=actor))


def _delete_token(integration: GitHubIntegration, *, actor: str) -> bool:
    """Delete the stored token, if no other integration uses it; `connect` stores a new one."""
    credential = integration.credential
    if credential.integrations.exclude(pk=integration.pk).exists():
        return False
    if credential.kind == IntegrationCredential.Kind.APP:
        # It would be renewed; GitHub forgets an installation when the App is uninstalled.
        return False
    credential.store_token("")
    credential.mark_revoked()
    record_change(actor=actor, subject=credential, change="access token deleted")
    return True
