"""The lists of a pull request on its page: the first rows of each, and the way to all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.db.models import Count, OuterRef, Subquery
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from metrics_sync.admin.child_lists import COLUMNS
from metrics_sync.admin.labels import show_long, show_table
from metrics_sync.admin.list_filters import PULL_REQUEST
from metrics_sync.admin.listing import show_cell
from metrics_sync.models import PullRequest

#: How many rows the page shows of each list.
ROWS = 20
#: Longer texts wrap.
LONGEST_LINE = 40


@dataclass(frozen=True, slots=True)
class Section:
    """`url` leads to the list of all its rows."""

    title: str
    count: int
    url: str
    table: SafeString

    @property
    def is_cut(self) -> bool:
        return self.count > ROWS


def build_sections(row: PullRequest) -> Iterator[Section]:
    """Yield a section for each kind of row that belongs to a pull request, with nine queries."""
    counts = {model.__name__: _count(model) for model in COLUMNS}
    itself: Any = PullRequest.objects.filter(pk=row.pk)
    found = itself.annotate(**counts).values_list(*counts).get()
    for (model, columns), count in zip(COLUMNS.items(), found, strict=True):
        options = model._meta  # noqa: SLF001  (public in all but name)
        name = f"admin:{options.app_label}_{options.model_name}"
        yield Section(
            title=str(options.verbose_name_plural),
            count=count or 0,
            url=f"{reverse(f'{name}_changelist')}?{PULL_REQUEST}={row.pk}",
            table=_show_rows(model, columns, row, f"{name}_change"),
        )


def _count(model: type[Any]) -> Subquery:
    rows = model.objects.filter(pull_request=OuterRef("pk")).order_by().values("pull_request")
    return Subquery(rows.annotate(count=Count("pk")).values("count"))


def _show_rows(model: type[Any], columns: list[Any], row: PullRequest, url_name: str) -> SafeString:
    model_admin = admin.site.get_model_admin(model)
    headers = [str(label_for_field(column, model, model_admin)) for column in columns]
    cells = []
    for child in model.objects.filter(pull_request=row)[:ROWS]:
        first, *others = (_show(model_admin, column, child) for column in columns)
        link = format_html('<a href="{}">{}</a>', reverse(url_name, args=[child.pk]), first)
        cells.append([link, *others])
    return show_table(str(model._meta.verbose_name_plural), headers, cells)  # noqa: SLF001


def _show(model_admin: Any, column: Any, child: Any) -> Any:
    content = show_cell(model_admin, column, child)
    is_long = not isinstance(content, SafeString) and len(str(content)) > LONGEST_LINE
    return show_long(str(content), most=200) if is_long else content
