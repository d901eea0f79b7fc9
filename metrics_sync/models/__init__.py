"""What is stored, and how one row changes state."""

from metrics_sync.models.api_tokens import ApiToken
from metrics_sync.models.budgets import RequestLease
from metrics_sync.models.children import (
    Commit,
    PRCheckRun,
    PRComment,
    PRCommitStatus,
    PRFile,
    PRReview,
    PRTimelineEvent,
)
from metrics_sync.models.integrations import (
    GitHubIntegration,
    IntegrationCredential,
    TrackedRepository,
)
from metrics_sync.models.notices import Notice
from metrics_sync.models.pull_request import PullRequest
from metrics_sync.models.records import AuditEntry, FetchRun, WebhookDelivery
from metrics_sync.models.teams import Team, TeamMember

__all__ = [
    "ApiToken",
    "AuditEntry",
    "Commit",
    "FetchRun",
    "GitHubIntegration",
    "IntegrationCredential",
    "Notice",
    "PRCheckRun",
    "PRComment",
    "PRCommitStatus",
    "PRFile",
    "PRReview",
    "PRTimelineEvent",
    "PullRequest",
    "RequestLease",
    "Team",
    "TeamMember",
    "TrackedRepository",
    "WebhookDelivery",
]
