"""Makes rows for the tests: a test names the values it is about, a factory makes the others."""

from datetime import UTC, datetime
from typing import Any

import factory
from django.contrib.auth import get_user_model
from factory.django import DjangoModelFactory

from metrics_sync import models
from metrics_sync.sandbox.shapes import make_id

MERGED_AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class UserFactory(DjangoModelFactory):
    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda n: f"user-{n}")
    is_staff = True


class TeamFactory(DjangoModelFactory):
    class Meta:
        model = models.Team
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Team {n}")
    slug = factory.Sequence(lambda n: f"team-{n}")

    @factory.post_generation
    def members(self, create: bool, extracted: Any, **kwargs: Any) -> None:
        if extracted:
            self.members.set(extracted)


class TeamMemberFactory(DjangoModelFactory):
    class Meta:
        model = models.TeamMember

    team = factory.SubFactory(TeamFactory)
    github_id = factory.Sequence(lambda n: 9_000_000_000 + n)
    login = factory.Sequence(lambda n: f"octocat-{n}")


class ApiTokenFactory(DjangoModelFactory):
    """The row has its token, which is not stored, as `row.token`."""

    class Meta:
        model = models.ApiToken

    team = factory.SubFactory(TeamFactory)
    name = factory.Sequence(lambda n: f"charts {n}")

    @classmethod
    def _create(cls, model_class: type[models.ApiToken], *args: Any, **values: Any) -> Any:
        row = model_class(**values)
        row.draw_token()
        row.save()
        return row


class IntegrationCredentialFactory(DjangoModelFactory):
    class Meta:
        model = models.IntegrationCredential

    team = factory.SubFactory(TeamFactory)
    access_token = "sandbox-token"


class GitHubIntegrationFactory(DjangoModelFactory):
    class Meta:
        model = models.GitHubIntegration

    team = factory.SubFactory(TeamFactory)
    api_url = ""
    credential = factory.SubFactory(
        IntegrationCredentialFactory,
        team=factory.SelfAttribute("..team"),
        api_url=factory.SelfAttribute("..api_url"),
    )
    organization_slug = "acme"
    webhook_secret = factory.Sequence(lambda n: f"webhook-secret-{n}")


def move_to_github(integration: models.GitHubIntegration, api_url: str) -> None:
    """Move an integration to another GitHub, with a new credential of the same token."""
    token = integration.credential.access_token
    integration.credential = IntegrationCredentialFactory(
        team=integration.team, access_token=token, api_url=api_url
    )
    integration.api_url = api_url
    integration.save()


class TrackedRepositoryFactory(DjangoModelFactory):
    class Meta:
        model = models.TrackedRepository

    team = factory.SubFactory(TeamFactory)
    integration = factory.SubFactory(GitHubIntegrationFactory, team=factory.SelfAttribute("..team"))
    full_name = factory.Sequence(lambda n: f"acme/repository-{n}")
    #: The id that the sandbox gives it, verified as `connect` does.
    github_repo_id = factory.LazyAttribute(lambda row: make_id(row.full_name, start=100_000))
    verified_at = MERGED_AT
    verify_at = None


class PullRequestFactory(DjangoModelFactory):
    class Meta:
        model = models.PullRequest

    team = factory.SubFactory(TeamFactory)
    github_repo = "acme/anvil"
    github_pr_id = factory.Sequence(lambda n: 5_000_000_000 + n)
    github_pr_number = factory.Sequence(lambda n: n + 1)
    title = "Make it heavier"

    class Params:
        merged = factory.Trait(state="merged", merged_at=MERGED_AT, sync_status="pending")


class FetchRunFactory(DjangoModelFactory):
    class Meta:
        model = models.FetchRun

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)


class WebhookDeliveryFactory(DjangoModelFactory):
    class Meta:
        model = models.WebhookDelivery

    endpoint = models.WebhookDelivery.SHARED_ENDPOINT
    guid = factory.Sequence(lambda n: f"guid-{n}")
    event = "pull_request"


class AuditEntryFactory(DjangoModelFactory):
    class Meta:
        model = models.AuditEntry

    actor = "user mona (id 1)"
    subject = "integration acme (1)"
    change = "deleted"


class TeamGoalFactory(DjangoModelFactory):
    class Meta:
        model = models.TeamGoal

    team = factory.SubFactory(TeamFactory)
    metric = "cycle_time_hours"
    value = 24


class WeeklyDigestFactory(DjangoModelFactory):
    class Meta:
        model = models.WeeklyDigest

    team = factory.SubFactory(TeamFactory)
    user = factory.SubFactory(UserFactory)


class CommitFactory(DjangoModelFactory):
    class Meta:
        model = models.Commit

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    github_sha = factory.Sequence(lambda n: f"{n:040x}")


class PRFileFactory(DjangoModelFactory):
    class Meta:
        model = models.PRFile

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    filename = factory.Sequence(lambda n: f"src/anvil_{n}.py")
    status = "added"
    additions = changes = 1
    deletions = 0


class PRCheckRunFactory(DjangoModelFactory):
    class Meta:
        model = models.PRCheckRun

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    github_check_run_id = factory.Sequence(lambda n: 7_000_000_000 + n)
    name = "tests"
    status = "completed"


class PRCommentFactory(DjangoModelFactory):
    class Meta:
        model = models.PRComment

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    github_comment_id = factory.Sequence(lambda n: 6_000_000_000 + n)
    comment_type = "issue"
    created_at = updated_at = MERGED_AT


class PRReviewFactory(DjangoModelFactory):
    class Meta:
        model = models.PRReview

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    github_review_id = factory.Sequence(lambda n: 8_000_000_000 + n)
    state = "approved"


class PRTimelineEventFactory(DjangoModelFactory):
    class Meta:
        model = models.PRTimelineEvent

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    github_event_id = factory.Sequence(lambda n: 20_000_000_000 + n)
    event = "ready_for_review"
    created_at = MERGED_AT


class PRCommitStatusFactory(DjangoModelFactory):
    class Meta:
        model = models.PRCommitStatus

    team = factory.SelfAttribute("pull_request.team")
    pull_request = factory.SubFactory(PullRequestFactory)
    github_status_id = factory.Sequence(lambda n: 30_000_000_000 + n)
    context = "ci/anvil"
    state = "success"
    created_at = updated_at = MERGED_AT
