"""Percentiles computed by the database, with the same answer from PostgreSQL and SQLite."""

from math import ceil
from typing import Any

from django.db.backends.signals import connection_created
from django.db.models import Aggregate
from django.dispatch import receiver


class Percentile(Aggregate):
    """The smallest value that at least the given share (0 to 1) of all values do not exceed.

    Always a value that occurs, also for an even number of them; None when there is none.
    https://www.postgresql.org/docs/current/functions-aggregate.html (percentile_disc)
    """

    function = "percentile_disc"
    template = "%(function)s(%(share)s) WITHIN GROUP (ORDER BY %(expressions)s)"

    def __init__(self, expression: Any, share: float, **options: Any) -> None:
        super().__init__(expression, share=share, **options)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        other = self.copy()
        other.template = "%(function)s(%(expressions)s, %(share)s)"
        return other.as_sql(compiler, connection, **context)


class _PercentileOfSQLite:
    """The aggregate that SQLite calls for each row and for the result."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.share = 0.0

    def step(self, value: Any, share: float) -> None:
        self.share = share
        if value is not None:
            self.values.append(value)

    def finalize(self) -> Any:
        if not self.values:
            return None
        return sorted(self.values)[max(ceil(self.share * len(self.values)), 1) - 1]


@receiver(connection_created)
def teach_sqlite(connection: Any, **_: Any) -> None:
    """Define in SQLite the aggregate that PostgreSQL has."""
    if connection.vendor == "sqlite":
        connection.connection.create_aggregate(Percentile.function, 2, _PercentileOfSQLite)
