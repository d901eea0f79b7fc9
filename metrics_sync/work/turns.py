"""Lets the teams' merges take turns: a team with many leaves a worker for the others."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.models import PullRequest
from metrics_sync.models.states import SyncStatus
from metrics_sync.observe import counting
from metrics_sync.observe.tracing import get_trace
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch, make_job_prefix
from metrics_sync.work.queues import get_queue, reaching_redis

logger = logging.getLogger(__name__)


def enqueue_merge(pull_request: PullRequest) -> None:
    """Queue a pull request that has just merged, unless its team has its share of the workers.

    Then the row stays `pending` until `enqueue_waiting_merges` queues it. When Redis does not
    answer, it stays `pending` until the clock finds it. Raises nothing of Redis.
    """
    source = "webhook" if "delivery_id" in get_trace() else "other"
    counting.count("merges", source=source)
    team_id = pull_request.team_id
    try:
        places = _count_places(team_id)
        if places.free and not places.waiting:
            enqueue_fetch(pull_request, queue_name=MERGES)
        else:
            # Not just any `pending` row may take a turn: discovered merges wait there, too, and
            # belong on the bulk queue. So Redis keeps a list of those that have one.
            with reaching_redis():
                get_queue(MERGES).connection.rpush(_get_turns_key(team_id), pull_request.pk)
            enqueue_waiting_merges(team_id)
    except QueueUnavailableError as error:
        logger.warning("%s stays pending, and the clock will queue it: %s", pull_request, error)


def enqueue_waiting_merges(team_id: int) -> None:
    """Queue merges of a team that wait for their turn, as many as its share allows.

    Call it whenever a job of the team ends. If this process dies in between, the row stays
    `pending` and the clock finds it. Raises QueueUnavailableError.
    """
    # Most teams have none that waits, and to count the places takes whole lists.
    while has_waiting_merges(team_id) and _count_places(team_id).free:
        with reaching_redis():
            pk: Any = get_queue(MERGES).connection.lpop(_get_turns_key(team_id))
        if pk is None:
            return
        waiting = PullRequest.objects.merged().filter(sync_status=SyncStatus.PENDING)
        if row := waiting.filter(pk=int(pk)).first():
            enqueue_fetch(row, queue_name=MERGES)


def enqueue_for_team(team_id: int, function: Callable[..., Any], *args: Any) -> bool:
    """Queue a job that fetches many merges of a team; False while the team has its share of jobs.

    Raises QueueUnavailableError.
    """
    if not _count_places(team_id).free:
        return False
    job_id = f"{make_job_prefix(team_id)}{uuid4()}"
    with reaching_redis():
        get_queue(MERGES).enqueue(function, *args, job_id=job_id)
    return True


def has_waiting_merges(team_id: int) -> bool:
    """Whether merges of a team wait for their turn. Raises QueueUnavailableError."""
    with reaching_redis():
        return bool(get_queue(MERGES).connection.exists(_get_turns_key(team_id)))


@dataclass(frozen=True, slots=True)
class _Places:
    """How many more jobs a team may have on the queue of merges, and how many wait for one."""

    free: int
    waiting: int


def _count_places(team_id: int) -> _Places:
    """Compare a team's jobs with its share: all workers of the queue but one.

    Workers that also take bulk work may be busy with it, so they count only where no others are.
    The jobs are counted in RQ's own lists, which stay right whatever process dies.
    """
    with reaching_redis():
        queue = get_queue(MERGES)
        with queue.connection.pipeline(transaction=True) as pipeline:
            pipeline.lrange(queue.key, 0, -1)
            pipeline.lrange(queue.intermediate_queue_key, 0, -1)
            pipeline.zrangebyscore(queue.started_job_registry.key, time.time(), "+inf")
            pipeline.smembers(WORKERS_BY_QUEUE_KEY % queue.name)
            pipeline.smembers(WORKERS_BY_QUEUE_KEY % BULK)
            pipeline.llen(_get_turns_key(team_id))
            listed, taken, begun, workers, of_bulk, waiting = pipeline.execute()
    ids = {as_text(entry).partition(":")[0] for entry in (*listed, *taken, *begun)}
    in_flight = sum(job_id.startswith(make_job_prefix(team_id)) for job_id in ids)
    share = max(1, len(workers - of_bulk or workers) - 1)
    return _Places(max(0, share - in_flight), waiting)


def _get_turns_key(team_id: int) -> str:
    return f"metrics_sync:turns:{team_id}"
