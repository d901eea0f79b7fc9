"""Indexes that are made while the service runs."""

import logging
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AddIndex
from django.db.migrations.operations.base import Operation

logger = logging.getLogger(__name__)


class AddIndexWithoutLock(AddIndex):
    """Adds an index; on PostgreSQL without locking the table against writing meanwhile.

    Its migration must not be atomic. One that was interrupted leaves an index that PostgreSQL
    does not use, which the next try replaces.
    """

    atomic = False

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, *states)
            return
        concurrently = self._make_concurrent()
        concurrently._ensure_not_in_transaction(schema_editor)
        name = schema_editor.quote_name(self.index.name)
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        concurrently.database_forwards(app_label, schema_editor, *states)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            self._make_concurrent().database_backwards(app_label, schema_editor, *states)
        else:
            super().database_backwards(app_label, schema_editor, *states)

    def _make_concurrent(self) -> Any:
        # Its module needs a driver of PostgreSQL, which a project with SQLite has not.
        from django.contrib.postgres.operations import AddIndexConcurrently

        return AddIndexConcurrently(self.model_name, self.index)


class AddIndexOfPostgreSQL(Operation):
    """Adds an index that only PostgreSQL can have, without locking the table; else does nothing.

    Its migration must not be atomic. If the index needs an extension that is not installed and
    that our role may not install, it is left out, and a warning has the statements to be run.
    """

    atomic = False
    reversible = True
    reduces_to_sql = True

    def __init__(self, model_name: str, *, name: str, definition: str, extension: str = "") -> None:
        self.model_name, self.name = model_name, name
        #: After the name of the table; `{schema}` is that of the extension.
        self.definition, self.extension = definition, extension

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """Name the arguments again, as migrations are compared by them."""
        options = {"name": self.name, "definition": self.definition, "extension": self.extension}
        return type(self).__name__, [self.model_name], options

    def describe(self) -> str:
        return f"Create index {self.name} on {self.model_name}, on PostgreSQL"

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Leave the models as they are: other databases have no such index."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return
        name = schema_editor.quote_name(self.name)
        table = schema_editor.quote_name(
            to_state.apps.get_model(app_label, self.model_name)._meta.db_table  # noqa: SLF001
        )
        schema = self._find_schema(schema_editor)
        definition = self.definition.format(schema=schema_editor.quote_name(schema or "public"))
        statement = f"CREATE INDEX CONCURRENTLY {name} ON {table} {definition}"
        if self.extension and schema is None:
            logger.warning(
                "The extension %s is not installed in this database, and our role may not install "
                "it, so %s is missing and searches read all rows. A superuser can run: "
                "CREATE EXTENSION %s; %s;",
                self.extension,
                self.name,
                self.extension,
                statement,
            )
            return
        # One that was interrupted is not used, and replaced here.
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        schema_editor.execute(statement)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, *states: Any
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            name = schema_editor.quote_name(self.name)
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")

    def _find_schema(self, schema_editor: BaseDatabaseSchemaEditor) -> str | None:
        """Return the schema of the extension, installing it if need be; None if that fails."""
        with schema_editor.connection.cursor() as cursor:
            if (schema := self._read_schema(cursor)) or not self.extension:
                return schema
            statement = f"CREATE EXTENSION IF NOT EXISTS {self.extension}"
            if schema_editor.collect_sql:
                schema_editor.execute(statement)
                return "public"
            try:
                cursor.execute(statement)
            except DatabaseError as error:
                logger.warning("%s", str(error).strip())
            return self._read_schema(cursor)

    def _read_schema(self, cursor: Any) -> str | None:
        cursor.execute(
            "SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace"
            " WHERE extname = %s",
            [self.extension],
        )
        found = cursor.fetchone()
        return str(found[0]) if found else None
