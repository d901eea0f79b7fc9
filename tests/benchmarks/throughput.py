"""Jobs per second of one worker with no latency at GitHub, beside empty jobs."""

from collections import Counter
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any

import django_rq
import psutil
from django.db import connection
from rq.job import Job

from metrics_sync.models import PullRequest
from metrics_sync.work.queueing import MERGES, enqueue_fetch
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import MANAGE, Stage, count_cpu_seconds, wait_for

ROUNDS = 4
BATCH = 20
#: The workers of the Procfile's process for merges; their fetches before and in the measurement.
WORKERS = 3
WARM_UP, MEASURED = 20, 100


def measure(stage: Stage) -> list[Figure]:
    """Let one worker run batches of both kinds in turn, all queued before it starts."""
    queue = django_rq.get_queue(MERGES)
    ids: list[str] = []
    for _ in range(ROUNDS):
        rows = [stage.add_row(recording) for recording in stage.take(BATCH)]
        for row in rows:
            enqueue_fetch(row, queue_name=MERGES)
        ids += [row.sync_job_id for row in rows]
        ids += [queue.enqueue("time.time", result_ttl=3600).id for _ in range(BATCH)]
    with stage.open_redis() as redis:
        queued = _measure_memory(redis, ids[:BATCH])
        with stage.run_worker() as worker:
            wait_for(lambda: queue.count == 0, "the queue to be empty", pause=0.5)
            stage.wait_until_idle()
            before = _count_cpu(stage, worker)
            commands = _count_commands(stage, redis)
            spent = {
                part: (seconds - before[part]) * 1000 / BATCH
                for part, seconds in _count_cpu(stage, worker).items()
            }
        done = _measure_memory(redis, ids[:BATCH])
    ended = [_find_end(job) for job in Job.fetch_many(ids, connection=queue.connection)]
    ends = [ended[number] for number in range(BATCH - 1, len(ended), BATCH)]
    # The first batch began before the measurement did, so it only warms up.
    seconds = [(end - begin).total_seconds() for begin, end in pairwise(ends)]
    cores = psutil.cpu_count() or 1
    nothing, fetches = (BATCH / median(seconds[start::2]) for start in (0, 1))
    return [
        Figure(
            "jobs a second, one worker", fetches, "/s", "jobs that do nothing", nothing, at_least=25
        ),
        *(Figure(f"CPU of a job: {part}", cpu, "ms") for part, cpu in spent.items()),
        Figure("jobs a second, all cores busy", 1000 * cores / sum(spent.values()), "/s"),
        Figure(
            f"jobs a second, the process for merges with {WORKERS} workers",
            _measure_pool(stage),
            "/s",
            at_least=25,
        ),
        Figure("Redis commands of a fetch, queueing included", commands, ""),
        Figure("Redis memory of a queued job", queued / 1024, "KiB"),
        Figure("Redis memory of a job that is done", done / 1024, "KiB"),
    ]


def _measure_pool(stage: Stage) -> float:
    """Let the Procfile's process for merges fetch what was queued before, and return its rate."""
    rows = [stage.add_row(recording) for recording in stage.take(WARM_UP + MEASURED)]
    for row in rows:
        enqueue_fetch(row, queue_name=MERGES)
    command = [*MANAGE, "rqworker-pool", MERGES, "--num-workers", str(WORKERS)]
    complete = PullRequest.objects.filter(pk__in=[row.pk for row in rows], sync_status="complete")
    with stage.run(*command):
        wait_for(lambda: complete.count() == len(rows), "the fetches to be complete", pause=0.5)
    ends = sorted(complete.values_list("completed_at", flat=True))
    return MEASURED / (ends[-1] - ends[WARM_UP - 1]).total_seconds()


def _count_commands(stage: Stage, redis: Any) -> float:
    """Count Redis commands while the idle worker fetches; only the database is polled meanwhile."""
    before = int(redis.info("stats")["total_commands_processed"])
    rows = [stage.add_row(recording) for recording in stage.take(BATCH)]
    for row in rows:
        enqueue_fetch(row, queue_name=MERGES)
    complete = PullRequest.objects.filter(pk__in=[row.pk for row in rows], sync_status="complete")
    wait_for(lambda: complete.count() == BATCH, "the fetches to be complete")
    stage.wait_until_idle()
    return (int(redis.info("stats")["total_commands_processed"]) - before) / BATCH


def _count_cpu(stage: Stage, worker: psutil.Process) -> Counter[str]:
    """Return the processor seconds so far of the processes that a job keeps busy."""
    with stage.open_redis() as redis:
        used = redis.info("cpu")
    spent = Counter(
        {
            "worker, work-horse": count_cpu_seconds(worker),
            "Redis": float(used["used_cpu_user"] + used["used_cpu_sys"]),
        }
    )
    names = {
        "pretend GitHub": f"metrics_sync.sandbox --load {stage.folder}",
        "PostgreSQL": f" {connection.settings_dict['NAME']} ",
    }
    for process in psutil.process_iter(["cmdline", "cpu_times"]):
        line = " ".join(process.info["cmdline"] or [])
        for part, name in names.items():
            if name in line:
                times = process.info["cpu_times"]
                spent[part] += times.user + times.system
    return spent


def _find_end(job: Job | None) -> datetime:
    assert job is not None
    assert job.ended_at is not None
    return job.ended_at


def _measure_memory(redis: Any, ids: list[str]) -> float:
    """Return the bytes that Redis holds for each job and its result."""
    keys = [f"rq:{kind}:{job_id}" for job_id in ids for kind in ("job", "results")]
    return sum(int(redis.memory_usage(key) or 0) for key in keys) / len(ids)
