"""The worker process: it builds what is slow to build once, before it forks for each job."""

import gc
import signal
from typing import Any

from django.conf import settings
from django.db import connections
from rq import Worker
from rq.job import Job

from metrics_sync.github import load_http, prepare_api
from metrics_sync.models import GitHubIntegration
from metrics_sync.queueing import save_counts
from metrics_sync.tracing import trace

#: How often an idle worker looks whether the scheduler, which one of them runs, is gone with
#: its worker; RQ's ten minutes are too long for a pull request that waits for its retry.
LOOK_AROUND_SECONDS = 30
#: RQ wakes an idle worker 15 s before its time to live ends.
TIME_TO_LIVE_SECONDS = LOOK_AROUND_SECONDS + 15


class FetchWorker(Worker):
    """An RQ worker that has the GitHub client ready before the first job.

    It takes over the scheduler of a worker that was killed, within about a minute and a half:
    RQ's lock lasts 61 s.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options["worker_ttl"] = TIME_TO_LIVE_SECONDS
        options["maintenance_interval"] = LOOK_AROUND_SECONDS
        super().__init__(*args, **options)

    def work(self, *args: Any, **options: Any) -> bool:
        load_http()
        roots = {row.get_api_root() for row in GitHubIntegration.objects.only("api_url")}
        for api_url in {settings.GITHUB_API_URL, *roots}:
            prepare_api(api_url)
        # A fork that was killed would leave its transaction open for the next one.
        connections.close_all()
        # In a long fetch garbage is collected: that would touch, and so copy, all that is here.
        gc.collect()
        gc.freeze()
        return super().work(*args, **options)

    def setup_work_horse_signals(self) -> None:
        """Let the job finish when everybody is told to stop, as init systems and platforms do.

        RQ's worker waits for it, takes no other, and ends it with SIGKILL when it has to.
        """
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def perform_job(self, job: Job, *args: Any, **options: Any) -> bool:
        """Run a job in the process that was forked for it, and save what that has counted."""
        try:
            # Nothing here may raise: RQ records only the errors of its own `perform_job`.
            with trace(**_read_trace(job)):
                return super().perform_job(job, *args, **options)
        finally:
            save_counts()


def _read_trace(job: Job) -> dict[str, str]:
    """Return the ids for the job's log lines; jobs of other versions may carry anything."""
    carried = job.meta.get("trace")
    ids = carried.items() if isinstance(carried, dict) else ()
    return {**{str(name): str(value) for name, value in ids}, "job_id": job.id}
