"""Teams, their members, and the accounts of their pull requests."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_permission_codename, get_user_model
from django.http import HttpRequest

from metrics_sync.admin.audit_log import Audited
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.scoping import ReadOnly, TeamFilter, TeamScoped
from metrics_sync.models import Team, TeamMember


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
