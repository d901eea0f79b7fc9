"""Writes the audit log: who changed who may see what."""

from metrics_sync.models import (
    ApiToken,
    AuditEntry,
    GitHubIntegration,
    IntegrationCredential,
    Team,
    TrackedRepository,
)

Audited = Team | IntegrationCredential | GitHubIntegration | TrackedRepository | ApiToken


def record_change(*, actor: str, subject: Audited, change: str) -> None:
    """Record one change, in the transaction of the change itself; an empty one is not recorded.

    `change` describes it in words and never holds a secret, encrypted or not.
    """
    if not change:
        return
    team = subject if isinstance(subject, Team) else subject.team
    name = f"{subject._meta.verbose_name} {subject} ({subject.pk})"  # noqa: SLF001  (public API)
    AuditEntry.objects.create(actor=actor[:255], team=team, subject=name[:255], change=change)
