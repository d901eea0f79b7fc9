"""Says in one line what stopped a command, and what to do about it."""

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor
from redis.exceptions import RedisError

from metrics_sync.exceptions import MetricsSyncError

#: Errors that an operator can correct. Any other exception is a bug, and keeps its traceback.
FAULTS = (
    *(MetricsSyncError, ImproperlyConfigured, DatabaseError, InterfaceError, RedisError),
    *(OSError, KeyboardInterrupt),
)


def describe_fault(error: BaseException) -> str | None:
    """Return one line for the operator; None for a bug.

    If the error comes from the database, it is asked whether migrations are missing.
    """
    if isinstance(error, KeyboardInterrupt):
        return "Stopped."
    if isinstance(error, BrokenPipeError):
        return "The output was closed before everything was written."
    if isinstance(error, DatabaseError | InterfaceError):
        return _describe_database_error(error)
    if isinstance(error, RedisError):
        return f"Redis does not answer ({_shorten(error)}). Start it or correct REDIS_URL."
    if isinstance(error, MetricsSyncError | ImproperlyConfigured):
        return _end(_shorten(error))
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return None


def _describe_database_error(error: DatabaseError | InterfaceError) -> str | None:
    if count := _count_missing_migrations():
        return f"The database lacks {count} migrations. Run `manage.py migrate`."
    if isinstance(error, OperationalError | InterfaceError):
        return (
            f"The database does not answer ({_shorten(error)}). Start it or correct DATABASE_URL."
        )
    return None


def _count_missing_migrations() -> int:
    """Count the migrations that must be run; 0 if the database does not answer that either."""
    try:
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except (DatabaseError, InterfaceError):
        return 0


def _shorten(error: BaseException) -> str:
    """Return the first line of the error's text."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")


def _end(sentence: str) -> str:
    return sentence if sentence.endswith(("?", "!", ".")) else f"{sentence}."
