"""API tokens: made here, shown once, and revoked."""

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from metrics_sync.admin.audit_log import record_by_hand
from metrics_sync.admin.guarding import Guarded
from metrics_sync.admin.labels import show_label
from metrics_sync.admin.owned import OwnedAdmin
from metrics_sync.models import ApiToken


@admin.register(ApiToken)
class ApiTokenAdmin(OwnedAdmin, Guarded):
    hidden = ("token_hash",)
    list_display = ["name", "team", "shown", "state", "last_used_at", "expires_at"]
    search_fields = ["name", "prefix"]
    readonly_fields = ["shown", "state", "created_at", "last_used_at", "revoked_at"]
    fields = [
        "team", "name", "expires_at", ("shown", "state"), ("created_at", "last_used_at"),
        "revoked_at",
    ]  # fmt: skip
    actions = ["revoke"]

    @admin.display(description="token", ordering="prefix")
    def shown(self, row: ApiToken) -> str:
        return f"{row.prefix}…" if row.pk else "Shown once, when it is saved."

    @admin.display(description="state")
    def state(self, row: ApiToken) -> str:
        return show_label(row.state if row.pk else "")

    @admin.action(description="Revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, rows: QuerySet[ApiToken]) -> None:
        with transaction.atomic():
            for row in rows.filter(revoked_at=None):
                record_by_hand(request, row, "revoked")
            count = ApiToken.objects.filter(pk__in=rows.values("pk")).revoke()
        messages.success(request, f"Revoked: {count}.")

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: Any) -> None:
        if not change:
            obj.draw_token()
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the token in the answer itself; a message would store it until the next page."""
        context = self.admin_site.each_context(request)
        return render(
            request,
            "metrics_sync/new_api_token.html",
            {**context, "title": f"New API token: {obj.name}", "opts": self.opts, "row": obj},
        )
