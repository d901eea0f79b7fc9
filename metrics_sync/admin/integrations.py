"""Teams, and how they reach GitHub; secrets go in here and never come out."""

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import URLField
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminPasswordWidget

from metrics_sync.admin.auditing import Audited
from metrics_sync.admin.labels import describe_budget, name_credential_state, show_label
from metrics_sync.admin.scoping import ReadOnly, TeamFilter, TeamScoped
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    Team,
    TeamMember,
    TrackedRepository,
)
from metrics_sync.releasing import release_parked


class SecretField(forms.CharField):
    """Takes a secret and never shows one; empty keeps what is stored.

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
    """Refuses what belongs to another team than the row itself."""

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
        # One made up here would be known to nobody: GitHub has to be told the same.
        self.fields["secret"].required = self.instance.pk is None

    def clean(self) -> dict[str, Any]:
        """Take a stored token to no other host than the one that it was stored for."""
        cleaned = super().clean()
        credential, api_url = cleaned.get("credential"), cleaned.get("api_url", "")
        if self.instance.pk is not None:
            api_url = self.instance.api_url
        if credential is None:
            return cleaned
        others = credential.integrations.exclude(pk=self.instance.pk).exclude(api_url=api_url)
        if others.exists() or (api_url and credential.kind == credential.Kind.APP):
            self.add_error("credential", "Its token is for another API root.")
        return cleaned


class RepositoryForm(OneTeamForm):
    def clean(self) -> dict[str, Any]:
        """Leave it to the command and the webhook what is read with the token of the App."""
        cleaned = super().clean()
        integration = cleaned.get("integration") or getattr(self.instance, "integration", None)
        of_app = GitHubIntegration.objects.filter(
            pk__in=[integration.pk] if integration else [],
            credential__kind=IntegrationCredential.Kind.APP,
        )
        changed = {"integration", "full_name", "github_repo_id"} & set(self.changed_data)
        if changed:
            # GitHub is asked before the shared webhook tells the team anything of it.
            self.instance.verified_at, self.instance.verify_at = None, timezone.now()
        if changed and of_app.exists():
            self.add_error(
                "full_name", "Repositories of a GitHub App are added by `manage.py connect --app`."
            )
        return cleaned


class OwnedAdmin(Audited, TeamScoped, ModelAdmin):
    """What a team owns; it stays with that team."""

    form = OneTeamForm
    fields: ClassVar[list[Any]] = []
    list_filter: ClassVar[list[Any]] = [("team", TeamFilter)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        may_write = self.has_change_permission(request, obj) or obj is None
        return [field for field in self.fields if may_write or field != "secret"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return [*self.readonly_fields, *(["team"] if obj else [])]


@admin.register(IntegrationCredential)
class CredentialAdmin(OwnedAdmin):
    form = CredentialForm
    list_display = ["__str__", "team", "kind", "state", "budget", "wait_until", "expires_at"]
    # An installation is linked by `manage.py connect --app` only: its id opens what it may read.
    readonly_fields = ["kind", "installation_id", "state", "budget", "revoked_at", "wait_until"]
    fields = [
        "team", "kind", "secret", "installation_id", "expires_at", ("state", "revoked_at"),
        ("budget", "wait_until"),
    ]  # fmt: skip

    @admin.display(description="state")
    def state(self, row: IntegrationCredential) -> str:
        return show_label(name_credential_state(row) if row.pk else "")

    @admin.display(description="requests left")
    def budget(self, row: IntegrationCredential) -> str:
        return describe_budget(row)

    def save_model(
        self, request: HttpRequest, obj: IntegrationCredential, form: Any, change: Any
    ) -> None:
        super().save_model(request, obj, form, change)
        if token := form.cleaned_data["secret"]:
            obj.store_token(token)
            transaction.on_commit(partial(release_parked, obj))


@admin.register(GitHubIntegration)
class IntegrationAdmin(OwnedAdmin):
    form = IntegrationForm
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    related = ("team", "credential__team")
    hidden = ("credential__access_token",)
    list_display = ["organization_slug", "team", "credential", "api_url"]
    search_fields = ["organization_slug"]
    readonly_fields = ["follows_installation", "webhook_path"]
    fields = [
        "team", "organization_slug", "credential", "api_url", "secret", "follows_installation",
        "webhook_path",
    ]  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Keep the API root as it was made: a stored token would go to the new one."""
        return [*super().get_readonly_fields(request, obj), *(["api_url"] if obj else [])]

    @admin.display(description="webhook path")
    def webhook_path(self, row: GitHubIntegration) -> str:
        return row.get_webhook_path()

    def save_model(
        self, request: HttpRequest, obj: GitHubIntegration, form: Any, change: Any
    ) -> None:
        if secret := form.cleaned_data["secret"]:
            obj.webhook_secret = secret
        super().save_model(request, obj, form, change)


@admin.register(TrackedRepository)
class RepositoryAdmin(OwnedAdmin):
    form = RepositoryForm
    related = ("team", "integration__team")
    hidden = ("integration__webhook_secret",)
    list_display = ["full_name", "team", "integration", "is_active", "discovered_until"]
    list_filter = [("team", TeamFilter), "is_active"]
    search_fields = ["full_name"]
    readonly_fields = ["connected_at", "discovered_until"]
    fields = [
        "team", "integration", "full_name", "github_repo_id", "is_active", "connected_at",
        "discovered_until",
    ]  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Leave it to `connect`, which shows that the team may read what it tracks.

        A team that tracks a repository is told of it by the shared webhook.
        """
        return request.user.is_superuser

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fixed = [] if request.user.is_superuser else ["integration", "full_name", "github_repo_id"]
        return [*super().get_readonly_fields(request, obj), *fixed]


@admin.register(Team)
class TeamAdmin(Audited, TeamScoped, ModelAdmin):
    related = ()
    list_display = ["name", "slug"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}
    autocomplete_fields = ["members"]


@admin.register(TeamMember)
class TeamMemberAdmin(ReadOnly, ModelAdmin):
    list_display = ["login", "name", "team", "is_bot"]
    list_filter = [("team", TeamFilter), "is_bot"]
    search_fields = ["login", "name"]
