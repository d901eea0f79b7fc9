"""The stored rows, and how one row changes state."""

from metrics_sync.models.api_tokens import ApiToken
from metrics_sync.models.children import (
    Commit,
    PRCheckRun,
    PRComment,
    PRCommitStatus,
    PRFile,
    PRReview,
    PRTimelineEvent,
)
from metrics_sync.models.credentials import IntegrationCredential
from metrics_sync.models.digests import WeeklyDigest
from metrics_sync.models.goals import TeamGoal
from metrics_sync.models.integrations import GitHubIntegration
from metrics_sync.models.notices import Notice
from metrics_sync.models.pull_request import PullRequest
from metrics_sync.models.records import AuditEntry, FetchRun, WebhookDelivery
from metrics_sync.models.repositories import TrackedRepository
from metrics_sync.models.teams import Team, TeamMember
