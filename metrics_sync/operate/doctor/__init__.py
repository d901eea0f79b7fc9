"""Checks the whole installation, and says of each part that it is ok or what to do."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from django.db import InterfaceError, OperationalError, connections

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.operate.doctor.arriving import check_deliveries
from metrics_sync.operate.doctor.configuration import check_settings
from metrics_sync.operate.doctor.credentials import check_credentials
from metrics_sync.operate.doctor.database import check_database, check_migrations, check_rows
from metrics_sync.operate.doctor.findings import Finding
from metrics_sync.operate.doctor.identities import check_identities
from metrics_sync.operate.doctor.processes import (
    check_processes,
    check_queues,
    check_redis,
    check_work,
)

__all__ = ["CHECKS", "Finding", "examine", "is_at_work"]

logger = logging.getLogger(__name__)

#: What is looked at, in the order in which causes come before what they cause.
CHECKS: Mapping[str, Callable[[], Sequence[Finding]]] = {
    "settings": check_settings,
    "database": check_database,
    "migrations": check_migrations,
    "redis": check_redis,
    "processes": check_processes,
    "queues": check_queues,
    "work": check_work,
    "rows": check_rows,
    "repositories": check_identities,
    "webhooks": check_deliveries,
    "tokens": check_credentials,
}
#: The groups of what they find, in the order in which they are shown.
GROUPS = [*CHECKS, "clock"]
#: How the names of the threads begin, of which one that hangs goes on.
THREADS = "doctor-"
#: How long all of it may take.
PATIENCE_SECONDS = 30


def examine(
    checks: Mapping[str, Callable[[], Sequence[Finding]]] = CHECKS,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[Finding]:
    """Run all checks at once; each fails alone, and one that takes too long is reported as such.

    Asks GitHub about a dozen requests for each token, and notes on the credentials what it says.
    """
    found: dict[str, Sequence[Finding]] = {}
    threads = [
        threading.Thread(
            target=_run, args=(name, check, found), name=f"{THREADS}{name}", daemon=True
        )
        for name, check in checks.items()
    ]
    deadline = time.monotonic() + patience_seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    silence = f"no answer within {patience_seconds:g} s"
    late = {name: [Finding(name, silence, "See what it waits for.")] for name in checks}
    findings = [finding for said in {**late, **found}.values() for finding in said]
    return sorted(findings, key=lambda finding: GROUPS.index(finding.group))


def is_at_work() -> bool:
    """Whether a check that took too long still runs."""
    return any(thread.name.startswith(THREADS) for thread in threading.enumerate())


def _run(
    name: str, check: Callable[[], Sequence[Finding]], found: dict[str, Sequence[Finding]]
) -> None:
    try:
        found[name] = check()
    except QueueUnavailableError:
        found[name] = [Finding(name, "not looked at", "Redis must answer first.")]
    except (OperationalError, InterfaceError):
        found[name] = [Finding(name, "not looked at", "The database must answer first.")]
    except Exception as error:
        logger.exception("The check of %s broke off", name)
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        found[name] = [Finding(name, reason, "The lines above may say why, else the log.")]
    finally:
        connections.close_all()
