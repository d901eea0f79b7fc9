"""The goals of teams, for those who may edit the team."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget

from metrics_sync.admin.definitions import DEFINITIONS
from metrics_sync.admin.forms import OneTeamForm
from metrics_sync.admin.owned import OwnedAdmin
from metrics_sync.models import Team, TeamGoal


class GoalForm(OneTeamForm):
    metric = forms.ChoiceField(
        choices=[
            (metric, f"{definition.title} ({definition.unit})")
            for metric, definition in DEFINITIONS.items()
        ],
        help_text="The median of a week should not be above the goal.",
        widget=UnfoldAdminSelectWidget,
    )


@admin.register(TeamGoal)
class GoalAdmin(OwnedAdmin):
    form = GoalForm
    list_display = ["title", "team", "value"]
    fields = ["team", "metric", "value"]

    @admin.display(description="metric", ordering="metric")
    def title(self, goal: TeamGoal) -> str:
        definition = DEFINITIONS.get(goal.metric)
        return f"{definition.title} ({definition.unit})" if definition else goal.metric

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _may_edit_teams(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_edit_teams(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_edit_teams(request)


def _may_edit_teams(request: HttpRequest) -> bool:
    return admin.site.get_model_admin(Team).has_change_permission(request)
