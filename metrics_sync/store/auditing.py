"""Writes the audit log: who changed what may be seen by whom."""

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
    """Note one change, in the transaction of the change itself; without a change nothing.

    `change` says it in words and never holds a secret, encrypted or not.
    """
    if not change:
        return
    team = subject if isinstance(subject, Team) else subject.team
    name = f"{subject._meta.verbose_name} {subject} ({subject.pk})"  # noqa: SLF001  (public API)
    AuditEntry.objects.create(actor=actor[:255], team=team, subject=name[:255], change=change)
