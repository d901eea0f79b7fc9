"""Pages that return each row once, however many rows are added between two requests.

The CursorPagination of django-ninja 1.7 does not guarantee that. Its cursor is the value of the
first field and a number of rows to skip. If a row is added that merged in the same second as the
last row of a page, the next page returns a row twice; and at most 100 rows can be skipped. Its
cursor is not signed either, so a wrong one fails in the database.
"""

from collections.abc import Collection
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from ninja import Query, Schema
from ninja.errors import HttpError
from pydantic import Field

from metrics_sync.api.parameters import check_names

Item = TypeVar("Item")

Limit = Annotated[int, Query(ge=1, le=200, description="The most items that a page may have.")]
Cursor = Annotated[str, Query(description="Where the page begins, from `next` of the last page.")]


class Page(Schema, Generic[Item]):
    """Some items, and the URL of the page that follows."""

    items: list[Item]
    next: str | None = Field(description="The URL of the next page; null on the last one.")


def take_page(
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    order: tuple[str, ...],
    limit: int,
    cursor: str,
    filters: Collection[str] = (),
) -> dict[str, Any]:
    """Return one page of `rows`, in one query. `filters` names the parameters that selected them.

    `order` names fields that together are unique and never change, all of them with a minus
    sign or none. The cursor holds their values in the last row of a page, signed, and belongs
    to one list. Raises HttpError 422 for a cursor that is not of this list, and for a parameter
    that does not exist.
    """
    check_names(request, {"limit", "cursor", *filters})
    rows = rows.order_by(*order)
    salt = f"metrics_sync.api {request.path}"
    if cursor:
        try:
            rows = rows.filter(_come_after(signing.loads(cursor, salt=salt), order))
        except signing.BadSignature as error:
            raise HttpError(422, "cursor: this is not a cursor of this list") from error
    items = list(rows[: limit + 1])
    if len(items) <= limit:
        return {"items": items, "next": None}
    last = items[limit - 1]
    values = [str(getattr(last, name.removeprefix("-"))) for name in order]
    query = {**request.GET.dict(), "cursor": signing.dumps(values, salt=salt)}
    return {
        "items": items[:limit],
        "next": request.build_absolute_uri(f"{request.path}?{urlencode(query)}"),
    }


def _come_after(values: list[str], order: tuple[str, ...]) -> Q:
    """Match the rows after the one with these values: SQL's comparison of tuples, written out.

    The comparison with the first value alone is redundant, but lets the database use an index.
    """
    field, *others = (name.removeprefix("-") for name in order)
    beyond = "lt" if order[0].startswith("-") else "gt"
    if not others:
        return Q(**{f"{field}__{beyond}": values[0]})
    tied = Q(**{field: values[0]}) & _come_after(values[1:], order[1:])
    at_least = Q(**{f"{field}__{beyond}e": values[0]})
    return at_least & (Q(**{f"{field}__{beyond}": values[0]}) | tied)
