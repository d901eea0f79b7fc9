"""How a team reaches GitHub: a credential, an integration, and the repositories it tracks."""

import secrets
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from metrics_sync.fields import EncryptedTextField
from metrics_sync.models.teams import Team
from metrics_sync.snapshot import RateLimit

if TYPE_CHECKING:
    from metrics_sync.models.pull_request import PullRequest

#: GitHub's own rules are narrower; this keeps out spaces, missing parts and whole URLs.
validate_full_name = RegexValidator(
    r"\A[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+\Z", "Write the repository as OWNER/NAME."
)

#: For how long a secondary limit makes us ask less at once, and wait longer for the next.
SECONDARY_LIMIT_MEMORY = timedelta(hours=1)
LONGEST_SECONDARY_PAUSE = timedelta(minutes=15)


def make_webhook_secret() -> str:
    """Return 256 random bits as text, for a webhook of one integration."""
    return secrets.token_urlsafe(32)


class IntegrationCredential(models.Model):
    """What GitHub accepts as us for one team."""

    class Kind(models.TextChoices):
        #: A personal access token (classic or fine-grained).
        TOKEN = "token", "personal access token"
        #: An installation of a GitHub App; its short-lived token is kept here.
        APP = "app", "GitHub App installation"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="credentials")
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.TOKEN)
    access_token = EncryptedTextField(blank=True)
    installation_id = models.BigIntegerField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(
        null=True, blank=True, help_text="When GitHub first refused this token."
    )

    rate_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests an hour, as GitHub said last."
    )
    rate_limit_remaining = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests left, as GitHub said last."
    )
    rate_limit_resets_at = models.DateTimeField(null=True, blank=True)
    wait_until = models.DateTimeField(
        null=True, blank=True, help_text="GitHub asked us to send nothing before this."
    )
    secondary_limits = models.PositiveSmallIntegerField(
        default=0, help_text="How often in a row GitHub complained of too much at once."
    )
    secondary_limited_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "credential"

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.team}"

    @property
    def reserve(self) -> int:
        """How many requests are kept for merges: a fifth of a limit that is small."""
        reserve: int = settings.RATE_LIMIT_RESERVE
        return reserve if self.rate_limit is None else min(reserve, self.rate_limit // 5)

    @property
    def budget(self) -> RateLimit | None:
        """What GitHub said last of this token's budget; None if it said nothing yet."""
        limit, remaining = self.rate_limit, self.rate_limit_remaining
        if limit is None or remaining is None or self.rate_limit_resets_at is None:
            return None
        return RateLimit(limit, remaining, self.rate_limit_resets_at)

    @property
    def is_careful(self) -> bool:
        """Whether GitHub complained of too much at once within the last hour."""
        since = timezone.now() - SECONDARY_LIMIT_MEMORY
        return self.secondary_limited_at is not None and self.secondary_limited_at > since

    def find_pause(self, *, is_bulk: bool = False) -> datetime | None:
        """Return until when nothing may be asked with this token; None if it may be now.

        Bulk work pauses already when only the reserve for merges is left.
        """
        now, until = timezone.now(), self.wait_until
        is_scarce = self.rate_limit_remaining is not None and (
            self.rate_limit_remaining < (self.reserve if is_bulk else 1)
        )
        if is_scarce and self.rate_limit_resets_at is not None:
            until = max(until or now, self.rate_limit_resets_at)
        return until if until is not None and until > now else None

    def note_rate_limit(self, rate_limit: RateLimit | None) -> None:
        """Share with all workers what GitHub said of this token's budget; one UPDATE, at once."""
        if rate_limit is not None:
            self._note(
                rate_limit=rate_limit.limit,
                rate_limit_remaining=rate_limit.remaining,
                rate_limit_resets_at=rate_limit.resets_at,
            )

    def note_pause(self, *, until: datetime, is_secondary: bool) -> None:
        """Let nobody ask with this token before then; one UPDATE, at once.

        A secondary limit pauses twice as long each time that it comes again within an hour.
        """
        if not is_secondary:
            self._note(wait_until=until)
            return
        now = timezone.now()
        count = self.secondary_limits + 1 if self.is_careful else 1
        pause = min((until - now) * (1 << min(count - 1, 6)), LONGEST_SECONDARY_PAUSE)
        self._note(
            wait_until=max(until, now + pause), secondary_limits=count, secondary_limited_at=now
        )

    def _note(self, **fields: Any) -> None:
        type(self).objects.filter(pk=self.pk).update(**fields)
        for name, value in fields.items():
            setattr(self, name, value)

    def mark_revoked(self) -> None:
        """Note that GitHub refuses the token; the first time stays. One UPDATE, at once."""
        now = timezone.now()
        type(self).objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=now)
        self.revoked_at = self.revoked_at or now

    def mark_accepted(self) -> None:
        """Note that GitHub takes the token again. One UPDATE, at once."""
        self._note(revoked_at=None)

    def store_token(self, token: str) -> None:
        """Replace the token, and forget that an older one was refused or had to wait."""
        self._note(
            access_token=token,
            revoked_at=None,
            wait_until=None,
            rate_limit=None,
            rate_limit_remaining=None,
            rate_limit_resets_at=None,
            secondary_limited_at=None,
        )


class GitHubIntegration(models.Model):
    """One connection of a team to one GitHub, with its own webhook address and secret."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="integrations")
    credential = models.ForeignKey(
        IntegrationCredential, on_delete=models.RESTRICT, related_name="integrations"
    )
    organization_slug = models.CharField(max_length=255)
    api_url = models.URLField(
        blank=True,
        help_text="Only for GitHub Enterprise: https://HOST/api/v3. Empty: GITHUB_API_URL.",
    )
    webhook_secret = EncryptedTextField(default=make_webhook_secret)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        ordering = ["organization_slug"]
        verbose_name = "integration"
        constraints = [
            models.UniqueConstraint(
                fields=["team", "organization_slug", "api_url"], name="unique_integration"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization_slug} for {self.team}"

    def get_api_root(self) -> str:
        """Return the URL in front of every API path, without a slash at the end."""
        return (self.api_url or settings.GITHUB_API_URL).rstrip("/")

    def get_webhook_path(self) -> str:
        return reverse("metrics_sync:webhook-integration", args=[self.uuid])


class TrackedRepositoryQuerySet(models.QuerySet["TrackedRepository"]):
    def active(self) -> Self:
        return self.filter(is_active=True)

    def named(self, full_name: str) -> Self:
        """Keep those of that name; GitHub's names ignore case."""
        return self.filter(full_name__iexact=full_name)

    def matching(self, pull_request: "PullRequest") -> Self:
        """Keep the active ones, at most one, that a pull request belongs to."""
        return self.active().filter(team=pull_request.team_id).named(pull_request.github_repo)


class TrackedRepository(models.Model):
    """A repository whose merged pull requests a team wants to have."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="repositories")
    integration = models.ForeignKey(
        GitHubIntegration, on_delete=models.CASCADE, related_name="repositories"
    )
    github_repo_id = models.BigIntegerField(null=True, blank=True)
    full_name = models.CharField(max_length=255, validators=[validate_full_name])
    is_active = models.BooleanField(default=True)
    discovered_until = models.DateTimeField(
        null=True, blank=True, help_text="Merges up to then were looked for at GitHub."
    )

    objects = TrackedRepositoryQuerySet.as_manager()

    class Meta:
        ordering = ["full_name"]
        verbose_name_plural = "tracked repositories"
        constraints = [
            models.UniqueConstraint(fields=["team", "full_name"], name="unique_tracked_repository")
        ]

    def __str__(self) -> str:
        return self.full_name

    @transaction.atomic
    def rename(self, full_name: str) -> None:
        """Follow the repository, and its pull requests with it, to its new name.

        Safe to repeat. Where the team tracks the new name already, that row stays and this one
        is tracked no more; of a pull request under both names the one of the new name stays.
        """
        if full_name == self.full_name:
            return
        rows = self.team.pull_requests.filter(github_repo__iexact=self.full_name)
        rows = rows.exclude(github_repo=full_name)
        known = self.team.pull_requests.filter(github_repo=full_name)
        rows.filter(github_pr_id__in=list(known.values_list("github_pr_id", flat=True))).delete()
        rows.update(github_repo=full_name)
        if self.team.repositories.named(full_name).exclude(pk=self.pk).exists():
            self.deactivate()
            return
        self.full_name = full_name
        self.save(update_fields=["full_name"])

    def deactivate(self) -> None:
        """Track it no more; its pull requests stay."""
        self.is_active = False
        self.save(update_fields=["is_active"])
