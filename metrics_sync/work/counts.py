"""What all processes count together, through Redis."""

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.exceptions import RedisError
from rq.job import Job

from metrics_sync.observe import counting
from metrics_sync.work.queues import MERGES, get_queue, reaching_redis

logger = logging.getLogger(__name__)

COUNTS_KEY = "metrics_sync:counts"
#: Seconds to wait before trying Redis again.
PAUSE_SECONDS = 10
#: Seconds between two saves of a process that answers all the time.
SAVE_SECONDS = 1

#: The jobs that ended silently, by the moment of their end, and how many are kept at most.
SILENT_ENDS_KEY = "metrics_sync:silent_ends"
MOST_SILENT_ENDS = 1000
DAY_SECONDS = 86_400
LONGEST_REASON = 300

_wait_until = 0.0
_next_save_at = 0.0


def save_counts_of_answers() -> None:
    """Save the counts after an answer, unless this process has done so within the last second.

    They are then saved after the next answer or scrape, or as the process ends.
    """
    global _next_save_at  # noqa: PLW0603  (one answer for the whole process)
    if time.monotonic() >= _next_save_at:
        _next_save_at = time.monotonic() + SAVE_SECONDS
        save_counts()


def save_counts() -> None:
    """Add what this process has counted to the totals in Redis.

    Call it when nobody waits for this process any more. While Redis does not answer, the counts
    stay in the process, and Redis is tried again after ten seconds at the soonest: counting must
    not delay anything.
    """
    global _wait_until  # noqa: PLW0603  (one answer for the whole process)
    if time.monotonic() < _wait_until:
        return
    counts = counting.take()
    if not counts:
        return
    try:
        with get_queue(MERGES).connection.pipeline(transaction=True) as pipeline:
            for series, amount in counts.items():
                pipeline.hincrbyfloat(COUNTS_KEY, json.dumps(series), amount)
            pipeline.execute()
    except RedisError:
        counting.put_back(counts)
        _wait_until = time.monotonic() + PAUSE_SECONDS


def read_counts() -> dict[counting.Series, float]:
    """Return what all processes have counted since Redis was new. Raises QueueUnavailableError."""
    with reaching_redis():
        stored = get_queue(MERGES).connection.hgetall(COUNTS_KEY)
    return {_read_series(text): float(amount) for text, amount in stored.items()}


def _read_series(text: bytes | str) -> counting.Series:
    name, labels = json.loads(text)
    return name, tuple((label, value) for label, value in labels)


@dataclass(frozen=True, slots=True)
class SilentEnds:
    """Jobs whose process ended before it could say why; counted up to MOST_SILENT_ENDS."""

    count_last_day: int = 0
    last_reason: str = ""
    last_at: datetime | None = None


def note_silent_end(job: Job, reason: str) -> None:
    """Count a job that ended silently, and keep the reason for a day; never raises."""
    counting.count("jobs_ended_silently", queue=job.origin)
    now = time.time()
    ended = json.dumps({"job": job.id, "at": now, "reason": reason[:LONGEST_REASON]})
    try:
        with get_queue(MERGES).connection.pipeline(transaction=True) as pipeline:
            pipeline.zadd(SILENT_ENDS_KEY, {ended: now})
            pipeline.zremrangebyscore(SILENT_ENDS_KEY, 0, now - DAY_SECONDS)
            pipeline.zremrangebyrank(SILENT_ENDS_KEY, 0, -MOST_SILENT_ENDS - 1)
            pipeline.execute()
    except RedisError as error:
        logger.warning("The end of job %s could not be recorded (%s)", job.id, error)


def read_silent_ends() -> SilentEnds:
    """Return how many jobs ended silently in the last day, and the last one's reason.

    Raises QueueUnavailableError.
    """
    since = time.time() - DAY_SECONDS
    with reaching_redis(), get_queue(MERGES).connection.pipeline(transaction=True) as pipeline:
        pipeline.zcount(SILENT_ENDS_KEY, since, "+inf")
        pipeline.zrange(SILENT_ENDS_KEY, 0, 0, desc=True)
        count, newest = pipeline.execute()
    if not count:
        return SilentEnds()
    last = json.loads(newest[0])
    return SilentEnds(count, last["reason"], datetime.fromtimestamp(last["at"], UTC))
