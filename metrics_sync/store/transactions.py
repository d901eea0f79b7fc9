"""Runs a transaction, and again when it met another that waited for it."""

import logging
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection, transaction

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: PostgreSQL ends one of two transactions that wait for each other.
#: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
DEADLOCK_DETECTED = "40P01"
SERIALIZATION_FAILURE = "40001"

#: How often a transaction is tried; the other one has ended when it is this one's turn again.
TRIES = 4


def run_transaction(work: Callable[[], Result]) -> Result:
    """Run `work` in a transaction, and again from its start when a deadlock ended it.

    `work` must change nothing but the database. Inside of another transaction it runs once: that
    one is over. Raises what `work` raises.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            with transaction.atomic():
                return work()
        except OperationalError as error:
            if not tries_left or connection.in_atomic_block or not _met_another(error):
                raise
            logger.warning("Tried a transaction again: %s", error.__class__.__name__)
    raise AssertionError("the last try returns or raises")


def _met_another(error: OperationalError) -> bool:
    code = getattr(error.__cause__, "sqlstate", None)
    return code in (DEADLOCK_DETECTED, SERIALIZATION_FAILURE)
