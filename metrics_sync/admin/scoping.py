"""Who sees which rows: superusers all of them, other staff those of their teams."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib.admin.options import BaseModelAdmin
from django.db import DEFAULT_DB_ALIAS
from django.db.models import ForeignKey, Model, QuerySet, RestrictedError
from django.db.models.deletion import Collector
from django.http import HttpRequest
from unfold.contrib.filters.admin import RelatedDropdownFilter

from metrics_sync.admin.labels import UNKNOWN
from metrics_sync.fields import EncryptedTextField
from metrics_sync.models import Team


def may_see_queues(request: HttpRequest) -> bool:
    """Whether the user may see the queues, which hold the jobs of all teams."""
    return request.user.is_active and request.user.is_superuser


def list_teams(request: HttpRequest) -> QuerySet[Team]:
    """Return the teams whose rows the user may see."""
    teams = Team.objects.all()
    return teams if request.user.is_superuser else teams.filter(members=request.user.pk)


def keep_visible(rows: QuerySet[Any], request: HttpRequest) -> QuerySet[Any]:
    """Keep the rows that the user may see, without their secrets.

    A secret that is not read cannot be shown, and one that cannot be decrypted breaks no page.
    """
    fields = rows.model._meta.concrete_fields  # noqa: SLF001  (public in all but name)
    rows = rows.defer(*[f.name for f in fields if isinstance(f, EncryptedTextField)])
    if request.user.is_superuser:
        return rows
    return rows.filter(**{f"{_find_team(rows.model)}__in": list_teams(request)})


def _find_team(model: type[Model]) -> str:
    return "pk" if model is Team else "team"


class TeamScoped(BaseModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Shows staff the rows of their teams, with no permission given by hand.

    To add, change or delete takes Django's permission as well. `related` is joined on every
    page, and `hidden` is never loaded: the secrets of joined rows, and what is large.
    """

    empty_value_display = UNKNOWN
    related: Sequence[str] = ("team",)
    hidden: Sequence[str] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related(*self.related).defer(*self.hidden)
        return keep_visible(rows, request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_staff

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_staff

    def formfield_for_foreignkey(
        self, db_field: ForeignKey[Any], request: HttpRequest, **options: Any
    ) -> Any:
        model: Any = db_field.remote_field.model
        choices = keep_visible(model.objects.all(), request)
        options["queryset"] = choices if model is Team else choices.select_related("team")
        return super().formfield_for_foreignkey(db_field, request, **options)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the rows that would be deleted, where Django would read and list each of them."""
        collector, protected = Collector(using=DEFAULT_DB_ALIAS), list[str]()
        try:
            collector.collect(objs)
        except RestrictedError as error:
            protected = [str(row) for row in error.restricted_objects]
        counts = Counter({model: len(rows) for model, rows in collector.data.items()})
        for rows in collector.fast_deletes:
            counts[rows.model] += rows.count()
        registered = self.admin_site._registry  # noqa: SLF001  (public in all but name)
        missing = {
            str(model._meta.verbose_name)  # noqa: SLF001
            for model in counts
            if model in registered and not registered[model].has_delete_permission(request)
        }
        named = {str(model._meta.verbose_name_plural): count for model, count in counts.items()}  # noqa: SLF001
        return [str(row) for row in objs], named, missing, protected


class ReadOnly(TeamScoped):
    """Rows that come from GitHub or from a worker, which nobody edits by hand."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser


class TeamFilter(RelatedDropdownFilter):
    """Offers the teams that the user may see; with one of them there is nothing to choose."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        return [(team.pk, str(team)) for team in list_teams(request)]

    def has_output(self) -> bool:
        return super().has_output() or bool(self.lookup_val)
