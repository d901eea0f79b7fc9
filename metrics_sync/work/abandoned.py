"""Finds rows whose job will not come, by what Redis holds."""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from rq import Queue
from rq.job import Job
from rq.utils import as_text

from metrics_sync.models import PullRequest
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.work.queues import BULK, MERGES, get_queue, reaching_redis

#: How long a job may wait on the queue of merges; after that the row moves to the bulk queue.
LONGEST_WAIT = timedelta(hours=1)
#: How late a scheduler may be, in seconds: another worker takes over from one that is gone.
LATEST_SCHEDULE = 600


def find_abandoned(rows: Collection[PullRequest]) -> list[PullRequest]:
    """Return the queued and running rows whose job will not come, or is gone.

    A queued row waits for a job that a list of Redis holds. The job's own hash does not tell: when
    a worker dies between taking a job and beginning it, the hash stays as it was. A running row is
    abandoned after STUCK_AFTER without a sign of life, and at once when RQ knows its job and no
    worker has it. Changes no row. Raises QueueUnavailableError, as without Redis nobody knows.
    """
    jobs = _read_jobs(row.sync_job_id for row in rows if row.sync_status == SyncStatus.RUNNING)
    now = timezone.now()
    return [row for row in rows if _is_abandoned(row, jobs, now)]


def _is_abandoned(row: PullRequest, jobs: "_Jobs", now: datetime) -> bool:
    job_id = row.sync_job_id
    if row.sync_status == SyncStatus.RUNNING:
        alive_at = row.heartbeat_at or row.fetch_started_at
        is_gone = job_id in jobs.known and job_id not in jobs.started
        return is_gone or alive_at is None or alive_at < now - STUCK_AFTER
    queued_at = row.queued_at
    if row.sync_status != SyncStatus.QUEUED or (queued_at and queued_at > now - STUCK_AFTER):
        return False
    if job_id in jobs.scheduled or job_id in jobs.bulk:
        return False
    is_late = queued_at is None or queued_at < now - LONGEST_WAIT
    return is_late or job_id not in jobs.merges | jobs.started


@dataclass(frozen=True, slots=True)
class _Jobs:
    """Which jobs Redis holds at one moment, and where."""

    merges: frozenset[str]
    bulk: frozenset[str]
    #: Their time has not come, or has come only just: if it were long over, no scheduler would run.
    scheduled: frozenset[str]
    #: A worker has them, and has given a sign of life for them.
    started: frozenset[str]
    #: Of the jobs asked for, those that Redis has any data of.
    known: frozenset[str]


def _read_jobs(asked: Iterable[str]) -> _Jobs:
    ids = [job_id for job_id in asked if job_id]
    now = time.time()
    with reaching_redis():
        queues = [get_queue(MERGES), get_queue(BULK)]
        # One transaction, so that no job is missed on its way from one list to the next.
        with queues[0].connection.pipeline(transaction=True) as pipeline:
            for queue in queues:
                scheduled, started = queue.scheduled_job_registry, queue.started_job_registry
                pipeline.lrange(queue.key, 0, -1)
                pipeline.lrange(queue.intermediate_queue_key, 0, -1)
                pipeline.zrangebyscore(scheduled.key, now - LATEST_SCHEDULE, "+inf")
                pipeline.zrangebyscore(started.key, now, "+inf")
            for job_id in ids:
                pipeline.exists(Job.key_for(job_id))
            replies = pipeline.execute()
        lists = [frozenset(map(as_text, reply)) for reply in replies[:8]]
        begun = frozenset(entry.rpartition(":")[0] for entry in lists[3] | lists[7])
        taken = [
            _drop_stranded(queue, job_ids - begun)
            for queue, job_ids in zip(queues, (lists[1], lists[5]), strict=True)
        ]
    known = frozenset(job_id for job_id, exists in zip(ids, replies[8:], strict=True) if exists)
    return _Jobs(lists[0], lists[4], lists[2] | lists[6], begun.union(*taken), known)


def _drop_stranded(queue: Queue, job_ids: Collection[str]) -> set[str]:
    """Drop jobs that a worker took more than a minute ago and did not begin.

    RQ marks when such a job was first seen; one without a mark gets it here.
    """
    marks = queue.intermediate_queue
    return {
        job_id
        for job_id in job_ids
        if marks.set_first_seen(job_id) or not marks.should_be_cleaned_up(job_id)
    }
