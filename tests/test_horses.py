"""A worker's job process (RQ's horse): when it runs another job, and when a new one is forked."""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from redis import Redis
from rq import Queue
from rq.job import Job

from metrics_sync.work import horses
from metrics_sync.work.horses import Horse
from metrics_sync.work.queueing import MERGES
from tests.conftest import Workers, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def grow() -> int:
    """Use more memory than an ordinary job does, and return the process id."""
    return len(bytearray(2 * horses.MOST_GROWTH_MB * 1024**2)) and os.getpid()


def crash() -> None:
    """End as the kernel ends a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def queue(redis: Redis, workers: Workers) -> Queue:
    redis.flushdb()
    return Queue(MERGES, connection=redis)


def test_one_process_runs_one_job_after_another(queue: Queue, workers: Workers) -> None:
    """A new one for each costs more than the fetch."""
    jobs = [queue.enqueue(os.getpid) for _ in range(3)]

    workers.drain()

    assert len({job.return_value() for job in jobs}) == 1


@pytest.mark.long(seconds=3)
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        pytest.param(grow, (), id="much memory"),
        pytest.param("math.sqrt", (-1,), id="an error"),
        pytest.param(crash, (), id="a crash"),
    ],
)
def test_job_after_one_that_did_harm_has_a_process_of_its_own(
    queue: Queue, workers: Workers, function: Callable[..., Any] | str, arguments: tuple[Any, ...]
) -> None:
    """What one job leaves behind must not reach the next."""
    before = queue.enqueue(os.getpid)
    queue.enqueue(function, *arguments)
    after = [queue.enqueue(os.getpid) for _ in range(2)]

    workers.drain()

    pids = [job.return_value() for job in (before, *after)]
    assert None not in pids
    assert pids[0] != pids[1] == pids[2]


@pytest.mark.long(seconds=4)
def test_every_job_has_its_timeout(queue: Queue, workers: Workers) -> None:
    """The timeout must also end a job whose process ran other jobs before."""
    queue.enqueue(os.getpid)
    hanging = queue.enqueue("time.sleep", 600, job_timeout=1)
    after = queue.enqueue(os.getpid)

    workers.drain()

    assert (hanging.get_status(), after.is_finished) == ("failed", True)


def find_horse(job: Job) -> psutil.Process:
    """Return the idle process that has run a job."""
    wait_until(lambda: job.get_status() == "finished")
    return psutil.Process(job.return_value())


@pytest.mark.long(seconds=3)
def test_idle_process_that_is_killed_is_replaced(queue: Queue, workers: Workers) -> None:
    """The next job must not be lost with it."""
    workers.start(MERGES)
    horse = find_horse(queue.enqueue(os.getpid))
    horse.kill()

    after = queue.enqueue(os.getpid)

    wait_until(lambda: after.get_status() == "finished")
    assert after.return_value() != horse.pid


@pytest.mark.long(seconds=4)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_idle_processes_end_with_their_worker(
    queue: Queue, workers: Workers, number: signal.Signals
) -> None:
    """They would keep their connections, and the scheduler's lock, for ever."""
    worker = workers.start(MERGES)
    horse = find_horse(queue.enqueue(os.getpid))
    # The other one is RQ's scheduler.
    children = worker.children()

    worker.send_signal(number)

    ended, alive = psutil.wait_procs(children, timeout=4 * horses.IDLE_SECONDS)
    assert (horse in ended, len(ended), alive) == (True, 2, [])


@pytest.mark.long(seconds=3)
def test_only_the_worker_holds_the_connection_that_takes_jobs(
    queue: Queue, workers: Workers, redis: Redis
) -> None:
    """Its processes may survive it when it is killed, and Redis would give them one more job."""
    worker = workers.start(MERGES)
    find_horse(queue.enqueue(os.getpid))

    def find_taking() -> set[str]:
        return {each["addr"] for each in redis.client_list() if each["cmd"] == "blmove"}

    wait_until(lambda: bool(find_taking()))

    children = worker.children()
    held = {
        f"{each.laddr.ip}:{each.laddr.port}"
        for process in children
        for each in process.net_connections()
    }
    assert (len(children), find_taking() & held) == (2, set())


@pytest.mark.long(seconds=3)
def test_merge_after_a_burst_has_its_full_priority(
    queue: Queue, workers: Workers, redis: Redis
) -> None:
    """The process of a team's burst has lowered its priority, which cannot be undone."""
    workers.queues = (MERGES,)
    redis.rpush("metrics_sync:turns:7", 0)
    names = ["team-6-fetch", "team-7-fetch", "team-8-fetch"]
    jobs = [queue.enqueue(os.nice, 0, job_id=name) for name in names]

    workers.drain()

    assert [job.return_value() - os.nice(0) for job in jobs] == [0, 5, 0]


def test_wait_can_be_interrupted_and_loses_nothing() -> None:
    """RQ interrupts the wait every ten seconds to send the worker's heartbeat."""
    horse = Horse()
    horse._theirs.sendall(horses.READY)

    assert [horse.is_ready(), horse.is_ready()] == [True, True]
    horse.release()


def test_process_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may hang between two jobs."""
    monkeypatch.setattr(horses, "ANSWER_SECONDS", 0.05)
    horse = Horse()
    horse.pid = os.getpid()
    horse._theirs.sendall(horses.READY)

    assert not horse.offer(job="1", queue="2", execution="3")
    horse.release()
