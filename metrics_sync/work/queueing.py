"""Puts fetches on the queues: each row is claimed once and becomes one job."""

import logging
import random
import re
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any
from uuid import uuid4

from rq import Queue, Retry, Worker
from rq.job import Job
from rq.results import Result

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.jobs import BULK, MERGES, fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.observe.tracing import get_trace, trace
from metrics_sync.work.queues import get_queue, reaching_redis
from metrics_sync.work.verification import verify_due

__all__ = [
    "BULK",
    "MERGES",
    "bring_forward",
    "count_free_places",
    "drop_scheduled",
    "enqueue_fetch",
    "enqueue_together",
    "enqueue_verification",
    "find_team_of_job",
    "make_job_prefix",
]

logger = logging.getLogger(__name__)

#: How many jobs may wait on the bulk queue for each worker there.
WAITING_FOR_EACH_WORKER = 200

RETRY_AFTER_SECONDS = (60, 120, 240)
JITTER = 0.2


def enqueue_fetch(pull_request: PullRequest, *, queue_name: str) -> bool:
    """Claim a pull request and put its job on a queue; False when another process has claimed it.

    Call it after the commit that wrote the row. The claim is one conditional UPDATE, so of a
    signal and two reconciles one wins. When Redis does not answer, the claim is given back, the row
    stays `pending` for reconcile, and QueueUnavailableError is raised. When the bulk queue is full,
    the row also stays `pending`, and the clock queues it later. One whose repository is not tracked
    becomes `untracked`.
    """
    job_id = _make_job_id(pull_request.team_id)
    if not pull_request.claim(job_id=job_id, if_tracked=True):
        if not TrackedRepository.objects.matching(pull_request).exists():
            pull_request.mark_untracked()
        return False
    try:
        with reaching_redis():
            queue = get_queue(queue_name)
            if queue_name == BULK and not _count_free_places(queue):
                return pull_request.release_claim(job_id=job_id)
            _enqueue(queue, pull_request, job_id=job_id)
    except QueueUnavailableError as error:
        pull_request.release_claim(job_id=job_id)
        raise QueueUnavailableError(
            f"{error} Nothing is lost: {pull_request} stays pending, and reconcile queues it once "
            "Redis is back."
        ) from error
    with trace(job_id=job_id, pull_request_id=str(pull_request.pk)):
        logger.info("Queued %s on %s", pull_request, queue_name)
    return True


def enqueue_together(
    pull_requests: Iterable[PullRequest], fetch: Callable[[str, list[int]], Any]
) -> int:
    """Claim pull requests of one repository for one job on the bulk queue; return how many.

    The job calls `fetch` with its own id and the keys of the rows. Rows that another process has
    claimed are left out. When Redis does not answer, the claims are given back, the rows stay
    `pending` for the clock, and QueueUnavailableError is raised.
    """
    rows = list(pull_requests)
    job_id = _make_job_id(rows[0].team_id) if rows else ""
    claimed = [row for row in rows if row.claim(job_id=job_id)]
    if not claimed:
        return 0
    what = f"{len(claimed)} pull requests of {claimed[0].github_repo}"
    pks = [row.pk for row in claimed]
    try:
        with reaching_redis():
            get_queue(BULK).enqueue(fetch, job_id, pks, job_id=job_id, description=f"fetch {what}")
    except QueueUnavailableError as error:
        for row in claimed:
            row.release_claim(job_id=job_id)
        raise QueueUnavailableError(
            f"{error} Nothing is lost: {what} stay pending, and reconcile queues them once Redis "
            "is back."
        ) from error
    logger.info("Queued %s on %s with job %s", what, BULK, job_id)
    return len(claimed)


def _enqueue(queue: Queue, pull_request: PullRequest, *, job_id: str) -> None:
    # Nothing else of this process's trace is handed on: a job of the clock has its own `job_id`.
    delivery_id = get_trace().get("delivery_id", "")
    ids = {"delivery_id": delivery_id, "pull_request_id": str(pull_request.pk)}
    queue.enqueue(
        fetch_pr_complete_data,
        pull_request.pk,
        job_id=job_id,
        description=f"fetch {pull_request}",
        meta={"trace": ids},
        retry=Retry(
            max=len(RETRY_AFTER_SECONDS),
            interval=_spread(RETRY_AFTER_SECONDS),
            enqueue_at_front=queue.name == MERGES,
        ),
    )


def _spread(seconds: tuple[int, ...]) -> list[int]:
    """Change each wait by up to a fifth, so that jobs that failed together return apart."""
    return [round(wait * random.uniform(1 - JITTER, 1 + JITTER)) for wait in seconds]


def _make_job_id(team_id: int) -> str:
    return f"{make_job_prefix(team_id)}{uuid4()}"


def make_job_prefix(team_id: int) -> str:
    """Return how the ids of a team's jobs begin, which tells them apart in Redis's lists."""
    return f"team-{team_id}-"


def find_team_of_job(job_id: str) -> int | None:
    """Return the id of the team whose pull request a job fetches; None for other jobs."""
    found = re.match(r"team-(\d+)-", job_id)
    return int(found[1]) if found else None


def enqueue_verification() -> None:
    """Have GitHub asked about doubted repositories now; without Redis the clock does it later."""
    try:
        with reaching_redis():
            get_queue(BULK).enqueue(verify_due, description="ask GitHub about repositories")
    except QueueUnavailableError as error:
        logger.warning("The clock will ask GitHub about repositories: %s", error)


def count_free_places() -> int:
    """Return how many more jobs the bulk queue takes. Raises QueueUnavailableError.

    The clock's own jobs and people's requests wait there too, and must not wait long.
    """
    with reaching_redis():
        return _count_free_places(get_queue(BULK))


def _count_free_places(queue: Queue) -> int:
    return max(0, WAITING_FOR_EACH_WORKER * max(1, Worker.count(queue=queue)) - queue.count)


def drop_scheduled(job_ids: Collection[str]) -> None:
    """Delete those of these jobs that wait for a moment: their rows are done.

    A job that is left, as Redis does not answer, finds its row done and ends.
    """
    try:
        with reaching_redis():
            for queue in map(get_queue, (MERGES, BULK)):
                for job_id in job_ids:
                    if queue.connection.zrem(queue.scheduled_job_registry.key, job_id):
                        results = Result.get_key(job_id)  # type: ignore[no-untyped-call]
                        queue.connection.delete(Job.key_for(job_id), results)
    except QueueUnavailableError as error:
        logger.warning("Jobs of rows that are done were not deleted: %s", error)


def bring_forward(job_ids: Iterable[str]) -> int:
    """Have the scheduled ones of these jobs run now; return how many were scheduled.

    Raises QueueUnavailableError.
    """
    now = {job_id: int(time.time()) for job_id in job_ids if job_id}
    if not now:
        return 0
    moved = 0
    with reaching_redis():
        for queue in map(get_queue, (MERGES, BULK)):
            key = queue.scheduled_job_registry.key
            moved += int(queue.connection.zadd(key, now, xx=True, lt=True, ch=True) or 0)
    return moved
