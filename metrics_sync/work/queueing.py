"""Puts work on the queues; the only module that knows django_rq."""

import json
import logging
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import uuid4

import django_rq
from django.conf import settings
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.exceptions import LockError, RedisError
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry, Worker
from rq.cron import CronScheduler
from rq.job import Job
from rq.scheduler import RQScheduler
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.jobs import BULK, MERGES, fetch_pr_complete_data
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.pull_request import STUCK_AFTER, SyncStatus
from metrics_sync.observe import counting
from metrics_sync.observe.tracing import get_trace, trace
from metrics_sync.work.verification import verify_due

__all__ = [
    "BULK",
    "MERGES",
    "QueueState",
    "Round",
    "SilentEnds",
    "bring_forward",
    "count_clocks",
    "count_workers",
    "enqueue_fetch",
    "enqueue_merge",
    "enqueue_together",
    "enqueue_verification",
    "feed_merges",
    "find_abandoned",
    "find_oldest_unscheduled",
    "find_room",
    "find_team_of_job",
    "has_waiting_merges",
    "hold_round",
    "inspect_queue",
    "note_round",
    "note_silent_end",
    "ping",
    "read_counts",
    "read_rounds",
    "read_silent_ends",
    "save_counts",
]

logger = logging.getLogger(__name__)

#: How long a job may wait on the queue of merges; after that the bulk queue has the row.
LONGEST_WAIT = timedelta(hours=1)
#: How many jobs may wait on the bulk queue for each worker there.
WAITING_FOR_EACH_WORKER = 200
#: How late a scheduler may be, in seconds: another worker takes over from one that is gone.
LATEST_SCHEDULE = 600

RETRY_AFTER_SECONDS = (60, 120, 240)
JITTER = 0.2

#: Processes that were silent for longer are gone: an idle worker is heard of every 45 s, the
#: clock every 60 s.
SILENT_AFTER = timedelta(minutes=3)

#: Where Redis adds up what all processes count, and for how long it is left alone after it did
#: not answer.
COUNTS_KEY = "metrics_sync:counts"
PAUSE_SECONDS = 10


#: Where Redis keeps the jobs that ended without a word, by the moment of it, and how many at most.
SILENT_ENDS_KEY = "metrics_sync:silent_ends"
MOST_SILENT_ENDS = 1000

#: Where Redis keeps the last round of each of the clock's jobs.
ROUNDS_KEY = "metrics_sync:rounds"
#: Of so many queued rows, the oldest, it is asked which wait for a time.
MOST_LOOKED_AT = 1000
DAY_SECONDS = 86_400
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class SilentEnds:
    """Jobs whose process ended before it could say why; counted up to MOST_SILENT_ENDS."""

    count_last_day: int = 0
    last_reason: str = ""
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """A round of the clock that came to its end, and what it found."""

    ended_at: datetime
    found: dict[str, int]


@dataclass(frozen=True, slots=True)
class QueueState:
    """How one queue does. `oldest_at` is when the job that waits longest was put there."""

    name: str
    depth: int
    oldest_at: datetime | None
    workers: int
    #: Whether a process brings back the jobs that wait for a time: retries and rate limits.
    has_scheduler: bool


def enqueue_fetch(pull_request: PullRequest, *, queue_name: str, is_tracked: bool = False) -> bool:
    """Claim a pull request and put its job on a queue; False when somebody else has it.

    Call it after the commit that wrote the row. The claim is one conditional UPDATE, so of a
    signal and two reconciles one wins. With Redis down the claim is given back, the row stays
    `pending` for reconcile, and QueueUnavailableError is raised. On a bulk queue that is full the
    row stays `pending`, too, and the clock queues it in its turn. `is_tracked` says that the
    caller has looked whether its repository is tracked.
    """
    if not is_tracked and not TrackedRepository.objects.matching(pull_request).exists():
        pull_request.mark_untracked()
        return False
    job_id = _make_job_id(pull_request.team_id)
    if not pull_request.claim(job_id=job_id):
        return False
    queue = _get_queue(queue_name)
    try:
        if queue_name == BULK and not _count_room(queue):
            return pull_request.release_claim(job_id=job_id)
        queue.enqueue(
            fetch_pr_complete_data,
            pull_request.pk,
            job_id=job_id,
            description=f"fetch {pull_request}",
            meta={"trace": _build_job_trace(pull_request), "is_merge": queue_name == MERGES},
            retry=Retry(
                max=len(RETRY_AFTER_SECONDS),
                interval=_spread(RETRY_AFTER_SECONDS),
                enqueue_at_front=queue_name == MERGES,
            ),
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


def enqueue_together(
    pull_requests: Iterable[PullRequest], fetch: Callable[[str, list[int]], Any]
) -> int:
    """Claim pull requests for one job on the bulk queue, and return how many.

    The job calls `fetch` with its own name and the keys of the rows. Those that somebody else has
    are left out. With Redis down the claims are given back, the rows stay `pending` for the clock,
    and QueueUnavailableError is raised.
    """
    rows = list(pull_requests)
    job_id = _make_job_id(rows[0].team_id) if rows else ""
    claimed = [row for row in rows if row.claim(job_id=job_id)]
    if not claimed:
        return 0
    what = f"{len(claimed)} pull requests of {claimed[0].github_repo}"
    try:
        _get_queue(BULK).enqueue(
            fetch,
            job_id,
            [row.pk for row in claimed],
            job_id=job_id,
            description=f"fetch {what}",
        )
    except RedisError as error:
        for row in claimed:
            row.release_claim(job_id=job_id)
        raise QueueUnavailableError(
            f"Redis does not answer ({error}). Nothing is lost: {what} stay pending, and reconcile "
            "queues them once Redis is back."
        ) from error
    logger.info("Queued %s on %s with job %s", what, BULK, job_id)
    return len(claimed)


def _build_job_trace(pull_request: PullRequest) -> dict[str, str]:
    """Name what the job works on and the delivery that caused it.

    Nothing else of this process is handed on: inside a job of the clock it has a `job_id` of its
    own, which is not the new job's.
    """
    delivery_id = get_trace().get("delivery_id", "")
    return {"delivery_id": delivery_id, "pull_request_id": str(pull_request.pk)}


def enqueue_merge(pull_request: PullRequest) -> None:
    """Queue a pull request that has just merged, unless its team has its share of the workers.

    Then it stays `pending`, and `feed_merges` queues it in its turn; so it does with Redis down,
    until the clock finds it.
    """
    source = "webhook" if "delivery_id" in get_trace() else "other"
    counting.count("merges", source=source)
    try:
        slots = _read_merge_slots(pull_request.team_id)
        if slots.free and not slots.waiting:
            enqueue_fetch(pull_request, queue_name=MERGES)
        else:
            _get_queue(MERGES).connection.rpush(
                _get_turns_key(pull_request.team_id), pull_request.pk
            )
            feed_merges(pull_request.team_id)
    except (QueueUnavailableError, RedisError) as error:
        logger.warning("%s stays pending, and the clock will queue it: %s", pull_request, error)


def feed_merges(team_id: int) -> None:
    """Queue the merges of a team that wait for their turn, as far as its share goes.

    Whoever ends a job of the team's calls it. Of a merge that is lost here the row stays
    `pending`, which the clock finds. Raises QueueUnavailableError.
    """
    while _read_merge_slots(team_id).free:
        try:
            pk: Any = _get_queue(MERGES).connection.lpop(_get_turns_key(team_id))
        except RedisError as error:
            raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
        if pk is None:
            return
        waiting = PullRequest.objects.merged().filter(sync_status=SyncStatus.PENDING)
        if row := waiting.filter(pk=int(pk)).first():
            enqueue_fetch(row, queue_name=MERGES)


def has_waiting_merges(team_id: int) -> bool:
    """Whether merges of a team wait for their turn. Raises QueueUnavailableError."""
    try:
        return bool(_get_queue(MERGES).connection.exists(_get_turns_key(team_id)))
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


@dataclass(frozen=True, slots=True)
class _MergeSlots:
    """How many more jobs a team may have on the queue of merges, and how many wait for it."""

    free: int
    waiting: int


def _read_merge_slots(team_id: int) -> _MergeSlots:
    """Look at a team's share: all workers of the queue but one, which is left for the others.

    Workers that take bulk work, too, may be held by it, so they count only where no others are.
    """
    try:
        queue = _get_queue(MERGES)
        with queue.connection.pipeline(transaction=True) as pipeline:
            pipeline.lrange(queue.key, 0, -1)
            pipeline.lrange(queue.intermediate_queue_key, 0, -1)
            pipeline.zrangebyscore(queue.started_job_registry.key, time.time(), "+inf")
            pipeline.smembers(WORKERS_BY_QUEUE_KEY % queue.name)
            pipeline.smembers(WORKERS_BY_QUEUE_KEY % BULK)
            pipeline.llen(_get_turns_key(team_id))
            listed, taken, begun, workers, of_bulk, waiting = pipeline.execute()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    ids = {as_text(entry).partition(":")[0] for entry in (*listed, *taken, *begun)}
    in_flight = sum(job_id.startswith(_make_job_prefix(team_id)) for job_id in ids)
    share = max(1, len(workers - of_bulk or workers) - 1)
    return _MergeSlots(max(0, share - in_flight), waiting)


def _make_job_id(team_id: int) -> str:
    """Name the team, so that its jobs can be told from Redis's lists alone."""
    return f"{_make_job_prefix(team_id)}{uuid4()}"


def _make_job_prefix(team_id: int) -> str:
    return f"team-{team_id}-"


def find_team_of_job(job_id: str) -> int | None:
    """Return the id of the team whose pull request a job fetches; None for other jobs."""
    found = re.match(r"team-(\d+)-", job_id)
    return int(found[1]) if found else None


def _get_turns_key(team_id: int) -> str:
    return f"metrics_sync:turns:{team_id}"


def enqueue_verification() -> None:
    """Have GitHub asked about doubted repositories now; with Redis down the clock does it."""
    try:
        _get_queue(BULK).enqueue(verify_due, description="ask GitHub about repositories")
    except RedisError as error:
        logger.warning("Redis does not answer (%s); the clock asks about repositories", error)


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


def find_abandoned(rows: Collection[PullRequest]) -> list[PullRequest]:
    """Return those of the queued and running rows whose job will not come, or is gone.

    A queued row waits for a job that a list of Redis holds, whatever the job's own hash says:
    when a worker dies between taking a job and beginning it, the hash stays as it was. A running
    row is let go after STUCK_AFTER without a sign of life, and at once when RQ knows its job and
    nobody works on it. Changes no row. Raises QueueUnavailableError: then nobody knows.
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
    #: Their time has not come, or not for long: otherwise no scheduler runs.
    scheduled: frozenset[str]
    #: Those that a worker has, and has given a sign of life for.
    started: frozenset[str]
    #: Of the jobs asked for, those that Redis has anything of at all.
    known: frozenset[str]


def _read_jobs(asked: Iterable[str]) -> _Jobs:
    ids = [job_id for job_id in asked if job_id]
    now = time.time()
    try:
        queues = [_get_queue(MERGES), _get_queue(BULK)]
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
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    known = frozenset(job_id for job_id, exists in zip(ids, replies[8:], strict=True) if exists)
    return _Jobs(lists[0], lists[4], lists[2] | lists[6], begun.union(*taken), known)


def _drop_stranded(queue: Queue, job_ids: Collection[str]) -> set[str]:
    """Leave out jobs that a worker took more than a minute ago and did not begin.

    RQ's own marks say when one was first seen so; what is new is marked.
    """
    marks = queue.intermediate_queue
    return {
        job_id
        for job_id in job_ids
        if marks.set_first_seen(job_id) or not marks.should_be_cleaned_up(job_id)
    }


@contextmanager
def hold_round(name: str, *, lasts: timedelta) -> Iterator[Callable[[], bool] | None]:
    """Let one process at a time do what is named; None when another one does it.

    Yields a function that says whether to go on, to be called more often than every `lasts`:
    a holder that died holds nothing for longer. One that was slower goes on if nobody else has
    begun. Raises QueueUnavailableError.
    """
    lock = _get_queue(MERGES).connection.lock(
        f"metrics_sync:round:{name}", timeout=lasts.total_seconds(), blocking=False
    )

    def go_on() -> bool:
        with suppress(RedisError):
            try:
                return bool(lock.reacquire())
            except LockError:
                return bool(lock.acquire())
        return False

    try:
        is_mine = lock.acquire()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    try:
        yield go_on if is_mine else None
    finally:
        if is_mine:
            with suppress(LockError, RedisError):
                lock.release()


def find_room() -> int:
    """Return how many more jobs the bulk queue takes. Raises QueueUnavailableError.

    The clock's own jobs, and what people ask for, wait there too: for a few minutes at most.
    """
    try:
        return _count_room(_get_queue(BULK))
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error


def _count_room(queue: Queue) -> int:
    return max(0, WAITING_FOR_EACH_WORKER * max(1, Worker.count(queue=queue)) - queue.count)


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


def note_silent_end(job: Job, reason: str) -> None:
    """Count a job that ended without a word, and keep the reason for a day; never raises."""
    counting.count("jobs_ended_silently", queue=job.origin)
    now = time.time()
    ended = json.dumps({"job": job.id, "at": now, "reason": reason[:LONGEST_REASON]})
    try:
        with _get_queue(MERGES).connection.pipeline(transaction=True) as pipeline:
            pipeline.zadd(SILENT_ENDS_KEY, {ended: now})
            pipeline.zremrangebyscore(SILENT_ENDS_KEY, 0, now - DAY_SECONDS)
            pipeline.zremrangebyrank(SILENT_ENDS_KEY, 0, -MOST_SILENT_ENDS - 1)
            pipeline.execute()
    except RedisError as error:
        logger.warning("The end of job %s could not be noted (%s)", job.id, error)


def note_round(name: str, **found: int) -> None:
    """Keep that a round of the clock came to its end, and what it found; never raises."""
    ended = json.dumps({"at": time.time(), "found": found})
    try:
        _get_queue(MERGES).connection.hset(ROUNDS_KEY, name, ended)
    except RedisError as error:
        logger.warning("The end of a round (%s) could not be noted (%s)", name, error)


def read_rounds() -> dict[str, Round]:
    """Return the last round of each name. Raises QueueUnavailableError."""
    try:
        stored = _get_queue(MERGES).connection.hgetall(ROUNDS_KEY)
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    ended = {as_text(name): json.loads(text) for name, text in stored.items()}
    return {
        name: Round(datetime.fromtimestamp(entry["at"], UTC), entry["found"])
        for name, entry in ended.items()
    }


def find_oldest_unscheduled() -> datetime | None:
    """Return since when the oldest row is queued whose job waits for no time but for a worker.

    Looks at MOST_LOOKED_AT rows. Raises QueueUnavailableError.
    """
    queued = PullRequest.objects.filter(sync_status=SyncStatus.QUEUED, queued_at__isnull=False)
    rows = queued.order_by("queued_at").values_list("sync_job_id", "queued_at")[:MOST_LOOKED_AT]
    scheduled: set[str] = set()
    try:
        for name in (MERGES, BULK):
            registry = _get_queue(name).scheduled_job_registry
            scheduled |= set(registry.get_job_ids(cleanup=False))
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    return next((queued_at for job_id, queued_at in rows if job_id not in scheduled), None)


def read_silent_ends() -> SilentEnds:
    """Return how many jobs ended without a word in the last day, and the last one's reason.

    Raises QueueUnavailableError.
    """
    since = time.time() - DAY_SECONDS
    try:
        with _get_queue(MERGES).connection.pipeline(transaction=True) as pipeline:
            pipeline.zcount(SILENT_ENDS_KEY, since, "+inf")
            pipeline.zrange(SILENT_ENDS_KEY, 0, 0, desc=True)
            count, newest = pipeline.execute()
    except RedisError as error:
        raise QueueUnavailableError(f"Redis does not answer ({error}).") from error
    if not count:
        return SilentEnds()
    last = json.loads(newest[0])
    return SilentEnds(count, last["reason"], datetime.fromtimestamp(last["at"], UTC))
