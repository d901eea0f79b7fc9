"""The work-horse of a worker: a forked process that runs one job after another.

RQ forks a process for each job, so that a job that hangs, crashes or leaks harms no other. More
than half of such a process's processor time goes into its beginning and its end. A work-horse
that runs the next job, too, saves that time; it is as easily killed, and ends after a failure.

The worker and its work-horse talk through a pair of sockets: the worker offers a job as one line
of JSON, and the work-horse answers with single bytes.
"""

import json
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress

from django.db import close_old_connections

#: What a work-horse answers: it runs the job that was offered, and it is ready for another one.
TAKEN, READY = b"t", b"r"
#: Seconds that the worker waits for the answer to an offer.
ANSWER_SECONDS = 10
#: Seconds after which an idle work-horse checks that its worker lives, and closes connections to
#: the database that are too old.
IDLE_SECONDS = 5

#: A work-horse ends after so many jobs, or seconds, or when its memory has grown by so much.
MOST_JOBS = 200
MOST_SECONDS = 600
MOST_GROWTH_MB = 64


class Horse:
    """The worker's side: the forked process."""

    def __init__(self) -> None:
        self.pid = 0
        self._ours, self._theirs = socket.socketpair()

    def enter(self) -> "Offers":
        """Return the work-horse's side, in the forked process."""
        self._ours.close()
        return Offers(self._theirs)

    def note_fork(self, pid: int) -> None:
        """Keep the worker's end alone, in the worker."""
        self.pid = pid
        self._theirs.close()

    def offer(self, **names: str) -> bool:
        """Offer a job to the process, which is idle; whether it runs the job.

        False if it has ended, declines, or does not answer: then `dismiss` it.
        """
        self._ours.settimeout(ANSWER_SECONDS)
        try:
            is_ready = self._ours.recv(1) == READY
            self._ours.sendall(json.dumps(names).encode() + b"\n")
            return is_ready and self._ours.recv(1) == TAKEN
        except OSError:
            return False
        finally:
            self._ours.settimeout(None)

    def is_ready(self) -> bool:
        """Wait until the process has finished its job, or has ended; whether it is still there.

        It only peeks: RQ interrupts the wait at any point for its signs of life, and a byte that
        had been read by then would be lost. `offer` reads the byte that was seen here.
        """
        try:
            return self._ours.recv(1, socket.MSG_PEEK) == READY
        except ConnectionError:
            return False

    def dismiss(self) -> None:
        """Kill the process, which runs no job; there is none if the fork failed."""
        self.release()
        if not self.pid:
            return
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def release(self) -> None:
        """Let the process end by itself: at once when it is idle, else after its job."""
        self._ours.close()
        self._theirs.close()


class Offers:
    """The work-horse's side: the jobs that the worker offers to it, one after another."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._worker_pid = os.getppid()
        self._begun_at = time.monotonic()
        self._first_peak = measure_peak()
        self._jobs = 1

    def is_worn_out(self) -> bool:
        """Whether this process has run, lived or grown enough."""
        return (
            self._jobs >= MOST_JOBS
            or time.monotonic() - self._begun_at > MOST_SECONDS
            or measure_peak() - self._first_peak > MOST_GROWTH_MB
        )

    def wait(self) -> dict[str, str] | None:
        """Say that the job has ended, and wait for the next offer; None when the worker is gone."""
        offer = b""
        try:
            self._line.sendall(READY)
            while not offer.endswith(b"\n"):
                piece = self._receive()
                if not piece:
                    return None
                offer += piece
        except ConnectionError:
            return None
        names: dict[str, str] = json.loads(offer)
        return names

    def _receive(self) -> bytes:
        """Wait for the worker's next bytes; none when it is gone."""
        self._line.settimeout(IDLE_SECONDS)
        # A process that the worker started later can hold the worker's end open after its death.
        while os.getppid() == self._worker_pid:
            try:
                return self._line.recv(4096)
            except TimeoutError:
                close_old_connections()
        return b""

    def take(self) -> None:
        """Tell the worker that its job is run here."""
        self._jobs += 1
        self._line.sendall(TAKEN)


def measure_peak() -> float:
    """Return the most memory that this process has had, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # getrusage(2): kilobytes on Linux, bytes on macOS.
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
