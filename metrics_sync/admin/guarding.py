"""The base of all our admins: it limits the filters that a URL may name, and answers bad ones."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.contrib import messages
from django.contrib.admin import ChoicesFieldListFilter, RelatedFieldListFilter
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import (
    IS_POPUP_VAR,
    TO_FIELD_VAR,
    IncorrectLookupParameters,
)
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from unfold.admin import ModelAdmin

from metrics_sync.admin.columns import show_times
from metrics_sync.admin.drill_down import find_way_back, list_chips
from metrics_sync.admin.listing import build_table
from metrics_sync.admin.ordering import OrderedChangeList
from metrics_sync.exceptions import BadInputError

#: What Django, its filters and the databases raise for values that are none.
_REFUSALS = (
    IncorrectLookupParameters,
    OverflowError,
    SuspiciousOperation,
    ValidationError,
    ValueError,
)
#: Longer searches are cut: each word is looked for in each field.
_LONGEST_SEARCH = 200
#: What an address may name beside filters.
_OWN_PARAMETERS = {ALL_VAR, ERROR_FLAG, IS_POPUP_VAR, ORDER_VAR, PAGE_VAR, SEARCH_VAR, TO_FIELD_VAR}


class Guarded(ModelAdmin):
    """Shows no row, and says why, where the address names a filter that does not fit.

    All rows would be taken for the answer to what was asked.

    Only what the filters beside a list offer can be asked for by its address. Django allows every
    lookup of every field, which reads secrets letter by letter: `?access_token__startswith=`.
    """

    change_list_template: Any = "metrics_sync/list.html"

    def get_changelist(self, request: HttpRequest, **options: Any) -> Any:
        return OrderedChangeList

    def get_list_display(self, request: HttpRequest) -> Any:
        """Show all times in one style, also those of columns that are mere names of fields."""
        return show_times(self.model, super().get_list_display(request))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup in self._list_lookups(request)

    def _list_lookups(self, request: HttpRequest) -> Iterator[str]:
        filters: Sequence[Any] = self.get_list_filter(request)
        for one in filters:
            if hasattr(one, "parameter_name"):
                yield one.parameter_name
                continue
            name = one if isinstance(one, str) else one[0]
            yield from (name, f"{name}__exact", f"{name}__id__exact", f"{name}__isnull")
        if day := self.date_hierarchy:
            yield from (f"{day}__{part}" for part in ("year", "month", "day", "gte", "lt"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        return rows.none() if getattr(request, "is_refused", False) else rows

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list. Raises BadInputError for a URL with an unknown or unfit filter."""
        try:
            _check(request.GET)
            changelist = super().get_changelist_instance(request)
            for spec in changelist.filter_specs:
                _check_choice(spec)
        except _REFUSALS as error:
            if not request.GET:
                raise
            known = _OWN_PARAMETERS.union(self._list_lookups(request))
            unknown = [name for name in request.GET if name not in known]
            reason = (
                f"This list has no filter “{unknown[0]}”."
                if unknown
                else "A value in the address does not fit its filter."
            )
            raise BadInputError(reason) from error
        return changelist

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self._check_key(key)
            return self._show_list(request, extra_context)
        except BadInputError as error:
            messages.warning(request, f"{error} Nothing is shown; choose a filter or search here.")
            request.GET, request.is_refused = QueryDict(), True  # type: ignore[attr-defined]
            request.method = "GET"
            return self._show_list(request, extra_context)

    def _show_list(self, request: HttpRequest, extra_context: dict[str, Any] | None) -> Any:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context:
            context["table"] = build_table(context["cl"])
            context["chips"] = list(list_chips(context["cl"]))
            context["way_back"] = find_way_back(request)
        return response

    def _check_key(self, key: str) -> None:
        try:
            self.opts.pk.clean(key, None)
        except ValidationError as error:
            raise BadInputError("The selection is no row of this list.") from error

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> Any:
        """Search in lists and in choices; PostgreSQL takes no text with NUL in it."""
        term = search_term.replace("\0", "")[:_LONGEST_SEARCH]
        return self.search(request, queryset, term)

    def search(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> Any:
        return super().get_search_results(request, rows, term)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Let no address fill in a form: a link could do so for somebody else."""
        return {}


def _check(query: QueryDict) -> None:
    """Refuse the NUL character, which PostgreSQL accepts in no text. Raises ValueError."""
    if any("\0" in text for name, values in query.lists() for text in (name, *values)):
        raise ValueError("NUL")


def _check_choice(spec: Any) -> None:
    """Refuse a choice that a filter does not offer. Raises BadInputError."""
    if isinstance(spec, ChoicesFieldListFilter):
        offered = [value for value, _ in spec.field.flatchoices]
    elif isinstance(spec, RelatedFieldListFilter):
        offered = [key for key, _ in spec.lookup_choices]
    else:
        return
    # The name of the parameter that asks for rows without a value ends in `__isnull`.
    names = [name for name in spec.used_parameters if not name.endswith("__isnull")]
    known = {str(choice) for choice in offered}
    for name in names:
        for value in spec.used_parameters[name]:
            if value and str(value) not in known:
                raise BadInputError(f"The filter “{spec.title}” has no choice “{value}”.")
