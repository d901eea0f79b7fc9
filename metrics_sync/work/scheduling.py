"""RQ's scheduler, which puts retries on their queues, as the worker that runs it needs it."""

import os
from typing import Any

from rq.scheduler import RQScheduler


class WorkerScheduler(RQScheduler):
    """A scheduler that ends with its worker, and so leaves its lock to another one at once.

    RQ's own outlives a worker that is killed alone: it goes on with the code of its time.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._worker_pid = os.getpid()

    def heartbeat(self) -> None:
        """Show that the scheduler lives, once a second; without its worker it is to stop."""
        if os.getppid() != self._worker_pid:
            self._stop_requested = True
        super().heartbeat()  # type: ignore[no-untyped-call]
