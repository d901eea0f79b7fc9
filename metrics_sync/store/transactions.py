"""Runs a transaction, and again when it met another that waited for it."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection, transaction

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: PostgreSQL ends one of two transactions that wait for each other.
#: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
DEADLOCK_DETECTED = "40P01"
SERIALIZATION_FAILURE = "40001"

#: How often a transaction is tried, and the longest pause before the next, in which the other ends.
TRIES = 4
PAUSE_SECONDS = 0.2


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
            logger.warning("A transaction met another and is run again")
        time.sleep(random.uniform(0, PAUSE_SECONDS))
    raise AssertionError("the last try returns or raises")


def _met_another(error: OperationalError) -> bool:
    code = getattr(error.__cause__, "sqlstate", None)
    return code in (DEADLOCK_DETECTED, SERIALIZATION_FAILURE)
