"""Sets how long each kind of process waits for PostgreSQL."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

#: The variable in which entry points name the process: `web`, or the name of a command.
PROCESS = "METRICS_SYNC_PROCESS"

#: A connection is given up after 25 seconds of silence, or 20 seconds without an acknowledgement.
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-KEEPALIVES
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """The longest waits of this process in seconds; 0 means no limit."""

    connect: int
    #: For a lock.
    lock: float
    statement: float
    #: How long PostgreSQL keeps an idle transaction and its locks.
    silence: float

    @property
    def answer(self) -> float | None:
        """For any answer: longer than the statement limit, which the server enforces itself."""
        return self.statement + 1 if self.statement else None


def find_patience(process: str, *, statement_seconds: float) -> Patience:
    """Return how long a process waits.

    GitHub waits ten seconds for `web`. A migration has no limit. All other processes have
    `statement_seconds`.
    """
    if process == "migrate":
        return Patience(connect=5, lock=0, statement=0, silence=0)
    if process == "web":
        statement = min(4, statement_seconds)
        return Patience(connect=3, lock=min(3, statement), statement=statement, silence=10)
    return Patience(connect=5, lock=statement_seconds / 2, statement=statement_seconds, silence=60)


#: Memory and solid disks read any page as soon as the next one. PostgreSQL's default is for
#: turning disks, and lets it read a whole table of reviews in place of a narrow index.
#: https://www.postgresql.org/docs/current/runtime-config-query.html#GUC-RANDOM-PAGE-COST
#: PostgreSQL's default of 4 MB makes it sort and group a year of 50,000 merges on the disk.
#: https://www.postgresql.org/docs/current/runtime-config-resource.html#GUC-WORK-MEM
PLANNING = {"random_page_cost": "1.1", "work_mem": "16MB"}


def build_options(patience: Patience) -> dict[str, Any]:
    """Return connection options for libpq; those of DATABASE_URL take precedence."""
    milliseconds = {
        "statement_timeout": patience.statement * 1000,
        "lock_timeout": patience.lock * 1000,
        "idle_in_transaction_session_timeout": patience.silence * 1000,
    }
    limits = {name: f"{value:.0f}" for name, value in milliseconds.items()}
    options = " ".join(f"-c {name}={value}" for name, value in {**limits, **PLANNING}.items())
    return {**KEEPALIVE, "connect_timeout": patience.connect, "options": options}


#: How often a connection sends a statement until it has PostgreSQL prepare it; psycopg's default.
#: https://www.psycopg.org/psycopg3/docs/advanced/prepare.html
PREPARE_THRESHOLD = 5


def find_prepare_threshold(database: Mapping[str, Any]) -> int | None:
    """Return when a statement is prepared; None, never, behind a pooler that hands out connections.

    Such a pooler has no place for what a connection remembers between transactions, and is named
    by `disable_server_side_cursors`. It concerns the queries of `models/prepared.py` only.
    """
    return None if database.get("DISABLE_SERVER_SIDE_CURSORS") else PREPARE_THRESHOLD


def read_process() -> str:
    return os.environ.get(PROCESS, "")


def limit_waits(*, connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    """Make a new connection give up by itself when the server does not answer.

    The server's own timeout cannot reach us when the network drops all packets. Behind a proxy,
    packets are acknowledged although the server is gone.
    """
    seconds = settings.DATABASE_PATIENCE.answer
    if connection.vendor == "postgresql" and seconds is not None:
        inner = connection.connection
        inner.wait = partial(_wait, inner.wait, connection, seconds)


def _wait(
    wait: Any, connection: BaseDatabaseWrapper, seconds: float, *args: Any, **options: Any
) -> Any:
    status = connection.connection.info
    try:
        return wait(*args, **{"timeout": seconds, **options})
    except psycopg.OperationalError as error:
        if status.transaction_status != TransactionStatus.ACTIVE:
            raise
        # A late answer would be taken for the answer to the next statement.
        connection.close()
        raise psycopg.OperationalError(
            f"The database said nothing for {seconds:g} s; the connection is closed."
        ) from error
