"""How a team reaches GitHub: a credential, an integration, and the repositories it tracks."""

import secrets
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models.functions import Now, Upper
from django.urls import reverse
from django.utils import timezone

from metrics_sync.api_roots import find_fault
from metrics_sync.conf import app_settings
from metrics_sync.fields import EncryptedTextField
from metrics_sync.models.budgets import NOTHING_SAID, TokenBudget
from metrics_sync.models.teams import Team
from metrics_sync.names import PATTERN

validate_full_name = RegexValidator(PATTERN, "Write the repository as OWNER/NAME.")

#: A hint about a repository counts once GitHub has said the same so long after it: until then
#: the API may still answer from before.
REPLICATION_LAG = timedelta(minutes=5)
#: For how long one process may ask about a repository before another does.
VERIFICATION_CLAIM = timedelta(minutes=5)

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
        """Note that GitHub takes the token again, unless another one has been stored since.

        One UPDATE, at once.
        """
        self._note_of_token(revoked_at=None)

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
        return (self.api_url or app_settings.GITHUB_API_URL).rstrip("/")

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

    def first_named(self, full_name: str) -> "TrackedRepository | None":
        """Return the one of that name, or of several the one that is tracked."""
        return self.named(full_name).order_by("-is_active", "-pk").first()

    def matching(self, pull_request: models.Model) -> Self:
        """Keep the one that a pull request belongs to, if it is active."""
        return self.active().filter(pull_requests=pull_request.pk)

    def note_shown(self, github_repo_ids: Iterable[int]) -> None:
        """Note that GitHub has just shown these to their own token. One UPDATE."""
        rows = self.filter(github_repo_id__in=list(github_repo_ids))
        rows.update(verified_at=timezone.now(), verify_at=None, doubted_at=None)

    def to_verify(self, moment: datetime) -> Self:
        """Keep those of which GitHub is to be asked by then, the longest waiting first."""
        return self.filter(verify_at__lte=moment).order_by("verify_at", "pk")


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

    verified_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="When GitHub last showed it to the team's own token.",
    )
    doubted_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="Since when something speaks against its name or its being there.",
    )
    verify_at = models.DateTimeField(
        null=True,
        editable=False,
        default=timezone.now,
        db_default=Now(),
        help_text="When GitHub is to be asked about it.",
    )

    objects = TrackedRepositoryQuerySet.as_manager()

    class Meta:
        ordering = ["full_name"]
        verbose_name_plural = "tracked repositories"
        constraints = [
            # GitHub's id is the identity. Names are labels: while GitHub is asked, two that
            # changed names may have the same one.
            models.UniqueConstraint(
                fields=["integration", "github_repo_id"],
                condition=models.Q(github_repo_id__isnull=False),
                name="unique_tracked_repository_id",
            ),
            models.UniqueConstraint(
                fields=["team", "full_name"],
                condition=models.Q(github_repo_id=None),
                name="unique_tracked_repository",
            ),
            models.CheckConstraint(
                condition=models.Q(full_name__regex=PATTERN), name="tracked_repository_name"
            ),
        ]
        indexes = [
            models.Index(fields=["github_repo_id"], name="tracked_repository_github_id"),
            models.Index(Upper("full_name"), name="tracked_repository_upper_name"),
            models.Index(
                fields=["verify_at"],
                condition=models.Q(verify_at__isnull=False),
                name="tracked_repository_to_verify",
            ),
        ]

    def __str__(self) -> str:
        return self.full_name

    def save(self, *args: Any, **options: Any) -> None:
        """Save; a new one gets the pull requests of its name that belong to no repository yet."""
        is_new = self._state.adding
        super().save(*args, **options)
        if is_new:
            self.adopt()

    def adopt(self) -> None:
        """Take the pull requests of its name that belong to no repository; safe to repeat."""
        rows = self.team.pull_requests.filter(repository=None, github_repo__iexact=self.full_name)
        rows.update(repository=self)

    @transaction.atomic
    def rename(self, full_name: str) -> None:
        """Follow the repository, and its pull requests with it, to its new name.

        Only for names that GitHub gave to the team's own token. Safe to repeat. Where the team
        tracks the same repository under the new name already, that row stays and this one is
        tracked no more; of a pull request under both names the one of the new name stays.
        Another repository that was known by this name has lost it, and GitHub is asked for its
        new one.
        """
        if full_name == self.full_name:
            return
        others = self.team.repositories.named(full_name).exclude(pk=self.pk)
        others = others.filter(integration__api_url=self.integration.api_url)
        mine = models.Q(github_repo_id=None) | models.Q(github_repo_id=self.github_repo_id)
        if twin := others.filter(mine).first():
            self.merge_into(twin)
            return
        for other in others.active():
            other.doubt()
        self._move_pull_requests(full_name, to=self)
        self.full_name = full_name
        self.save(update_fields=["full_name"])

    @transaction.atomic
    def merge_into(self, twin: "TrackedRepository") -> None:
        """Leave its pull requests and its id to another row of the same repository."""
        self._move_pull_requests(twin.full_name, to=twin)
        twin.github_repo_id, self.github_repo_id = self.github_repo_id, None
        self.is_active, self.doubted_at, self.verify_at = False, None, None
        self.save(update_fields=["github_repo_id", "is_active", "doubted_at", "verify_at"])
        twin.save(update_fields=["github_repo_id"])

    def _move_pull_requests(self, full_name: str, *, to: "TrackedRepository") -> None:
        rows = self.pull_requests.exclude(github_repo=full_name)
        known = self.team.pull_requests.filter(github_repo=full_name)
        rows.filter(github_pr_id__in=list(known.values_list("github_pr_id", flat=True))).delete()
        # Of a repository that had the new name before, and is no more.
        numbers = list(rows.values_list("github_pr_number", flat=True))
        known.filter(github_pr_number__in=numbers).update(github_pr_number=None, etags={})
        # Addresses of the old name may be another repository's one day.
        rows.update(github_repo=full_name, etags={})
        self.pull_requests.update(repository=to)

    def doubt(self) -> bool:
        """Have GitHub asked before anything about it changes; False if it is asked already.

        One conditional UPDATE.
        """
        now = timezone.now()
        rows = type(self).objects.filter(pk=self.pk, doubted_at=None)
        is_new = bool(rows.update(doubted_at=now, verify_at=now))
        if is_new:
            self.doubted_at = self.verify_at = now
        return is_new

    def claim_verification(self) -> bool:
        """Reserve the question to GitHub; of two processes one wins. One conditional UPDATE."""
        now = timezone.now()
        mine = type(self).objects.filter(pk=self.pk, verify_at__lte=now)
        return bool(mine.update(verify_at=now + VERIFICATION_CLAIM))

    def postpone_verification(self, moment: datetime) -> None:
        """Have GitHub asked again then. One UPDATE."""
        type(self).objects.filter(pk=self.pk).update(verify_at=moment)
        self.verify_at = moment

    @property
    def is_settled(self) -> bool:
        """Whether what GitHub says now can be believed: the doubt is older than its replicas."""
        since = self.doubted_at or self.connected_at
        return since is None or timezone.now() - since >= REPLICATION_LAG

    def deactivate(self) -> None:
        """Track it no more; its pull requests stay."""
        self.is_active = False
        self.save(update_fields=["is_active"])
