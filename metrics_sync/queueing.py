"""Puts work on the queues; the only module that knows django_rq."""

import logging
import random
from collections.abc import Iterable
from functools import cache
from uuid import uuid4

import django_rq
from django.conf import settings
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.job import Job, JobStatus

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.jobs import BULK, MERGES, fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository

__all__ = ["BULK", "MERGES", "enqueue_fetch", "enqueue_merge", "find_live_jobs", "ping"]

logger = logging.getLogger(__name__)

#: What RQ calls a job that will still run, or does.
LIVE = {JobStatus.QUEUED, JobStatus.STARTED, JobStatus.DEFERRED, JobStatus.SCHEDULED}

RETRY_AFTER_SECONDS = (60, 120, 240)
JITTER = 0.2


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
            retry=Retry(max=len(RETRY_AFTER_SECONDS), interval=_spread(RETRY_AFTER_SECONDS)),
        )
    except RedisError as error:
        pull_request.release_claim(job_id=job_id)
        raise QueueUnavailableError(
            f"Redis does not answer ({error}). Nothing is lost: {pull_request} stays pending, "
            "and reconcile queues it once Redis is back."
        ) from error
    return True


def enqueue_merge(pull_request: PullRequest) -> None:
    """Queue a pull request that has just merged; with Redis down it stays `pending`."""
    try:
        enqueue_fetch(pull_request, queue_name=MERGES)
    except QueueUnavailableError as error:
        logger.warning("%s", error)


def _get_queue(name: str) -> Queue:
    return _open_queue(name, settings.RQ_QUEUES[name]["URL"])


@cache
def _open_queue(name: str, url: str) -> Queue:
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


def ping() -> None:
    """Ask Redis for a sign of life. Raises QueueUnavailableError when there is none."""
    try:
        _get_queue(MERGES).connection.ping()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
