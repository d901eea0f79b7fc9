"""How long this process waits for PostgreSQL, by what the process is."""

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

#: Where the entry points leave what the process is: `web`, or the name of a command.
PROCESS = "METRICS_SYNC_PROCESS"

#: When a connection that nobody answers on is given up: after 25 silent seconds, or when what was
#: sent is not acknowledged for 20.
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
    """Seconds that this process waits at most; 0 is for ever."""

    connect: int
    #: For a row that somebody else has locked.
    lock: float
    statement: float
    #: How long PostgreSQL keeps a transaction open, and its locks, of which it hears nothing.
    silence: float

    @property
    def answer(self) -> float | None:
        """For anything at all: a statement is cancelled by the server, if that can still speak."""
        return self.statement + 1 if self.statement else None


def find_patience(process: str, *, statement_seconds: float) -> Patience:
    """Return how long a process waits.

    GitHub waits ten seconds for `web`. A migration takes what it takes. Everything else has
    `statement_seconds`.
    """
    if process == "migrate":
        return Patience(connect=5, lock=0, statement=0, silence=0)
    if process == "web":
        statement = min(4, statement_seconds)
        return Patience(connect=3, lock=min(3, statement), statement=statement, silence=10)
    return Patience(connect=5, lock=statement_seconds / 2, statement=statement_seconds, silence=60)


def build_options(patience: Patience) -> dict[str, Any]:
    """Return what libpq is told, beside which that of DATABASE_URL has precedence."""
    milliseconds = {
        "statement_timeout": patience.statement * 1000,
        "lock_timeout": patience.lock * 1000,
        "idle_in_transaction_session_timeout": patience.silence * 1000,
    }
    options = " ".join(f"-c {name}={value:.0f}" for name, value in milliseconds.items())
    return {**KEEPALIVE, "connect_timeout": patience.connect, "options": options}


def read_process() -> str:
    return os.environ.get(PROCESS, "")


def limit_waits(*, connection: BaseDatabaseWrapper, **_signal: Any) -> None:
    """Have a new connection give up by itself when the server says nothing any more.

    A network that swallows everything lets no word of the server through either, and between a
    proxy and us the packets are acknowledged as ever.
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
        # What the server answers later would be taken for the answer to something else.
        connection.close()
        raise psycopg.OperationalError(
            f"The database said nothing for {seconds:g} s; the connection is closed."
        ) from error
