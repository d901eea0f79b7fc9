"""Weekly digests: users ask for them themselves, about their own teams."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import ForeignKey
from django.http import HttpRequest

from metrics_sync.admin.forms import OneTeamForm
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.scoping import TeamFilter, TeamScoped
from metrics_sync.models import Team, WeeklyDigest


class DigestForm(OneTeamForm):
    """Makes a digest the user's own, and refuses users without an address."""

    #: Who fills in the form; each request makes a form class of its own.
    user: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk is None:
            self.instance.user = self.user

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.instance.find_address():
            raise ValidationError("Your account has no e-mail address. Ask an operator to add it.")
        return cleaned


@admin.register(WeeklyDigest)
class WeeklyDigestAdmin(TeamScoped, Guarded):
    """Needs no permission: members decide about their own mail, and see who else gets it."""

    form = DigestForm
    related = ("team", "user")
    list_display = ["team", "user", "sent_for"]
    list_filter = [("team", TeamFilter)]
    search_fields = ["team__name"]
    fields = ["team", "sent_for"]
    readonly_fields = ["sent_for"]
    # Deleting several at once would not ask whose they are.
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_staff

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Allow users to delete their own digests, superusers all of them; one at a time."""
        is_own = obj is None or obj.user_id == request.user.pk
        return request.user.is_superuser or (request.user.is_staff and is_own)

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any], request: HttpRequest, **options: Any
    ) -> Any:
        """Offer the user's own teams, also to superusers: digests are sent to members only."""
        field = super().formfield_for_foreignkey(db_field, request, **options)
        field.queryset = Team.objects.filter(members=request.user.pk)
        return field

    def get_form(self, request: HttpRequest, *args: Any, **options: Any) -> Any:
        form = super().get_form(request, *args, **options)
        form.user = request.user
        return form
