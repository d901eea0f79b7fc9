"""Does Redis answer, are the processes of the Procfile alive, and does work move?"""

from datetime import datetime, timedelta

from django.utils import timezone

from metrics_sync import queueing
from metrics_sync.doctor.findings import Finding, describe
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.github import CONCURRENT_REQUESTS
from metrics_sync.queueing import QueueState

#: How many requests GitHub takes at once of a user or an installation, REST and GraphQL together.
#: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
MOST_AT_ONCE = 100
#: How long the oldest merge may wait for a worker.
LONGEST_WAIT = timedelta(minutes=5)


def check_redis() -> list[Finding]:
    """Ask Redis for a sign of life."""
    try:
        queueing.ping()
    except QueueUnavailableError as error:
        return [Finding("redis", str(error), "Start Redis, or correct REDIS_URL.")]
    return [Finding("redis", "answers")]


def check_processes() -> list[Finding]:
    """Look for workers, for the one of them that brings back waiting jobs, and for the clock."""
    states = [queueing.inspect_queue(name) for name in (queueing.MERGES, queueing.BULK)]
    return [
        *map(judge_workers, states),
        *map(judge_scheduler, states),
        judge_concurrency(queueing.count_workers()),
        _check_clocks(),
    ]


def judge_workers(state: QueueState) -> Finding:
    """Say whether somebody works on a queue; pure."""
    text = f"workers on {state.name}: {state.workers}"
    advice = "" if state.workers else "Start `worker` of the Procfile."
    return Finding("processes", text, advice)


def judge_concurrency(workers: int) -> Finding:
    """Say whether GitHub takes what all workers may ask at once with one token; pure."""
    at_once = workers * CONCURRENT_REQUESTS
    text = f"requests that {workers} workers may have under way with one token: {at_once}"
    if at_once <= MOST_AT_ONCE:
        return Finding("processes", text)
    return Finding(
        "processes",
        f"{text}; GitHub takes {MOST_AT_ONCE}",
        f"Run {MOST_AT_ONCE // CONCURRENT_REQUESTS} workers for each user or installation of the "
        "GitHub App that repositories are read with; with more, GitHub makes them pause at times.",
    )


def judge_scheduler(state: QueueState) -> Finding:
    """Say whether retries and parked jobs come back; pure."""
    if state.has_scheduler:
        return Finding("processes", f"a worker brings back jobs of {state.name} that wait")
    return Finding(
        "processes",
        f"no worker brings back jobs of {state.name} that wait (retries, rate limits)",
        "Start `worker` of the Procfile; a worker started otherwise needs --with-scheduler.",
    )


def _check_clocks() -> Finding:
    clocks = queueing.count_clocks()
    if clocks == 1:
        return Finding("processes", "the clock runs")
    if clocks:
        return Finding(
            "processes", f"clocks that run: {clocks}", "Run `clock` once: more do no good."
        )
    return Finding("processes", "no clock runs", "Start `clock` of the Procfile, once.")


def check_queues() -> list[Finding]:
    """Look at how long work waits."""
    now = timezone.now()
    merges, bulk = (queueing.inspect_queue(name) for name in (queueing.MERGES, queueing.BULK))
    return [judge_queue(merges, now=now, most=LONGEST_WAIT), judge_queue(bulk, now=now)]


def judge_queue(state: QueueState, *, now: datetime, most: timedelta | None = None) -> Finding:
    """Say how long a queue is and its oldest job waits; pure. Without `most` any time is fine."""
    if state.oldest_at is None:
        return Finding("queues", f"jobs that wait on {state.name}: {state.depth}")
    waits = now - state.oldest_at
    text = f"jobs that wait on {state.name}: {state.depth}, the oldest for {describe(waits)}"
    is_long = most is not None and waits > most
    return Finding("queues", text, "Start more workers (WORKERS)." if is_long else "")
