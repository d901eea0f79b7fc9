"""How a team reaches GitHub: a credential, an integration, and the repositories it tracks."""

import secrets
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.urls import reverse
from django.utils import timezone

from metrics_sync.api_roots import find_fault
from metrics_sync.fields import EncryptedTextField
from metrics_sync.models.budgets import NOTHING_SAID, TokenBudget
from metrics_sync.models.teams import Team

if TYPE_CHECKING:
    from metrics_sync.models.pull_request import PullRequest

#: GitHub's own rules are narrower; this keeps out spaces, missing parts and whole URLs.
validate_full_name = RegexValidator(
    r"\A[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+\Z", "Write the repository as OWNER/NAME."
)


#: For how long one worker may take to renew the token of an installation before another tries.
RENEWAL_CLAIM = timedelta(seconds=45)


def validate_api_root(url: str) -> None:
    """Refuse an address that no token may be sent to. Raises ValidationError."""
    if fault := find_fault(url, is_development=settings.DEBUG):
        raise ValidationError(f"This is no API root: {fault}.", code="api_root")


def make_webhook_secret() -> str:
    """Return 256 random bits as text, for a webhook of one integration."""
    return secrets.token_urlsafe(32)


class IntegrationCredential(TokenBudget):
    """What GitHub accepts as us for one team."""

    class Kind(models.TextChoices):
        #: A personal access token (classic or fine-grained).
        TOKEN = "token", "personal access token"
        #: An installation of a GitHub App; its short-lived token is kept here.
        APP = "app", "GitHub App installation"

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="credentials")
    api_url = models.URLField(
        blank=True,
        default="",
        db_default="",
        validators=[validate_api_root],
        help_text="The API root that the token is for, and that it is sent to. Fixed once made. "
        "Only for GitHub Enterprise: https://HOST/api/v3. Empty: GITHUB_API_URL.",
    )
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.TOKEN)
    access_token = EncryptedTextField(blank=True)
    installation_id = models.BigIntegerField(null=True, blank=True)
    account_id = models.BigIntegerField(
        null=True, blank=True, help_text="GitHub's id of the account that the App is installed on."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    renewing_until = models.DateTimeField(
        null=True, blank=True, help_text="A worker renews the token, or died at it by then."
    )
    revoked_at = models.DateTimeField(
        null=True, blank=True, help_text="When GitHub first refused this token."
    )

    class Meta:
        verbose_name = "credential"
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(kind="app") | models.Q(api_url=""),
                name="app_belongs_to_default_api_root",
            ),
        ]

    def __str__(self) -> str:
        place = f" at {self.api_url}" if self.api_url else ""
        return f"{self.get_kind_display()} of {self.team}{place}"

    def _note(self, **fields: Any) -> None:
        type(self).objects.filter(pk=self.pk).update(**fields)
        for name, value in fields.items():
            setattr(self, name, value)

    def lasts(self, duration: timedelta) -> bool:
        """Whether an installation's token is good for that long, as far as this object knows."""
        return self.expires_at is not None and self.expires_at > timezone.now() + duration

    def claim_renewal(self) -> bool:
        """Reserve the renewal of the token; False when somebody else has it, or had it since.

        One conditional UPDATE, so that of many workers one wins. No transaction stays open while
        GitHub is asked. The claim of a worker that died ends by itself.
        """
        now = timezone.now()
        free = models.Q(renewing_until=None) | models.Q(renewing_until__lt=now)
        mine = type(self).objects.filter(free, pk=self.pk, expires_at=self.expires_at)
        until = now + RENEWAL_CLAIM
        if not mine.update(renewing_until=until):
            return False
        self.renewing_until = until
        return True

    def release_renewal(self) -> None:
        """Let the next worker try to renew the token. One UPDATE, for our own claim only."""
        mine = type(self).objects.filter(pk=self.pk, renewing_until=self.renewing_until)
        mine.update(renewing_until=None)
        self.renewing_until = None

    def store_installation_token(self, token: str, *, expires_at: datetime) -> None:
        """Keep a new token for all workers, unless another installation was linked meanwhile."""
        mine = type(self).objects.filter(pk=self.pk, installation_id=self.installation_id)
        mine.update(access_token=token, expires_at=expires_at)
        self.access_token, self.expires_at = token, expires_at

    def mark_installation_refused(self) -> None:
        """Note that GitHub gives no token for the installation, if it is still the one linked."""
        mine = type(self).objects.filter(pk=self.pk, installation_id=self.installation_id)
        mine.filter(revoked_at=None).update(revoked_at=timezone.now())

    def discard_token(self) -> None:
        """Note that GitHub refused the token before its time, unless there is a new one already."""
        mine = type(self).objects.filter(pk=self.pk, expires_at=self.expires_at)
        mine.update(expires_at=None)

    def link_installation(self, installation_id: int, *, account_id: int) -> None:
        """Go on as an installation, whose token is asked for when it is needed."""
        self.store_token("")
        self._note(
            kind=self.Kind.APP,
            installation_id=installation_id,
            account_id=account_id,
            expires_at=None,
            renewing_until=None,
        )

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
        now = timezone.now()
        self._note(access_token=token, token_stored_at=now, revoked_at=None, **NOTHING_SAID)


class GitHubIntegration(models.Model):
    """One connection of a team to one GitHub, with its own webhook address and secret."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="integrations")
    credential = models.ForeignKey(
        IntegrationCredential, on_delete=models.RESTRICT, related_name="integrations"
    )
    organization_slug = models.CharField(max_length=255)
    api_url = models.URLField(
        blank=True,
        validators=[validate_api_root],
        help_text="Only for GitHub Enterprise: https://HOST/api/v3. Empty: GITHUB_API_URL.",
    )
    follows_installation = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Repositories that the GitHub App is given later are tracked, too.",
    )
    webhook_secret = EncryptedTextField(default=make_webhook_secret)
    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)

    class Meta:
        ordering = ["organization_slug"]
        verbose_name = "integration"
        # On PostgreSQL also `token_stays_at_its_api_root`, a key of two columns, which Django
        # cannot describe: the migration that adds it is 0015.
        constraints = [
            models.UniqueConstraint(
                fields=["team", "organization_slug", "api_url"], name="unique_integration"
            )
        ]

    def __str__(self) -> str:
        return f"{self.organization_slug} for {self.team}"

    def clean(self) -> None:
        """Keep a token with the API root that it was stored for. Raises ValidationError."""
        if self.credential_id and not self.is_api_root_of_token():
            raise ValidationError({"credential": "Its token is for another API root."})

    def is_api_root_of_token(self) -> bool:
        """Whether the token was stored for the API root that it would be sent to."""
        return self.credential.api_url == self.api_url

    def get_api_root(self) -> str:
        """Return the URL in front of every API path, without a slash at the end."""
        return (self.api_url or settings.GITHUB_API_URL).rstrip("/")

    def get_webhook_path(self) -> str:
        return reverse("metrics_sync:webhook-integration", args=[self.uuid])

    def list_webhook_paths(self) -> tuple[str, ...]:
        """Return the paths at which its deliveries are taken; the shared one knows one GitHub."""
        shared = () if self.api_url else (reverse("metrics_sync:webhook"),)
        return (self.get_webhook_path(), *shared)


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
    connected_at = models.DateTimeField(
        auto_now_add=True, null=True, help_text="Older merges nobody could tell us of in time."
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
        known.filter(github_pr_number__in=numbers).update(github_pr_number=None, etags={})
        # Addresses of the old name may be another repository's one day.
        rows.update(github_repo=full_name, etags={})
        if self.team.repositories.named(full_name).exclude(pk=self.pk).exists():
            self.deactivate()
            return
        self.full_name = full_name
        self.save(update_fields=["full_name"])

    def deactivate(self) -> None:
        """Track it no more; its pull requests stay."""
        self.is_active = False
        self.save(update_fields=["is_active"])
