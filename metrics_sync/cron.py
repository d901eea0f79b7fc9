"""What the clock does, for `manage.py rqcron metrics_sync.cron`."""

from collections.abc import Callable
from typing import Any

from rq import cron

from metrics_sync.conf import app_settings
from metrics_sync.heal.bulk_merges import enqueue_waiting
from metrics_sync.heal.discovery import discover_lost
from metrics_sync.heal.reconcile import requeue_due, requeue_nameless
from metrics_sync.heal.releasing import release_refused
from metrics_sync.heal.remeasuring import remeasure_outdated
from metrics_sync.heal.retention import prune
from metrics_sync.jobs import BULK, MERGES
from metrics_sync.operate.notifying import report_changes
from metrics_sync.operate.weekly_digest import send_digests
from metrics_sync.work.verification import verify_due

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def _every(
    seconds: int, function: Callable[[], Any], *, queue: str = BULK, ttl: int | None = None
) -> None:
    """Run a function when the clock starts, and then at this interval divided by CLOCK_SPEEDUP.

    Functions run on the bulk queue, so that no merge waits for the clock, except the one for which
    merges wait. It is dropped if no worker takes it for `ttl` seconds; else, after a night without
    workers, thousands of it would be before the first merge. RQ's own limit of three minutes may be
    too short for many repositories or old rows.
    """
    interval = max(1, round(seconds / app_settings.CLOCK_SPEEDUP))
    cron.register(function, queue, interval=interval, job_timeout=HOUR, ttl=ttl)


_every(10, enqueue_waiting, queue=MERGES, ttl=MINUTE)
_every(MINUTE, requeue_due)
_every(MINUTE, verify_due)
_every(5 * MINUTE, remeasure_outdated)
_every(10 * MINUTE, report_changes)
_every(HOUR, discover_lost)
_every(HOUR, requeue_nameless)
_every(HOUR, release_refused)
_every(HOUR, send_digests)
_every(DAY, prune)
