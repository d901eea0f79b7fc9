"""Teams, their credentials, integrations and repositories; secrets are stored and never shown."""

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import URLField
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminPasswordWidget

from metrics_sync.admin.auditing import Audited
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.labels import (
    UNKNOWN,
    describe_budget,
    name_credential_state,
    show_label,
    show_long,
    show_on_one_line,
)
from metrics_sync.admin.scoping import ReadOnly, TeamFilter, TeamScoped
from metrics_sync.dashboard import read_health
from metrics_sync.fields import EncryptedTextField
from metrics_sync.heal.releasing import release_parked
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    Team,
    TeamMember,
    TrackedRepository,
)
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


class OwnedAdmin(Audited, TeamScoped, Guarded):
    """The admin of rows that belong to a team and cannot be moved to another."""

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
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    list_display = ["__str__", "team", "kind", "state", "budget", "wait_until", "expires_at"]
    # An installation is linked by `manage.py connect --app` only: its id opens what it may read.
    readonly_fields = ["kind", "installation_id", "state", "budget", "revoked_at", "wait_until"]
    fields = [
        "team", "api_url", "kind", "secret", "installation_id", "expires_at",
        ("state", "revoked_at"), ("budget", "wait_until"),
    ]  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Keep the API root as it was made: the stored token would go to the new one."""
        return [*super().get_readonly_fields(request, obj), *(["api_url"] if obj else [])]

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
    related = ("team", "credential__team")
    hidden = ("credential__access_token",)
    list_display = ["organization_slug", "team", "credential", "api_url"]
    search_fields = ["organization_slug"]
    readonly_fields = ["api_url", "follows_installation", "webhook_path"]
    fields = [
        "team", "organization_slug", "credential", "api_url", "secret", "follows_installation",
        "webhook_path",
    ]  # fmt: skip

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
    list_display = [
        "full_name", "team", "is_active", "webhook", "last_delivery", "last_merge", "waiting",
        "fault", "integration", "discovered_until",
    ]  # fmt: skip
    list_filter = [("team", TeamFilter), "is_active"]
    search_fields = ["full_name"]
    readonly_fields = ["connected_at", "discovered_until"]
    fields = [
        "team", "integration", "full_name", "github_repo_id", "is_active", "connected_at",
        "discovered_until",
    ]  # fmt: skip

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list; each repository on this page of it has its `health`."""
        changelist = super().get_changelist_instance(request)
        changelist.result_list = rows = list(changelist.result_list)
        health = read_health(rows)
        for row in rows:
            row.health = health[row.pk]
        return changelist

    @admin.display(description="webhook")
    def webhook(self, row: Any) -> str:
        return show_label(row.health.webhook)

    @admin.display(description="last delivery")
    def last_delivery(self, row: Any) -> str:
        return show_on_one_line(row.health.last_delivery_at)

    @admin.display(description="last merge")
    def last_merge(self, row: Any) -> str:
        return show_on_one_line(row.health.last_merge_at)

    @admin.display(description="being fetched")
    def waiting(self, row: Any) -> int:
        waiting: int = row.health.waiting
        return waiting

    @admin.display(description="fault")
    def fault(self, row: Any) -> str:
        """Show how many merges need attention, and the reason of the newest."""
        if not row.health.in_trouble:
            return UNKNOWN
        return show_long(f"{row.health.in_trouble}: {row.health.fault}", most=120)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Allow superusers only; others use `connect`, which checks that the team may read it.

        A team that tracks a repository gets its deliveries from the shared webhook.
        """
        return request.user.is_superuser

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        fixed = [] if request.user.is_superuser else ["integration", "full_name", "github_repo_id"]
        return [*super().get_readonly_fields(request, obj), *fixed]


@admin.register(Team)
class TeamAdmin(Audited, TeamScoped, Guarded):
    related = ()
    list_display = ["name", "slug"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}

    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        """Search for members where the project's admin can search for users."""
        users = self.admin_site._registry.get(get_user_model())  # noqa: SLF001  (see scoping)
        return ["members"] if users and users.search_fields else []

    def save_model(self, request: HttpRequest, obj: Team, form: Any, change: bool) -> None:  # noqa: FBT001
        """Save a team, and name the bots that no account of its pull requests is."""
        super().save_model(request, obj, form, change)
        if "bot_logins" not in form.changed_data:
            return
        self.message_user(request, "The clock measures the team's pull requests again.")
        if unknown := obj.list_unknown_bots():
            text = f"No account of this team's pull requests is called {', '.join(unknown)}."
            self.message_user(request, f"{text} Check the spelling.", messages.WARNING)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Let only those edit members who may view users: trying ids would reveal names."""
        user = get_user_model()._meta  # noqa: SLF001  (public in all but name)
        may_see = request.user.has_perm(f"{user.app_label}.{get_permission_codename('view', user)}")
        return [] if may_see else ["members"]


@admin.register(TeamMember)
class TeamMemberAdmin(ReadOnly, Guarded):
    list_display = ["login", "name", "team", "is_bot"]
    list_filter = [("team", TeamFilter), "is_bot"]
    search_fields = ["login", "name"]
