"""What may be asked: each parameter refuses what makes no sense."""

from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from ninja import Path, Query
from pydantic import AfterValidator


def read_moment(moment: datetime) -> datetime:
    """Return a moment in UTC, which is also what one without an offset is in."""
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError("there is no such moment") from error


NAME = r"[A-Za-z0-9_.-]+"

Moment: TypeAlias = Annotated[datetime, AfterValidator(read_moment)]
FullName: TypeAlias = Annotated[str, Query(pattern=f"^{NAME}/{NAME}$", description="OWNER/NAME")]
Name: TypeAlias = Annotated[str, Path(pattern=f"^{NAME}$")]
Number: TypeAlias = Annotated[int, Path(ge=1, lt=2**31)]
