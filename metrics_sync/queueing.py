"""Puts work on the queues; the only module that knows django_rq."""

import json
import logging
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import uuid4

import django_rq
from django.conf import settings
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry, Worker
from rq.cron import CronScheduler
from rq.job import Job, JobStatus
from rq.scheduler import RQScheduler

from metrics_sync import counting
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.jobs import BULK, MERGES, fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.tracing import get_trace, trace

__all__ = [
    "BULK",
    "MERGES",
    "QueueState",
    "bring_forward",
    "count_clocks",
    "count_workers",
    "enqueue_fetch",
    "enqueue_merge",
    "find_live_jobs",
    "inspect_queue",
    "ping",
    "read_counts",
    "save_counts",
]

logger = logging.getLogger(__name__)

#: What RQ calls a job that will still run, or does.
LIVE = {JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED}

RETRY_AFTER_SECONDS = (60, 120, 240)
JITTER = 0.2

#: Processes that were silent for longer are gone: an idle worker is heard of every 45 s, the
#: clock every 60 s.
SILENT_AFTER = timedelta(minutes=3)

#: Where Redis adds up what all processes count, and for how long it is left alone after it did
#: not answer.
COUNTS_KEY = "metrics_sync:counts"
PAUSE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class QueueState:
    """How one queue does. `oldest_at` is when the job that waits longest was put there."""

    name: str
    depth: int
    oldest_at: datetime | None
    workers: int
    #: Whether a process brings back the jobs that wait for a time: retries and rate limits.
    has_scheduler: bool


def enqueue_fetch(pull_request: PullRequest, *, queue_name: str) -> bool:
    """Claim a pull request and put its job on a queue; False when somebody else has it.

    Call it after the commit that wrote the row. The claim is one conditional UPDATE, so of a
    signal and two reconciles one wins. With Redis down the claim is given back, the row stays
    `pending` for reconcile, and QueueUnavailableError is raised.
    """
    if not TrackedRepository.objects.matching(pull_request).exists():
        pull_request.mark_untracked()
        return False
    job_id = str(uuid4())
    if not pull_request.claim(job_id=job_id):
        return False
    try:
        _get_queue(queue_name).enqueue(
            fetch_pr_complete_data,
            pull_request.pk,
            job_id=job_id,
            description=f"fetch {pull_request}",
            meta={"trace": _build_job_trace(pull_request)},
            retry=Retry(max=len(RETRY_AFTER_SECONDS), interval=_spread(RETRY_AFTER_SECONDS)),
        )
    except RedisError as error:
        pull_request.release_claim(job_id=job_id)
        raise QueueUnavailableError(
            f"Redis does not answer ({error}). Nothing is lost: {pull_request} stays pending, "
            "and reconcile queues it once Redis is back."
        ) from error
    with trace(job_id=job_id, pull_request_id=str(pull_request.pk)):
        logger.info("Queued %s on %s", pull_request, queue_name)
    return True


def _build_job_trace(pull_request: PullRequest) -> dict[str, str]:
    """Name what the job works on and the delivery that caused it.

    Nothing else of this process is handed on: inside a job of the clock it has a `job_id` of its
    own, which is not the new job's.
    """
    delivery_id = get_trace().get("delivery_id", "")
    return {"delivery_id": delivery_id, "pull_request_id": str(pull_request.pk)}


def enqueue_merge(pull_request: PullRequest) -> None:
    """Queue a pull request that has just merged; with Redis down it stays `pending`."""
    source = "webhook" if "delivery_id" in get_trace() else "other"
    counting.count("merges", source=source)
    try:
        enqueue_fetch(pull_request, queue_name=MERGES)
    except QueueUnavailableError as error:
        logger.warning("%s", error)


def _get_queue(name: str) -> Queue:
    return _open_queue(name, repr(settings.RQ_QUEUES[name]))


@cache
def _open_queue(name: str, _configured: str) -> Queue:
    """Return the queue of this process, whose connections stay open and give up at once.

    A webhook's answer must not wait. What Redis has closed is opened again.
    """
    # At once, whatever the project's COMMIT_MODE: it is called after the commit, and must see a
    # dead Redis to hand the row back.
    queue = django_rq.get_queue(name, commit_mode="auto")
    queue.connection.set_retry(RedisRetry(NoBackoff(), 0))
    return queue


def _spread(seconds: tuple[int, ...]) -> list[int]:
    """Move each wait by up to a fifth, so that jobs that failed together do not return so."""
    return [round(wait * random.uniform(1 - JITTER, 1 + JITTER)) for wait in seconds]


def find_live_jobs(job_ids: Iterable[str]) -> set[str]:
    """Return those of the jobs that Redis still holds and will still run, or is running.

    Raises QueueUnavailableError when Redis cannot be asked: then nobody knows.
    """
    ids = [job_id for job_id in job_ids if job_id]
    try:
        jobs = Job.fetch_many(ids, connection=_get_queue(MERGES).connection) if ids else []
        return {job.id for job in jobs if job and job.get_status(refresh=False) in LIVE}
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def bring_forward(job_ids: Iterable[str]) -> int:
    """Have those of the jobs that wait for a time run now; return how many did wait.

    Raises QueueUnavailableError.
    """
    now = {job_id: int(time.time()) for job_id in job_ids if job_id}
    try:
        queues = [_get_queue(name) for name in (MERGES, BULK)] if now else []
        keys = [(queue.connection, queue.scheduled_job_registry.key) for queue in queues]
        return sum(int(redis.zadd(key, now, xx=True, lt=True, ch=True) or 0) for redis, key in keys)
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def ping() -> None:
    """Ask Redis for a sign of life. Raises QueueUnavailableError when there is none."""
    try:
        _get_queue(MERGES).connection.ping()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def inspect_queue(name: str) -> QueueState:
    """Say how a queue does, with a handful of reads. Raises QueueUnavailableError."""
    try:
        queue = _get_queue(name)
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
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def count_workers() -> int:
    """Return how many workers run, on whatever queue. Raises QueueUnavailableError."""
    try:
        workers = Worker.all(connection=_get_queue(MERGES).connection)
        return sum(_is_recent(worker.last_heartbeat) for worker in workers)
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def count_clocks() -> int:
    """Return how many clocks run (`manage.py rqcron`). Raises QueueUnavailableError."""
    try:
        clocks = CronScheduler.all(_get_queue(MERGES).connection, cleanup=False)
        return sum(_is_recent(clock.last_heartbeat) for clock in clocks)
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def _is_recent(moment: datetime | None) -> bool:
    if moment is None:
        return False
    return timezone.now() - moment.astimezone(UTC) < SILENT_AFTER


_wait_until = 0.0


def save_counts() -> None:
    """Add what this process has counted to what Redis holds of all of them.

    Call it when nobody waits any more. While Redis does not answer, the counts are kept here and
    it is asked again after ten seconds at the soonest: counting must not hold anything up.
    """
    global _wait_until  # noqa: PLW0603  (one answer for the whole process)
    if time.monotonic() < _wait_until:
        return
    counts = counting.take()
    if not counts:
        return
    try:
        with _get_queue(MERGES).connection.pipeline(transaction=True) as pipeline:
            for series, amount in counts.items():
                pipeline.hincrbyfloat(COUNTS_KEY, json.dumps(series), amount)
            pipeline.execute()
    except RedisError:
        counting.put_back(counts)
        _wait_until = time.monotonic() + PAUSE_SECONDS


def read_counts() -> dict[counting.Series, float]:
    """Return what all processes have counted since Redis was new. Raises QueueUnavailableError."""
    try:
        stored = _get_queue(MERGES).connection.hgetall(COUNTS_KEY)
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    return {_read_series(text): float(amount) for text, amount in stored.items()}


def _read_series(text: bytes | str) -> counting.Series:
    name, labels = json.loads(text)
    return name, tuple((label, value) for label, value in labels)
