"""Queries whose SQL Django builds only once; for those of every delivery and every fetch.

Building a query takes Django several times as long as running it and making its rows. PostgreSQL
prepares the queries, too, if the option `prepare_threshold` of the connection says so. They run on
the default database, because deliveries are stored in its transactions.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.constants import OnConflict
from django.db.models.query import get_related_populators
from django.db.models.sql import InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler

Row = TypeVar("Row", bound=models.Model)


class Slot(models.Expression):
    """A place in a prepared query for a value that is given with each run; it cannot be None."""

    def __init__(self, name: str, output_field: "models.Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(  # type: ignore[override]  # the stubs allow only strings and numbers
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, list["Slot"]]:
        """Put the slot itself among the parameters, where `fill` replaces it."""
        return "%s", [self]

    def fill(self, values: Mapping[str, Any]) -> Any:
        """Return this run's value in the form that the database takes."""
        return self.output_field.get_db_prep_value(values[self.name], connection)


class Prepared(Generic[Row]):
    """A query of rows of one model, with slots for the values that differ between its runs.

    `build` makes the queryset, which is ordered as its model is unless it says otherwise. It is
    called once in each thread, because a compiler belongs to a connection and a connection to a
    thread. `prefetch_related` does not work, and Django checks only at the first run that
    `select_for_update` is inside a transaction.
    """

    def __init__(self, build: Callable[[], models.QuerySet[Row]]) -> None:
        self._build, self._kept = build, threading.local()

    def run(self, **values: Any) -> list[Row]:
        """Return the rows for these values of the slots, with one statement."""
        if not hasattr(self._kept, "compiled"):
            self._kept.compiled = _Compiled(self._build())
        compiled: _Compiled[Row] = self._kept.compiled
        return list(compiled.run(values))

    def first(self, **values: Any) -> Row | None:
        """Return the first row; None if there is none."""
        return next(iter(self.run(**values)), None)

    def get(self, **values: Any) -> Row:
        """Return the only row. Raises the model's DoesNotExist if there is none."""
        row = self.first(**values)
        if row is None:
            model = self._kept.compiled.model
            raise model.DoesNotExist(f"{model.__name__} matching query does not exist.")
        return row


class PreparedForOne(Generic[Row]):
    """A query of the rows with some ids in a column; it is prepared for a single id.

    A fetch or a delivery needs the rows of one pull request, and bulk work those of many.
    """

    def __init__(self, build: Callable[[], models.QuerySet[Row]], column: str) -> None:
        self._build, self._column = build, column
        slot = Slot("id", models.BigIntegerField())
        self._for_one = Prepared(lambda: build().filter(**{column: slot}))

    def run(self, ids: Collection[int]) -> list[Row]:
        """Return the rows with these ids, with one statement; with none for no ids."""
        if len(ids) == 1:
            return self._for_one.run(id=next(iter(ids)))
        return list(self._build().filter(**{f"{self._column}__in": ids})) if ids else []


class _Compiled(Generic[Row]):
    """The SQL of a query; makes objects of its rows as Django's `ModelIterable` does."""

    def __init__(self, rows: models.QuerySet[Row]) -> None:
        self.compiler = rows.query.get_compiler(using=DEFAULT_DB_ALIAS)
        self.sql, self.parameters = self.compiler.as_sql()
        select, klass_info = self.compiler.select, self.compiler.klass_info
        positions = klass_info["select_fields"]
        self.model = klass_info["model"]
        self.own = slice(positions[0], positions[-1] + 1)
        self.names = [select[position][0].target.attname for position in positions]
        self.annotations = self.compiler.annotation_col_map
        self.populators = get_related_populators(klass_info, select, DEFAULT_DB_ALIAS)  # type: ignore[call-arg]
        self.converters = self.compiler.get_converters([column[0] for column in select])

    def run(self, values: Mapping[str, Any]) -> Iterator[Row]:
        with _open_cursor() as cursor:
            cursor.execute(self.sql, _fill(self.parameters, values))
            found = cursor.fetchall()
        for row in self.compiler.apply_converters(found, self.converters):
            instance = self.model.from_db(DEFAULT_DB_ALIAS, self.names, row[self.own])
            for populator in self.populators:
                populator.populate(row, instance)
            for name, position in self.annotations.items():
                setattr(instance, name, row[position])
            yield instance


class PreparedUpdate(Generic[Row]):
    """An `UPDATE` of the rows of a query, built once in each thread.

    `build` makes the queryset; `changes` are its new values by column. Both may have slots.
    """

    def __init__(self, build: Callable[[], models.QuerySet[Row]], **changes: Any) -> None:
        self._build, self._changes, self._kept = build, changes, threading.local()

    def run(self, **values: Any) -> int:
        """Write the changes with these values of the slots; return the number of rows."""
        if not hasattr(self._kept, "compiled"):
            rows = self._build()
            query: Any = rows.query.chain(UpdateQuery)
            query.add_update_values(self._changes)
            self._kept.compiled = query.get_compiler(using=DEFAULT_DB_ALIAS).as_sql()
        sql, parameters = self._kept.compiled
        with _open_cursor() as cursor:
            cursor.execute(sql, _fill(parameters, values))
            return int(cursor.rowcount)


class PreparedInsert(Generic[Row]):
    """An `INSERT` of one new row of a model, built once in each thread.

    It sends no signals, as `bulk_create` does not. No column may get its value from the database.
    """

    def __init__(self, model: type[Row]) -> None:
        self._model, self._kept = model, threading.local()

    def run(self, row: Row) -> None:
        """Insert the row, and set its key. Raises what the database says of it."""
        if not hasattr(self._kept, "compiled"):
            self._kept.compiled = self._compile(row)
        sql, columns = self._kept.compiled
        values = [
            column.get_db_prep_save(column.pre_save(row, add=True), connection)
            for column in columns
        ]
        with _open_cursor() as cursor:
            cursor.execute(sql, values)
            (row.pk,) = cursor.fetchone()
        # As after `save`.
        row._state.adding, row._state.db = False, DEFAULT_DB_ALIAS  # noqa: SLF001

    def _compile(self, row: Row) -> tuple[str, list[Any]]:
        meta = self._model._meta  # noqa: SLF001  (public in all but name)
        query: Any = InsertQuery(self._model)
        query.insert_values([field for field in meta.concrete_fields if field != meta.pk], [row])
        compiler = query.get_compiler(using=DEFAULT_DB_ALIAS)
        compiler.returning_fields = [meta.pk]
        [(sql, _)] = compiler.as_sql()
        return sql, query.fields


class PreparedUpsert(Generic[Row]):
    """An `INSERT` of rows, which updates those that are there; built once in each thread.

    PostgreSQL takes each column as an array, so that the SQL is the same for any number of rows; on
    other databases this is `bulk_create`. It sends no signals, and sets no keys. No column may get
    its value from the database.
    """

    def __init__(
        self, model: type[Row], *, unique_fields: Sequence[str], update_fields: Sequence[str]
    ) -> None:
        self._model, self._unique, self._updated = model, unique_fields, update_fields
        self._kept = threading.local()

    def run(self, rows: Sequence[Row]) -> None:
        """Write the rows, with one statement. Raises what the database says of them."""
        if connection.vendor != "postgresql":
            self._model._default_manager.bulk_create(  # noqa: SLF001  (public in all but name)
                rows,
                update_conflicts=True,
                unique_fields=self._unique,
                update_fields=self._updated,
            )
            return
        if not hasattr(self._kept, "compiled"):
            self._kept.compiled = self._compile(rows[0])
        sql, columns = self._kept.compiled
        values = [
            [column.get_db_prep_save(column.pre_save(row, add=True), connection) for row in rows]
            for column in columns
        ]
        with _open_cursor() as cursor:
            cursor.execute(sql, values)

    def _compile(self, row: Row) -> tuple[str, list[Any]]:
        meta = self._model._meta  # noqa: SLF001
        query: Any = InsertQuery(
            self._model,
            on_conflict=OnConflict.UPDATE,
            unique_fields=[meta.get_field(name) for name in self._unique],
            update_fields=[meta.get_field(name) for name in self._updated],
        )
        # Of two rows, as Django takes the columns of a single one apart.
        columns = [field for field in meta.concrete_fields if field != meta.pk]
        query.insert_values(columns, [row, row])
        [(sql, _)] = query.get_compiler(using=DEFAULT_DB_ALIAS).as_sql()
        return sql, columns


def _open_cursor() -> Any:
    """Open a cursor that sends the values apart from the SQL, so that PostgreSQL can prepare it.

    Django's option for it concerns all queries. Those of the pages are better planned each time,
    for their values.
    """
    if connection.vendor == "postgresql":
        # Here, because it needs psycopg, which is not installed everywhere.
        from django.db.backends.postgresql import base

        # psycopg 2, which a host project may have, prepares nothing.
        if bind := getattr(base, "ServerBindingCursor", None):
            opened: Any = connection
            opened.close_if_health_check_failed()
            opened.ensure_connection()
            return opened._prepare_cursor(bind(opened.connection))  # noqa: SLF001  (as `cursor` does)
    return connection.cursor()


def _fill(parameters: Iterable[Any], values: Mapping[str, Any]) -> list[Any]:
    return [value.fill(values) if isinstance(value, Slot) else value for value in parameters]
