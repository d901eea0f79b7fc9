"""The worker process: it loads what is slow to load once, and forks a process for its jobs."""

import gc
import logging
import os
import random
import signal
from contextlib import suppress
from functools import partial
from typing import Any

from django.db import close_old_connections, connections
from rq import Queue, Worker
from rq.exceptions import AbandonedJobError, StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.worker import base

from metrics_sync.access import keep_connected
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import QueueUnavailableError
from metrics_sync.github import load_http, prepare_api
from metrics_sync.models import GitHubIntegration
from metrics_sync.observe.tracing import trace
from metrics_sync.work.counts import note_silent_end, save_counts
from metrics_sync.work.horses import Horse, Offers
from metrics_sync.work.queueing import BULK, MERGES, find_team_of_job
from metrics_sync.work.scheduling import WorkerScheduler
from metrics_sync.work.turns import enqueue_waiting_merges, has_waiting_merges

logger = logging.getLogger(__name__)

#: Seconds between an idle worker's checks whether the scheduler has died with the worker that ran
#: it; RQ's ten minutes are too long for a pull request that waits for its retry.
MAINTENANCE_SECONDS = 30
#: RQ wakes an idle worker 15 s before its time to live ends.
TIME_TO_LIVE_SECONDS = MAINTENANCE_SECONDS + 15

#: Seconds between a worker's signs of life for its job; RQ believes each for a minute longer.
SIGN_OF_LIFE_SECONDS = 10

#: The niceness (see nice(1)) of workers that take bulk work, and of the merges of a team that has
#: more of them than its share of workers.
BULK_NICENESS = 10
BURST_NICENESS = 5

#: How RQ ends the process of a job whose error it could not record.
UNRECORDED_ERROR = 1

# RQ has no setting for it.
base.RQScheduler = WorkerScheduler  # type: ignore[attr-defined]


class FetchWorker(Worker):
    """An RQ worker that has the GitHub client ready before the first job.

    It takes over the scheduler of a killed worker within about a minute and a half: RQ's lock lasts
    61 s.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options["worker_ttl"] = TIME_TO_LIVE_SECONDS
        options["maintenance_interval"] = MAINTENANCE_SECONDS
        options["job_monitoring_interval"] = SIGN_OF_LIFE_SECONDS
        super().__init__(*args, **options)
        self.push_exc_handler(_note_abandoned)  # type: ignore[no-untyped-call]
        self._horse: Horse | None = None
        self._is_in_burst = False

    def work(self, *args: Any, **options: Any) -> bool:
        _end_at_once_when_told()
        if BULK in self.queue_names():
            os.nice(BULK_NICENESS)
        load_http()
        roots = {row.get_api_root() for row in GitHubIntegration.objects.only("api_url")}
        for api_url in {app_settings.GITHUB_API_URL, *roots}:
            prepare_api(api_url)
        # Forks must not share a connection: one that is killed would leave its transaction open.
        connections.close_all()
        os.register_at_fork(after_in_child=self._let_go_of_redis)
        # Garbage collection in a fork would otherwise touch, and so copy, everything loaded here.
        gc.collect()
        gc.freeze()
        return super().work(*args, **options)

    def _let_go_of_redis(self) -> None:
        """Close the worker's idle connections, in a process that it has just forked.

        As long as somebody holds the one of a killed worker open, Redis hands it jobs. To drop them
        is not enough: what was frozen in `work` is never collected.
        """
        pool: Any = self.connection.connection_pool
        for idle in pool._available_connections:  # noqa: SLF001  (its methods drop them only)
            idle.disconnect()

    def _shutdown(self) -> None:
        """Remember that the worker was told to stop, because RQ's exception may be lost.

        It is raised wherever the worker is: within a finaliser or while a line is logged, Python
        ignores it.
        """
        self._stop_requested = True
        super()._shutdown()  # type: ignore[no-untyped-call]

    def run_maintenance_tasks(self) -> None:
        """Run what an idle worker runs every half minute; one that was told to stop stops here.

        RQ never calls it between taking a job and running it.
        """
        if self._stop_requested:
            raise StopRequested
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]

    def setup_work_horse_signals(self) -> None:
        """Let the job finish when every process gets SIGTERM, as init systems and platforms do.

        RQ's worker waits for its job, takes no other, and ends it with SIGKILL when it must.
        """
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """Have the process of the last job run this one, too, or fork a new process."""
        execution: Any = self.execution
        if self._horse is not None:
            if self._horse.offer(job=job.id, queue=queue.name, execution=execution.id):
                self._horse_pid = self._horse.pid
                return
            self._horse.dismiss()
        self._horse = Horse()
        super().fork_work_horse(job, queue)
        self._horse.note_fork(self.horse_pid)

    def wait_for_horse(self) -> tuple[int | None, int | None, Any]:
        """Wait until the job, or its process, has ended."""
        if self._horse is not None:
            if self._horse.is_ready():
                return self._horse.pid, os.EX_OK, None
            # RQ interrupts this method, too, and then calls it again.
            ended, self._horse = self._horse, None
            ended.release()
        return super().wait_for_horse()

    def teardown(self) -> None:
        """End the idle process, too; one that runs a job finishes it, as without Redis."""
        if self._horse is not None and not self.is_horse:
            self._horse.release()
        super().teardown()  # type: ignore[no-untyped-call]

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Run jobs in the forked process until one fails or the process is worn out."""
        horse: Any = self._horse
        offers, execution = horse.enter(), self.execution
        random.seed()
        self.setup_work_horse_signals()
        self._is_horse = True
        try:
            self._yield_to_other_teams(job)
            keep_connected(partial(self._run_jobs, job, queue, execution, offers))
        except BaseException:
            logger.exception("The process of the jobs of worker %s ends", self.name)
            os._exit(UNRECORDED_ERROR)
        os._exit(os.EX_OK)

    def _run_jobs(self, job: Job, queue: Queue, execution: Any, offers: Offers) -> None:
        """Run a job, and those that are offered after it."""
        while self.perform_job(job, queue, execution) and not offers.is_worn_out():
            offer = self._wait_for_offer(offers)
            if offer is None:
                return
            job, queue, execution = offer

    def _wait_for_offer(self, offers: Offers) -> tuple[Job, Queue, Execution] | None:
        """Return the next job of this process; None when the process is to end instead."""
        names = offers.wait()
        if names is None:
            return None
        close_old_connections()
        job = Job.fetch(names["job"], connection=self.connection, serializer=self.serializer)
        if self._is_in_burst and not _has_waiting_merges(job):
            # A process cannot take its niceness back.
            return None
        self._yield_to_other_teams(job)
        job.redis_server_version = self.get_redis_server_version()  # type: ignore[no-untyped-call]
        execution = Execution.fetch(names["execution"], job.id, connection=self.connection)
        self.executions = {execution.id: execution}
        offers.take()
        return job, Queue(names["queue"], connection=self.connection), execution

    def _yield_to_other_teams(self, job: Job) -> None:
        """Lower the priority of this process when the team of the job has more merges waiting."""
        if self._is_in_burst or BULK in self.queue_names() or not _has_waiting_merges(job):
            return
        os.nice(BURST_NICENESS)
        self._is_in_burst = True

    def perform_job(self, job: Job, *args: Any, **options: Any) -> bool:
        """Run the job in its forked process, and save what the process counted.

        RQ records what the job raises. An error before that, or while RQ records it, would end the
        process without a line in any log.
        """
        try:
            with trace(**_read_trace(job)):
                return super().perform_job(job, *args, **options)
        except Exception as error:
            logger.exception("Job %s on %s ended outside of its own code", job.id, job.origin)
            note_silent_end(job, f"{type(error).__name__}: {error}")
            raise
        finally:
            _enqueue_next_merges(job)
            save_counts()

    def handle_job_failure(self, job: Job, queue: Queue, *args: Any, **options: Any) -> None:
        """Retry a merge that failed on the bulk queue; see `_choose_retry_queue`."""
        super().handle_job_failure(job, _choose_retry_queue(queue), *args, **options)

    def handle_job_retry(self, job: Job, queue: Queue, *args: Any, **options: Any) -> None:
        """Run a merge that waited for a rate limit on the bulk queue."""
        super().handle_job_retry(job, _choose_retry_queue(queue), *args, **options)

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """Count a job whose process was killed; `perform_job` counts errors."""
        super().handle_work_horse_killed(job, retpid, ret_val, rusage)  # type: ignore[no-untyped-call]
        code = os.waitstatus_to_exitcode(ret_val or 0)
        if code != UNRECORDED_ERROR:
            note_silent_end(job, _describe_end(code))
            save_counts()


def _end_at_once_when_told() -> None:
    """Have SIGINT and SIGTERM end this process, until RQ listens to them.

    A pool tells each worker once to stop, and then waits for its end. A worker that still loads has
    the handlers of its pool, which do nothing there, or Python's, whose KeyboardInterrupt is lost
    within a finaliser.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_end_at_once_when_told)


def _choose_retry_queue(queue: Queue) -> Queue:
    """Return the queue on which a job runs again.

    Hundreds of merges that failed together return together, and would delay the merges of other
    teams: they go to the front of the bulk queue.
    """
    return Queue(BULK, connection=queue.connection) if queue.name == MERGES else queue


def _has_waiting_merges(job: Job) -> bool:
    """Whether more merges of the job's team wait for their turn; False without Redis."""
    team_id = find_team_of_job(job.id)
    with suppress(QueueUnavailableError):
        return team_id is not None and has_waiting_merges(team_id)
    return False


def _enqueue_next_merges(job: Job) -> None:
    """Let the next merges of the same team have their turn; never raises."""
    team_id = find_team_of_job(job.id)
    if job.origin != MERGES or team_id is None:
        return
    try:
        enqueue_waiting_merges(team_id)
    except Exception:
        # The job has its result already, which no error here may change. The row stays pending,
        # and the clock queues it.
        logger.exception("No merge of the team %s was queued after job %s", team_id, job.id)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"its process ended with status {code}"
    return f"its process was killed by {signal.Signals(-code).name}"


def _note_abandoned(job: Job, kind: type[BaseException], error: BaseException, _: object) -> bool:
    """Count a job whose worker died with it, which RQ reports as an error of the job."""
    if issubclass(kind, AbandonedJobError):
        logger.error("Job %s on %s was abandoned: its worker is gone", job.id, job.origin)
        note_silent_end(job, "its worker is gone")
        save_counts()
    return True


def _read_trace(job: Job) -> dict[str, str]:
    """Return the ids for the job's log lines; jobs of other versions may have anything there."""
    stored = job.meta.get("trace")
    ids = stored.items() if isinstance(stored, dict) else ()
    return {**{str(name): str(value) for name, value in ids}, "job_id": job.id}
