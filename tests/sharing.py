"""Databases that one process of a test run makes and that all of them copy, on PostgreSQL."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connection


@contextmanager
def share(users: Path, *, make: Callable[[], object], drop: Callable[[], object]) -> Iterator[None]:
    """Let the first of several processes make something before the block, and the last drop it.

    The others wait meanwhile. The file says how many processes are in the block.
    """
    with _change(users, by=1) as count:
        if count == 1:
            make()
    try:
        yield
    finally:
        with _change(users, by=-1) as count:
            if count == 0:
                drop()


@contextmanager
def _change(users: Path, *, by: int) -> Iterator[int]:
    """Yield the changed count, which is written unless the block fails."""
    with users.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        count = int(file.read() or 0) + by
        yield count
        file.truncate(0)
        file.write(str(count))


@contextmanager
def open_migrated(folder: Path, *, keep: bool) -> Iterator[str]:
    """Yield the name of an empty database in which all migrations have run.

    Nobody may be in a database while it is copied, so no test uses this one.
    """
    creation, test = connection.creation, connection.settings_dict["TEST"]
    name = f"test_{connection.settings_dict['NAME']}_migrated"

    def make() -> None:
        before, own = connection.settings_dict["NAME"], test["NAME"]
        test["NAME"] = name
        creation.create_test_db(verbosity=0, autoclobber=True, serialize=False, keepdb=keep)
        creation.destroy_test_db(before, verbosity=0, keepdb=True)  # only leaves it
        test["NAME"] = own

    with share(folder / name, make=make, drop=lambda: keep or drop_database(name)):
        yield name


def copy_database(template: str, suffix: str, *, keep: bool = False) -> str:
    """Copy a database, and return the name of the copy; a kept one is taken as it is."""
    creation = connection.creation
    with use_database(template):
        creation.clone_test_db(suffix, verbosity=0, autoclobber=True, keepdb=keep)
        return str(creation.get_test_db_clone_settings(suffix)["NAME"])


def drop_database(name: str) -> None:
    """Drop a database, from which threads of a server that has stopped may not have gone yet."""
    with connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {connection.ops.quote_name(name)} WITH (FORCE)")


@contextmanager
def use_database(name: str) -> Iterator[None]:
    """Let all threads use another database for the block."""
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = before
