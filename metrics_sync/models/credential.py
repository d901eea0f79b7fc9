"""A credential: a personal token, or the installation of a GitHub App, of one team."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from metrics_sync.api_roots import find_fault
from metrics_sync.fields import EncryptedTextField
from metrics_sync.models.budgets import UNKNOWN_BUDGET, TokenBudget
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.models.team import Team

#: How long one worker may take to renew the token of an installation before another tries.
RENEWAL_CLAIM = timedelta(seconds=45)


def validate_api_root(url: str) -> None:
    """Raise ValidationError for an address that no token may be sent to."""
    if fault := find_fault(url, is_development=settings.DEBUG):
        raise ValidationError(f"This is no API root: {fault}.", code="api_root")


class IntegrationCredential(TokenBudget):
    """A personal access token or an installation of a GitHub App, of one team."""

    class Kind(models.TextChoices):
        #: A personal access token (classic or fine-grained).
        TOKEN = "token", "personal access token"
        #: An installation of a GitHub App; its token, valid for an hour, is stored here.
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
        null=True,
        blank=True,
        help_text="Until then one worker renews the token; later, another may.",
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

    def read_token(self) -> str:
        """Return the token, with one query if it was left out as the row was loaded.

        Raises DecryptionError.
        """
        if "access_token" in self.get_deferred_fields():
            self.access_token = _token.get(pk=self.pk).access_token
        return str(self.access_token)

    def lasts(self, duration: timedelta) -> bool:
        """Whether the installation's token, as loaded, is valid for that long."""
        return self.expires_at is not None and self.expires_at > timezone.now() + duration

    def claim_renewal(self) -> bool:
        """Reserve the renewal of the token; False when another worker renews it or has renewed it.

        One conditional UPDATE, so that one of many workers wins. No transaction stays open while
        GitHub is asked. The claim of a killed worker expires.
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
        """Let another worker renew the token. One UPDATE, of our own claim only."""
        mine = type(self).objects.filter(pk=self.pk, renewing_until=self.renewing_until)
        mine.update(renewing_until=None)
        self.renewing_until = None

    def store_installation_token(self, token: str, *, expires_at: datetime) -> None:
        """Store a new token for all workers, unless another installation was linked meanwhile."""
        mine = type(self).objects.filter(pk=self.pk, installation_id=self.installation_id)
        mine.update(access_token=token, expires_at=expires_at)
        self.access_token, self.expires_at = token, expires_at

    def mark_installation_refused(self) -> None:
        """Mark the credential as revoked, unless another installation was linked meanwhile."""
        mine = type(self).objects.filter(pk=self.pk, installation_id=self.installation_id)
        mine.filter(revoked_at=None).update(revoked_at=timezone.now())

    def discard_token(self) -> None:
        """Mark a refused token as expired, unless a new one has been stored."""
        mine = type(self).objects.filter(pk=self.pk, expires_at=self.expires_at)
        mine.update(expires_at=None)

    def link_installation(self, installation_id: int, *, account_id: int) -> None:
        """Change to an installation of a GitHub App; its token is requested when needed."""
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
        """Note that GitHub accepts the token again, unless another one has been stored since.

        One UPDATE.
        """
        self._note_of_token(revoked_at=None)

    def store_token(self, token: str) -> None:
        """Replace the token, and forget the refusal and the rate limit of the old one."""
        now = timezone.now()
        self._note(access_token=token, token_stored_at=now, revoked_at=None, **UNKNOWN_BUDGET)


_token = Prepared(
    lambda: IntegrationCredential.objects.filter(pk=Slot("pk", models.BigIntegerField())).only(
        "access_token"
    )
)
