"""Says how the queues and the processes that work them are doing."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.utils import timezone
from rq import Worker
from rq.cron import CronScheduler
from rq.scheduler import RQScheduler

from metrics_sync.models import PullRequest
from metrics_sync.models.states import SyncStatus
from metrics_sync.work.queues import BULK, MERGES, get_queue, reaching_redis

#: A process that was silent for longer is gone: an idle worker reports every 45 s, the clock
#: every 60 s.
SILENT_AFTER = timedelta(minutes=3)

#: How many of the queued rows, the oldest, are compared with the scheduled jobs.
MOST_COMPARED = 1000


@dataclass(frozen=True, slots=True)
class QueueState:
    """How one queue is doing. `oldest_at` is when the job that waits longest was enqueued."""

    name: str
    depth: int
    oldest_at: datetime | None
    workers: int
    #: Whether a process enqueues the jobs that wait for a time: retries and rate limits.
    has_scheduler: bool


def inspect_queue(name: str) -> QueueState:
    """Say how a queue is doing, with a handful of reads. Raises QueueUnavailableError."""
    with reaching_redis():
        queue = get_queue(name)
        oldest = queue.fetch_job(ids[0]) if (ids := queue.get_job_ids(0, 1)) else None
        workers = Worker.all(queue=queue)
        lock = RQScheduler.get_locking_key(name)
        return QueueState(
            name=name,
            depth=queue.count,
            oldest_at=oldest.enqueued_at if oldest else None,
            workers=sum(_is_recent(worker.last_heartbeat) for worker in workers),
            has_scheduler=bool(queue.connection.exists(lock)),
        )


def count_workers() -> int:
    """Return how many workers run, on whatever queue. Raises QueueUnavailableError."""
    with reaching_redis():
        workers = Worker.all(connection=get_queue(MERGES).connection)
        return sum(_is_recent(worker.last_heartbeat) for worker in workers)


def count_clocks() -> int:
    """Return how many clocks run (`manage.py rqcron`). Raises QueueUnavailableError."""
    with reaching_redis():
        clocks = CronScheduler.all(get_queue(MERGES).connection, cleanup=False)
        return sum(_is_recent(clock.last_heartbeat) for clock in clocks)


def _is_recent(moment: datetime | None) -> bool:
    if moment is None:
        return False
    return timezone.now() - moment.astimezone(UTC) < SILENT_AFTER


def find_oldest_unscheduled() -> datetime | None:
    """Return when the oldest row was queued whose job waits for a worker and for no moment.

    Compares MOST_COMPARED rows. Raises QueueUnavailableError.
    """
    queued = PullRequest.objects.filter(sync_status=SyncStatus.QUEUED, queued_at__isnull=False)
    rows = queued.order_by("queued_at").values_list("sync_job_id", "queued_at")[:MOST_COMPARED]
    scheduled: set[str] = set()
    with reaching_redis():
        for name in (MERGES, BULK):
            registry = get_queue(name).scheduled_job_registry
            scheduled |= set(registry.get_job_ids(cleanup=False))
    return next((queued_at for job_id, queued_at in rows if job_id not in scheduled), None)
