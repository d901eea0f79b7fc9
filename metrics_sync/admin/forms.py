"""The forms of what a team owns, which keep secrets and teams apart."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import UnfoldAdminPasswordWidget

from metrics_sync.fields import EncryptedTextField
from metrics_sync.models import GitHubIntegration, IntegrationCredential, TrackedRepository
from metrics_sync.names import read_address


class SecretField(forms.CharField):
    """Stores a secret and never shows it; an empty value keeps the stored one.

    It is no field of the model, so the form never reads the stored secret.
    """

    def __init__(self, label: str) -> None:
        super().__init__(
            label=label,
            required=False,
            help_text="Stored encrypted and never shown. Empty keeps the stored one.",
            widget=UnfoldAdminPasswordWidget({"autocomplete": "new-password"}),
        )


class OneTeamForm(forms.ModelForm):  # type: ignore[type-arg]  # not generic at run time
    """Refuses rows of another team, and duplicates."""

    def _post_clean(self) -> None:
        """Check constraints with the fields that the form does not show, such as the team."""
        super()._post_clean()  # type: ignore[misc]  # Django's own hook, without a public name
        if self.errors:
            return
        fields = self.instance._meta.concrete_fields  # noqa: SLF001  (public in all but name)
        secrets = {field.name for field in fields if isinstance(field, EncryptedTextField)}
        try:
            self.instance.validate_constraints(exclude=secrets)
        except ValidationError as error:
            self.add_error(None, error)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        team_id = getattr(cleaned.get("team"), "pk", self.instance.team_id)
        for name, value in list(cleaned.items()):
            if getattr(value, "team_id", team_id) != team_id:
                self.add_error(name, "This belongs to another team.")
        return cleaned


class CredentialForm(OneTeamForm):
    secret = SecretField("New access token")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.instance.kind == IntegrationCredential.Kind.APP and cleaned.get("secret"):
            self.add_error("secret", "The token of a GitHub App is renewed by itself.")
        elif self.instance.pk is None and not cleaned.get("secret"):
            self.add_error("secret", "A personal access token is needed.")
        return cleaned


class IntegrationForm(OneTeamForm):
    secret = SecretField("New webhook secret")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The same secret has to be set at GitHub, so none is generated here.
        self.fields["secret"].required = self.instance.pk is None

    def clean(self) -> dict[str, Any]:
        """Take the API root from the credential: its token is sent to no other."""
        cleaned = super().clean()
        if self.instance.pk is None and (credential := cleaned.get("credential")):
            self.instance.api_url = credential.api_url
        return cleaned


class PastedNameField(forms.CharField):
    """Takes a repository as people paste it: OWNER/NAME, or its address at GitHub."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        try:
            return str(read_address(text or "").full_name)
        except ValueError:
            # The validator of the model says what is right.
            return text


class RepositoryForm(OneTeamForm):
    class Meta:
        model = TrackedRepository
        fields = ["full_name"]
        field_classes = {"full_name": PastedNameField}

    def clean(self) -> dict[str, Any]:
        """Refuse repositories of a GitHub App, which the command and the webhook add."""
        cleaned = super().clean()
        integration = cleaned.get("integration") or getattr(self.instance, "integration", None)
        of_app = GitHubIntegration.objects.filter(
            pk__in=[integration.pk] if integration else [],
            credential__kind=IntegrationCredential.Kind.APP,
        )
        changed = {"integration", "full_name", "github_repo_id"} & set(self.changed_data)
        if changed:
            # GitHub is asked whether the team may read it before the team gets any delivery of it.
            self.instance.verified_at, self.instance.verify_at = None, timezone.now()
        if changed and of_app.exists():
            self.add_error(
                "full_name", "Repositories of a GitHub App are added by `manage.py connect --app`."
            )
        return cleaned
