"""The table of a list; the theme's own has ten times as many bytes and is drawn as slowly."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import display_for_field, display_for_value, lookup_field
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.templatetags.unfold_list import result_headers

from metrics_sync.admin.labels import show_in_one_unit


def build_table(changelist: Any) -> dict[str, Any]:
    """Return the context of `metrics_sync/listing.html`: headers, and the cells of each row."""
    headers = list(result_headers(changelist))
    durations = _show_durations(changelist)
    return {
        "headers": headers,
        "rows": [
            list(_build_cells(changelist, headers, row, durations))
            for row in changelist.result_list
        ],
        "is_sorted_by_several": sum(bool(header.get("sorted")) for header in headers) > 1,
    }


def _show_durations(changelist: Any) -> dict[Any, Iterator[str]]:
    """Return what the columns of durations show row by row, each column in one unit."""
    return {
        name: iter(show_in_one_unit([name.read_duration(row) for row in changelist.result_list]))
        for name in changelist.list_display
        if hasattr(name, "read_duration")
    }


def _build_cells(
    changelist: Any, headers: list[dict[str, Any]], row: Any, durations: Mapping[Any, Iterator[str]]
) -> Iterator[SafeString]:
    names = list(changelist.list_display)
    if names[0] == "action_checkbox":
        yield _show_checkbox(row)
        names, headers = names[1:], headers[1:]
    first = names[0] if changelist.list_display_links is not None else ""
    for name, header in zip(names, headers, strict=True):
        if name in durations:
            content: Any = next(durations[name])
        else:
            content = show_cell(changelist.model_admin, name, row)
        if name == first or name in (changelist.list_display_links or ()):
            content = format_html('<a href="{}">{}</a>', _link(changelist, row), content)
        tag = "th" if name == names[0] else "td"
        label = str(header["text"]).capitalize()
        yield format_html('<{} data-label="{}">{}</{}>', tag, label, content, tag)


def show_cell(model_admin: Any, name: Any, row: Any) -> Any:
    """Return what a column of an admin's list shows of a row."""
    field, attribute, value = lookup_field(name, row, model_admin)
    unknown = getattr(attribute, "empty_value_display", model_admin.get_empty_value_display())
    if field is not None and not field.auto_created:
        if field.many_to_one:
            return unknown if value is None else getattr(row, field.name)
        if isinstance(value, bool):
            return "yes" if value else "no"
        return display_for_field(value, field, unknown)
    if getattr(attribute, "header", False):
        return format_html("{}<br>{}", value[0], value[1])
    return display_for_value(value, unknown, getattr(attribute, "boolean", False))


def _link(changelist: Any, row: Any) -> str:
    kept = {"preserved_filters": changelist.preserved_filters, "opts": changelist.opts}
    return str(add_preserved_filters(kept, changelist.url_for_result(row)))


def _show_checkbox(row: Any) -> SafeString:
    return format_html(
        '<td><input type="checkbox" class="action-select" name="{}" value="{}" aria-label="{}">',
        ACTION_CHECKBOX_NAME,
        row.pk,
        f"Select {row}",
    )
