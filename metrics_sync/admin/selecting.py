"""The filters of the dashboard: team, repository and period, kept in the address."""

from collections.abc import Iterator
from datetime import UTC, date, timedelta
from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from metrics_sync.admin.scoping import keep_visible, list_teams
from metrics_sync.admin.sorting import list_orders
from metrics_sync.dashboard import DEFAULT_WEEKS, METRICS, MORE_METRICS, By, Selection, Span, Weeks
from metrics_sync.models import Team, TrackedRepository

#: The first repository at GitHub is of this day.
#: https://github.com/mojombo/grit
EARLIEST = date(2007, 10, 29)
LONGEST_YEARS = 10
MOST_PAGES = 10_000


class DayInput(UnfoldAdminTextInputWidget):
    input_type = "date"


class DayField(forms.DateField):
    """A day as addresses and browsers write it, e.g. 2026-03-02."""

    def __init__(self, label: str) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=["%Y-%m-%d"],
            widget=DayInput,
            error_messages={"invalid": "This is no date such as 2026-03-02."},
        )


class SelectionForm(forms.Form):
    """Offers what the user may see; any other choice selects nothing.

    A period is the last weeks, or the days from `from` to `to` where the address has them. What
    the page shows of it, which links choose, is kept in hidden fields.
    """

    team = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    repository = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget)
    weeks = forms.TypedChoiceField(
        label="Period",
        required=False,
        coerce=int,
        empty_value=None,
        choices=[
            *((weeks, f"last {weeks} weeks") for weeks in Weeks),
            ("", "from … to …"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    bots = forms.ChoiceField(
        label="By bots",
        required=False,
        choices=[("", "left out"), ("with", "counted, too")],
        widget=UnfoldAdminSelectWidget,
    )
    by = forms.ChoiceField(
        label="comparison",
        required=False,
        choices=[(by, by) for by in By],
        widget=forms.HiddenInput,
    )
    sort = forms.ChoiceField(
        label="order", required=False, choices=list_orders, widget=forms.HiddenInput
    )
    page = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_PAGES, widget=forms.HiddenInput
    )
    trend = forms.MultipleChoiceField(
        required=False,
        choices=[(metric, metric) for metric in MORE_METRICS],
        widget=forms.MultipleHiddenInput,
    )
    field_order = ("team", "repository", "weeks", "from", "to", "bots")

    def __init__(self, request: HttpRequest) -> None:
        chosen = request.GET.copy()
        if chosen.get("from") or chosen.get("to"):
            chosen["weeks"] = ""
        elif not chosen.get("weeks"):
            chosen["weeks"] = str(DEFAULT_WEEKS.value)
        super().__init__(data=chosen)
        self.query = chosen
        # A word of Python, which no attribute can be called.
        self.fields |= {"from": DayField("From"), "to": DayField("To")}
        self.order_fields(self.field_order)
        self.teams = list_teams(request)
        repositories = keep_visible(TrackedRepository.objects.all(), request)
        if (slug := chosen.get("team")) in {team.slug for team in self.teams}:
            repositories = repositories.filter(team__slug=slug)
        named = repositories.order_by("full_name").values_list("full_name", flat=True).distinct()
        names = list(named)
        self.repositories: dict[str, str] = {name.lower(): name for name in names}
        self._offer("team", "all teams", [(team.slug, str(team)) for team in self.teams])
        self._offer("repository", "all repositories", [(name, name) for name in names])

    def find_team(self) -> Team | None:
        """Return the team that was chosen; None where all of them are."""
        slug = self.cleaned_data.get("team") if self.is_valid() else None
        return next((team for team in self.teams if slug and team.slug == slug), None)

    def find_repository(self, full_name: str) -> str:
        """Return the choice that has this name in any case; empty without one."""
        return self.repositories.get(full_name.lower(), "")

    @property
    def filters(self) -> list[forms.BoundField]:
        """What the form sends: all but the page, because another choice begins with page one."""
        return [field for field in self if field.name != "page"]

    @property
    def metrics(self) -> list[str]:
        """The metrics whose trends are shown: always the main ones, and those that were chosen."""
        chosen = self.cleaned_data.get("trend", []) if self.is_valid() else []
        return [*METRICS, *(metric for metric in MORE_METRICS if metric in chosen)]

    def change(self, **changes: Any) -> str:
        """Return the query of the address with other choices; it begins anew with page one."""
        query = QueryDict(mutable=True)
        for name in self.fields:
            value = changes[name] if name in changes else self.query.getlist(name)
            values = value if isinstance(value, list) else [value]
            if name != "page" or name in changes:
                query.setlist(name, [one for one in values if one])
        return query.urlencode()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "from" in self.errors or "to" in self.errors:
            return cleaned
        try:
            check_days(cleaned.get("from"), cleaned.get("to"))
        except ValidationError as error:
            self.add_error(None, error)
        return cleaned

    @property
    def refusal(self) -> str:
        """Why nothing is shown; empty when all choices fit."""
        return "" if self.is_valid() else " ".join(self._say_what_does_not_fit())

    def _say_what_does_not_fit(self) -> Iterator[str]:
        days = [name for name in ("from", "to") if name in self.errors]
        names = [str(self[name].label).lower() for name in self.errors if name not in days]
        yield "Nothing is shown:"
        if names:
            yield f"the {' and '.join(names)} in the address is not among your choices."
        for name in days:
            yield f"“{self[name].label}” does not fit. {' '.join(map(str, self.errors[name]))}"
        yield "Choose again."

    def _offer(self, name: str, everything: str, choices: list[tuple[str, str]]) -> None:
        field = cast(forms.ChoiceField, self.fields[name])
        field.choices = [("", everything), *choices]

    def select(self) -> Selection:
        """Return what was chosen, as of now; nothing when a choice is not among those offered."""
        is_valid = self.is_valid()
        chosen, teams = self.cleaned_data, self.teams if is_valid else self.teams.none()
        if slug := chosen.get("team"):
            teams = teams.filter(slug=slug)
        now = timezone.now()
        first, last = chosen.get("from"), chosen.get("to")
        return Selection(
            teams=teams,
            now=now,
            weeks=chosen.get("weeks") or DEFAULT_WEEKS,
            repository=chosen.get("repository", ""),
            with_bots=bool(chosen.get("bots")),
            chosen=Span.of_days(first, last or now.date()) if first and is_valid else None,
        )


def check_days(first: date | None, last: date | None) -> None:
    """Check a range of days. Raises ValidationError with the reason for the field it is about."""
    if first is None:
        if last is not None:
            raise ValidationError({"from": "A period needs its first day, too."})
        return
    today = timezone.now().astimezone(UTC).date()
    end = last or today
    if end > today + timedelta(days=1):
        # In some places it is tomorrow already.
        raise ValidationError({"to": "This is later than today."})
    if first < EARLIEST:
        raise ValidationError({"from": f"GitHub began on {EARLIEST}."})
    if end < first:
        raise ValidationError({"from": "The period ends before this."})
    if (end - first).days > LONGEST_YEARS * 366:
        raise ValidationError({"from": f"A period has at most {LONGEST_YEARS} years."})
