"""Indexes that are made while the service runs."""

from typing import Any

from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import AddIndex


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
