"""How a team reaches GitHub: a credential, an integration, and the repositories it tracks."""

import secrets
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.functions import Greatest, Least
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

#: How many requests a conversation sets aside at a time: what an ordinary pull request needs.
LEASE_SIZE = 10
#: With so many more left nobody has to count together: it is what 100 workers have under way.
PLENTY = 1000
#: For how long a new window is taken for a full one before GitHub has said when it ends.
UNSTATED_WINDOW = timedelta(seconds=15)


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
    rate_limit_leased = models.PositiveIntegerField(
        default=0, help_text="Requests left that are set aside for fetches that run now."
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
    def is_careful(self) -> bool:
        """Whether GitHub complained of too much at once within the last hour."""
        since = timezone.now() - SECONDARY_LIMIT_MEMORY
        return self.secondary_limited_at is not None and self.secondary_limited_at > since

    @property
    def lease_size(self) -> int:
        """How many requests are set aside at a time: a fifth of a limit that is small."""
        return min(LEASE_SIZE, max((self.rate_limit or 0) // 5, 1))

    def has_plenty(self, *, is_bulk: bool) -> bool:
        """Whether so much is left that nothing has to be set aside, and no row to be written."""
        remaining, resets_at = self.rate_limit_remaining, self.rate_limit_resets_at
        if remaining is None or resets_at is None or resets_at <= timezone.now():
            return False
        return remaining - self.rate_limit_leased > PLENTY + (self.reserve if is_bulk else 0)

    def find_pause(self, *, is_bulk: bool = False) -> datetime | None:
        """Return until when nothing may be asked with this token; None if it may be now.

        Bulk work pauses already when only the reserve for merges is left.
        """
        now, until = timezone.now(), self.wait_until
        if self.rate_limit_remaining is not None and self.rate_limit_resets_at is not None:
            needed = self.lease_size + (self.reserve if is_bulk else 0)
            if self.rate_limit_remaining - self.rate_limit_leased < needed:
                until = max(until or now, self.rate_limit_resets_at)
        return until if until is not None and until > now else None

    def lease_requests(self, *, is_bulk: bool = False) -> bool:
        """Set aside `lease_size` requests of the budget for one conversation; False if too few
        are left, or only the reserve for merges when `is_bulk`.

        One UPDATE, at once, so that all workers together send no more than GitHub said is left.
        When the window has ended, a new one is taken for full until GitHub says what is left.
        """
        rows, now = type(self).objects.filter(pk=self.pk), timezone.now()
        if self.rate_limit_resets_at is None or self.rate_limit_resets_at <= now:
            rows.filter(rate_limit_resets_at__lte=now).update(
                rate_limit_remaining=models.F("rate_limit"),
                rate_limit_leased=0,
                rate_limit_resets_at=now + UNSTATED_WINDOW,
            )
            self._reload_budget()
        kept = self.reserve if is_bulk else 0
        enough = models.F("rate_limit_leased") + self.lease_size + kept
        leased = rows.filter(rate_limit_remaining__gte=enough).update(
            rate_limit_leased=models.F("rate_limit_leased") + self.lease_size
        )
        if not leased:
            self._reload_budget()
        return bool(leased)

    def settle_lease(self, requests: int, *, stated: RateLimit | None) -> None:
        """Give back requests that were set aside, and share what GitHub said of the budget last.

        One UPDATE, at once. Of what is stated for one window the least counts, as answers
        overtake each other; what is stated of a window that has ended counts for nothing.
        """
        now, leased = timezone.now(), Greatest(models.F("rate_limit_leased") - requests, 0)
        changes: dict[str, Any] = {"rate_limit_leased": leased}
        if stated is not None and stated.resets_at > now:
            known = models.Q(rate_limit_resets_at=stated.resets_at)
            ended = models.Q(rate_limit_resets_at__lte=now)
            least = Least(models.F("rate_limit_remaining"), stated.remaining)
            changes = {
                "rate_limit": stated.limit,
                "rate_limit_remaining": models.Case(
                    models.When(known, then=least), default=stated.remaining
                ),
                "rate_limit_leased": models.Case(models.When(ended, then=0), default=leased),
                "rate_limit_resets_at": stated.resets_at,
            }
            self.rate_limit, self.rate_limit_remaining = stated.limit, stated.remaining
            self.rate_limit_resets_at = stated.resets_at
        type(self).objects.filter(pk=self.pk).update(**changes)

    def _reload_budget(self) -> None:
        names = ("limit", "limit_remaining", "limit_leased", "limit_resets_at")
        self.refresh_from_db(fields=["wait_until", *(f"rate_{name}" for name in names)])

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

    @transaction.atomic
    def mark_revoked(self, *, token: str | None = None) -> None:
        """Note that GitHub refuses the token; the first time stays.

        `token` is the one that was refused: if another one was stored meanwhile, nothing is noted.
        Without it whatever is stored is refused, as when an installation is suspended.
        """
        row = type(self).objects.select_for_update().defer("access_token").get(pk=self.pk)
        if row.revoked_at is None and (token is None or token == row.access_token):
            self._note(revoked_at=timezone.now())
        else:
            self.revoked_at = row.revoked_at

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
            rate_limit_leased=0,
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
        # Of a repository that had the new name before, and is no more.
        numbers = list(rows.values_list("github_pr_number", flat=True))
        known.filter(github_pr_number__in=numbers).update(github_pr_number=None)
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
