"""Leads from each figure of the dashboard to the list of the pull requests behind it."""

from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from metrics_sync.admin.drill_down import link_to_list
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import Selection, Span
from metrics_sync.models import Team


@dataclass(frozen=True, slots=True)
class Leads:
    """The addresses of lists with the filters of a dashboard, which lead back to it."""

    team: Team | None
    selection: Selection
    back: str

    @classmethod
    def of(cls, form: SelectionForm, selection: Selection) -> "Leads":
        return cls(form.find_team(), selection, form.change())

    def to_reviews(self, *, span: Span | None = None, **narrowing: Any) -> str:
        """Return the address of the list behind a figure of reviews, by default of all the period.

        Pull requests by bots are left out as the figure leaves them out.
        """
        bots = "" if self.selection.with_bots else "without"
        return self._to_list(span or self.selection.span, bots=bots, **narrowing)

    def to_merges(self, **narrowing: Any) -> str:
        """Return the address of the list behind a figure of all merges of the period."""
        return self._to_list(self.selection.span, **narrowing)

    def _to_list(self, span: Span, **narrowing: Any) -> str:
        own = {"team": self.team, "repository": self.selection.repository}
        return link_to_list(
            merged_from=span.since, merged_before=span.until, back=self.back, **own | narrowing
        )


def link(url: str, text: Any, *, data_point: int | None = None, title: str = "") -> SafeString:
    """Return a link; `data_point` is the place of what it is of in the chart before its table."""
    extra = "" if data_point is None else format_html(' data-point="{}"', data_point)
    extra = format_html('{} title="{}"', extra, title) if title else extra
    return format_html('<a href="{}" class="text-link"{}>{}</a>', url, extra, text)
