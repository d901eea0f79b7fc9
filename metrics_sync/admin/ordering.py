"""The order of rows in a list: unknown values come last, on every database and in both directions.

PostgreSQL counts NULL as greater than every value and SQLite as less, so that a list of the
newest merges would begin with what is not merged on the one and not on the other.
"""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import F, QuerySet
from django.db.models.expressions import OrderBy
from django.http import HttpRequest
from unfold.views import ChangeList

if TYPE_CHECKING:  # not generic at run time
    from django.db.models.options import Options


class OrderedChangeList(ChangeList):
    """Sorts unknown values last, whichever column the user sorts by."""

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        ordering = super().get_ordering(request, queryset)
        return [put_unknown_last(self.lookup_opts, item) for item in ordering]


def put_unknown_last(opts: "Options[Any]", item: Any) -> Any:
    """Return the same order of a nullable field with NULL last; any other order as it is."""
    if isinstance(item, OrderBy):
        return OrderBy(item.expression, descending=item.descending, nulls_last=True)
    name = item.removeprefix("-") if isinstance(item, str) else ""
    try:
        is_nullable = opts.get_field(name).null
    except FieldDoesNotExist:
        return item
    if not is_nullable:
        return item
    field = F(name)
    return field.desc(nulls_last=True) if item.startswith("-") else field.asc(nulls_last=True)
