"""The parameters of requests; each refuses values that make no sense."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from django.http import HttpRequest
from ninja import Path, Query
from ninja.errors import HttpError
from pydantic import AfterValidator


def read_moment(moment: datetime) -> datetime:
    """Return a moment in UTC; a moment without an offset is taken to be in UTC."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("there is no such moment") from error


def check_names(request: HttpRequest, known: Collection[str]) -> None:
    """Raise HttpError 422 for an unknown parameter: a misspelt filter must not be ignored."""
    for name in request.GET:
        if name not in known:
            raise HttpError(422, f"{name}: there is no such parameter here")


NAME = r"[A-Za-z0-9_.-]+"

Moment: TypeAlias = Annotated[datetime, AfterValidator(read_moment)]
FullName: TypeAlias = Annotated[str, Query(pattern=f"^{NAME}/{NAME}$", description="OWNER/NAME")]
Name: TypeAlias = Annotated[str, Path(pattern=f"^{NAME}$")]
Number: TypeAlias = Annotated[int, Path(ge=1, lt=2**31)]
