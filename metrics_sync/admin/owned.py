"""A team's credentials, integrations and repositories; secrets are stored and never shown."""

from functools import partial
from typing import Any, ClassVar

from django.contrib import admin
from django.db import transaction
from django.db.models import URLField
from django.http import HttpRequest

from metrics_sync.admin.audit_log import Audited
from metrics_sync.admin.columns import show_times
from metrics_sync.admin.forms import CredentialForm, IntegrationForm, OneTeamForm, RepositoryForm
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.labels import (
    UNKNOWN,
    describe_budget,
    name_credential_state,
    show_label,
    show_long,
    show_on_one_line,
)
from metrics_sync.admin.scoping import TeamFilter, TeamScoped
from metrics_sync.dashboard import read_health
from metrics_sync.heal.releasing import release_parked
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    TrackedRepository,
)

#: The times that people write themselves.
EDITED_TIMES = {"expires_at"}


class OwnedAdmin(Audited, TeamScoped, Guarded):
    """The admin of rows that belong to a team and cannot be moved to another."""

    form = OneTeamForm
    fields: ClassVar[list[Any]] = []
    list_filter: ClassVar[list[Any]] = [("team", TeamFilter)]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        may_write = self.has_change_permission(request, obj) or obj is None
        fields = [field for field in self.fields if may_write or field != "secret"]
        return show_times(self.model, fields, edited=EDITED_TIMES)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return show_times(self.model, [*self.readonly_fields, *(["team"] if obj else [])])


@admin.register(IntegrationCredential)
class CredentialAdmin(OwnedAdmin):
    form = CredentialForm
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    list_display = ["__str__", "team", "kind", "state", "budget", "wait_until", "expires_at"]
    # An installation is linked by `manage.py connect --app` only: its id opens what it may read.
    readonly_fields = [
        "kind", "installation_id", "state", "budget", "revoked_at", "wait_until", "bulk_wait_until",
    ]  # fmt: skip
    fields = [
        "team", "api_url", "kind", "secret", "installation_id", "expires_at",
        ("state", "revoked_at"), ("budget", "wait_until", "bulk_wait_until"),
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
