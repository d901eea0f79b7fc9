"""Does Redis answer, are the processes of the Procfile alive, and does work move?"""

from datetime import datetime, timedelta

from django.utils import timezone

from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.github import CONCURRENT_REQUESTS
from metrics_sync.operate.doctor.findings import Finding, describe
from metrics_sync.work.counts import SilentEnds, read_silent_ends
from metrics_sync.work.inspecting import (
    QueueState,
    count_clocks,
    count_workers,
    find_oldest_unscheduled,
    inspect_queue,
)
from metrics_sync.work.queueing import BULK, MERGES
from metrics_sync.work.queues import ping
from metrics_sync.work.rounds import Round, read_rounds

#: How many requests GitHub takes at once of a user or an installation, REST and GraphQL together.
#: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits
MOST_AT_ONCE = 100

#: How long ago the last round of the clock may have ended.
LONGEST_ROUNDS = {"requeue_due": timedelta(minutes=10), "discover_lost": timedelta(hours=3)}
#: How long a row may be queued without having begun, unless it waits for a time.
LONGEST_QUEUED = timedelta(minutes=10)
#: So many workers may be killed in a day without anybody having to look.
FEW_SILENT_ENDS = 5
#: How long the oldest merge may wait for a worker.
LONGEST_WAIT = timedelta(minutes=5)


def check_redis() -> list[Finding]:
    """Ask Redis for a sign of life."""
    try:
        ping()
    except QueueUnavailableError as error:
        return [Finding("redis", str(error), "Start Redis, or correct REDIS_URL.")]
    return [Finding("redis", "answers")]


def check_processes() -> list[Finding]:
    """Look for workers, for the one of them that brings back waiting jobs, and for the clock."""
    states = [inspect_queue(name) for name in (MERGES, BULK)]
    return [
        *map(judge_workers, states),
        *map(judge_scheduler, states),
        judge_concurrency(count_workers()),
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
    clocks = count_clocks()
    if clocks == 1:
        return Finding("processes", "the clock runs")
    if clocks:
        return Finding(
            "processes", f"clocks that run: {clocks}", "Run `clock` once: more do no good."
        )
    return Finding("processes", "no clock runs", "Start `clock` of the Procfile, once.")


def check_work() -> list[Finding]:
    """Look whether the clock's rounds and all jobs come to their ends."""
    now = timezone.now()
    rounds, oldest = read_rounds(), find_oldest_unscheduled()
    return [
        *(judge_round(name, rounds.get(name), now=now) for name in LONGEST_ROUNDS),
        judge_waiting(oldest, now=now),
        judge_silent_ends(read_silent_ends(), now=now),
    ]


def judge_round(name: str, last: Round | None, *, now: datetime) -> Finding:
    """Say when a job of the clock came to its end last, and what it found; pure."""
    advice = "Check that `clock` and `worker` of the Procfile run, and read the log of `worker`."
    if last is None:
        return Finding("work", f"{name}: no round was completed yet", advice)
    ago = now - last.ended_at
    found = ", ".join(f"{count} {what}" for what, count in last.found.items())
    text = f"{name}: the last round ended {describe(ago)} ago: {found}"
    return Finding("work", text, advice if ago > LONGEST_ROUNDS[name] else "")


def judge_waiting(oldest: datetime | None, *, now: datetime) -> Finding:
    """Say how long the oldest row without a set time has waited for a worker; pure."""
    if oldest is None:
        return Finding("work", "no row waits for a worker")
    waits = now - oldest
    text = f"the oldest row has waited for a worker for {describe(waits)}"
    advice = "Check that `merges` and `worker` run, and that their jobs end (see below)."
    return Finding("work", text, advice if waits > LONGEST_QUEUED else "")


def judge_silent_ends(ends: SilentEnds, *, now: datetime) -> Finding:
    """Say how many jobs ended before they could say why, and why the last one did; pure."""
    text = f"jobs of the last 24 hours that ended without reporting an error: {ends.count_last_day}"
    if ends.last_at is None:
        return Finding("work", text)
    text += f", the last {describe(now - ends.last_at)} ago: {ends.last_reason}"
    advice = "A few are workers that were killed (memory?). If they go on, see the worker's log."
    return Finding("work", text, advice if ends.count_last_day > FEW_SILENT_ENDS else "")


def check_queues() -> list[Finding]:
    """Look at how long work waits."""
    now = timezone.now()
    merges, bulk = (inspect_queue(name) for name in (MERGES, BULK))
    return [judge_queue(merges, now=now, most=LONGEST_WAIT), judge_queue(bulk, now=now)]


def judge_queue(state: QueueState, *, now: datetime, most: timedelta | None = None) -> Finding:
    """Say how long a queue is and its oldest job waits; pure. Without `most` any time is fine."""
    if state.oldest_at is None:
        return Finding("queues", f"jobs that wait on {state.name}: {state.depth}")
    waits = now - state.oldest_at
    text = f"jobs that wait on {state.name}: {state.depth}, the oldest for {describe(waits)}"
    is_long = most is not None and waits > most
    return Finding("queues", text, "Start more workers (WORKERS)." if is_long else "")
