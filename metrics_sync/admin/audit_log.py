"""Writes changes by hand into the audit log, and shows the log."""

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.scoping import ReadOnly, TeamFilter
from metrics_sync.models import AuditEntry
from metrics_sync.store import record_change


class Audited(admin.ModelAdmin):  # type: ignore[type-arg]  # not generic at run time
    """Notes who made, changed or deleted a row, in the transaction of the change itself."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        super().save_related(request, form, formsets, change)
        changes = "; ".join(_describe(form, name) for name in form.changed_data)
        record_by_hand(request, form.instance, changes if change else f"made; {changes}")

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            record_by_hand(request, obj, "deleted")
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                record_by_hand(request, row, "deleted")
            super().delete_queryset(request, queryset)


def record_by_hand(request: HttpRequest, row: Any, change: str) -> None:
    """Note what a user of the admin did with a row, in the transaction of the change itself."""
    user = request.user
    record_change(actor=f"user {user} (id {user.pk})", subject=row, change=change)


def _describe(form: Any, name: str) -> str:
    """Describe the change of a field; of a secret only that it was stored."""
    if name == "secret":
        return f"{form.fields[name].label.lower()} stored"
    old, new = form.initial.get(name), form.cleaned_data.get(name)
    return f"{name}: {_show(old)} → {_show(new)}"


def _show(value: Any) -> str:
    """Return a value as text; a reference to a row as its name."""
    if isinstance(value, (list, QuerySet)):
        return ", ".join(sorted(map(str, value))) or "none"
    return str(value) if isinstance(value, Model) or value not in (None, "") else "none"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, Guarded):
    """Nobody changes or deletes the entries of the audit log."""

    list_display = ["at", "actor", "team", "subject", "change"]
    list_filter = [("team", TeamFilter)]
    search_fields = ["actor", "subject", "change"]
    date_hierarchy = "at"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
