"""Runs a transaction, and runs it again after it met another one."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import IntegrityError, OperationalError, connection, transaction

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

#: PostgreSQL ends one of two transactions that wait for each other.
#: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
DEADLOCK_DETECTED = "40P01"
SERIALIZATION_FAILURE = "40001"

#: Another transaction has just written a row with the same key, which the next try finds.
UNIQUE_VIOLATIONS = ("23505", "SQLITE_CONSTRAINT_UNIQUE")

#: How often a transaction is tried, and the longest pause in between, in which the other one ends.
TRIES = 4
PAUSE_SECONDS = 0.2


def run_transaction(work: Callable[[], Result]) -> Result:
    """Run `work` in a transaction, and again from its start when another transaction ended it.

    It does so by a deadlock, or by writing a row with the same key first. `work` must change
    nothing but the database. Inside another transaction a deadlock is raised, as it ends that one,
    too. Raises what `work` raises.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            with transaction.atomic():
                return work()
        except IntegrityError as error:
            if not tries_left or not _is_unique_violation(error):
                raise
            continue
        except OperationalError as error:
            if not tries_left or connection.in_atomic_block or not _is_deadlock(error):
                raise
            logger.warning("A transaction met a deadlock and is run again")
        # The other transaction of the deadlock ends meanwhile, instead of meeting this one again.
        time.sleep(random.uniform(0, PAUSE_SECONDS))
    raise AssertionError("the last try returns or raises")


def _is_deadlock(error: OperationalError) -> bool:
    code = getattr(error.__cause__, "sqlstate", None)
    return code in (DEADLOCK_DETECTED, SERIALIZATION_FAILURE)


def _is_unique_violation(error: IntegrityError) -> bool:
    cause = error.__cause__
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return code in UNIQUE_VIOLATIONS
