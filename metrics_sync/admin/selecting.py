"""The filters of the dashboard: team, repository and period, kept in the address."""

from typing import cast

from django import forms
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget

from metrics_sync.admin.scoping import keep_visible, list_teams
from metrics_sync.dashboard import DEFAULT_WEEKS, Selection, Weeks
from metrics_sync.models import TrackedRepository


class SelectionForm(forms.Form):
    """Offers what the user may see; any other choice selects nothing."""

    team = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    repository = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    weeks = forms.TypedChoiceField(
        label="Period",
        required=False,
        coerce=int,
        empty_value=None,
        choices=[(weeks, f"last {weeks} weeks") for weeks in Weeks],
        widget=UnfoldAdminSelectWidget,
    )

    bots = forms.ChoiceField(
        label="Pull requests by bots",
        required=False,
        choices=[("", "left out of reviews"), ("with", "counted, too")],
        widget=UnfoldAdminSelectWidget,
    )

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(data={"weeks": DEFAULT_WEEKS, **request.GET.dict()})
        self.teams = list_teams(request)
        repositories = keep_visible(TrackedRepository.objects.all(), request)
        if (slug := request.GET.get("team")) in {team.slug for team in self.teams}:
            repositories = repositories.filter(team__slug=slug)
        names = repositories.order_by("full_name").values_list("full_name", flat=True).distinct()
        self._offer("team", "all teams", [(team.slug, str(team)) for team in self.teams])
        self._offer("repository", "all repositories", [(name, name) for name in names])

    @property
    def refusal(self) -> str:
        """Why nothing is shown; empty when all choices fit."""
        if self.is_valid():
            return ""
        names = " and ".join(str(self[name].label).lower() for name in self.errors)
        return (
            f"Nothing is shown: the {names} in the address is not among your choices. Choose again."
        )

    def _offer(self, name: str, everything: str, choices: list[tuple[str, str]]) -> None:
        field = cast(forms.ChoiceField, self.fields[name])
        field.choices = [("", everything), *choices]

    def select(self) -> Selection:
        """Return what was chosen, as of now; nothing when a choice is not among those offered."""
        is_valid = self.is_valid()
        chosen, teams = self.cleaned_data, self.teams if is_valid else self.teams.none()
        if slug := chosen.get("team"):
            teams = teams.filter(slug=slug)
        return Selection(
            teams=teams,
            now=timezone.now(),
            weeks=chosen.get("weeks") or DEFAULT_WEEKS,
            repository=chosen.get("repository", ""),
            with_bots=bool(chosen.get("bots")),
        )
