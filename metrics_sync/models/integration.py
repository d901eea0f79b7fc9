"""An integration: one connection of a team to one GitHub, with its own webhook."""

import secrets
import uuid

from django.core.exceptions import ValidationError
from django.db import models
from django.urls import reverse

from metrics_sync.conf import app_settings
from metrics_sync.fields import EncryptedTextField
from metrics_sync.models.credential import IntegrationCredential, validate_api_root
from metrics_sync.models.team import Team


def make_webhook_secret() -> str:
    """Return 256 random bits as text, for a webhook of one integration."""
    return secrets.token_urlsafe(32)


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
        """Raise ValidationError if the token was stored for another API root."""
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

    def list_webhook_endings(self) -> tuple[str, ...]:
        """Return how the addresses of its webhooks end; the shared one is of the default API root.

        All installations share that path, a staging copy for one: where BASE_URL is known, only
        the whole address is ours.
        """
        shared = f"{app_settings.BASE_URL}{reverse('metrics_sync:webhook')}"
        return (self.get_webhook_path(), *(() if self.api_url else (shared,)))
