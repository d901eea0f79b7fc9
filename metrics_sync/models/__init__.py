"""The stored rows, and how one row changes state."""

from metrics_sync.models.api_token import ApiToken
from metrics_sync.models.children import (
    Commit,
    PRCheckRun,
    PRComment,
    PRCommitStatus,
    PRFile,
    PRReview,
    PRTimelineEvent,
)
from metrics_sync.models.credential import IntegrationCredential
from metrics_sync.models.digest import WeeklyDigest
from metrics_sync.models.goal import TeamGoal
from metrics_sync.models.integration import GitHubIntegration
from metrics_sync.models.notice import Notice
from metrics_sync.models.pull_request import PullRequest
from metrics_sync.models.records import AuditEntry, FetchRun, WebhookDelivery
from metrics_sync.models.repository import TrackedRepository
from metrics_sync.models.team import Team, TeamMember
