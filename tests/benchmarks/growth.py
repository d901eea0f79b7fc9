"""The memory and the speed of a backfill of thousands of pull requests, as its users run it."""

import os
import sys
from time import perf_counter, sleep

import psutil

from metrics_sync.models import PullRequest
from metrics_sync.sandbox import DEFAULT_TOKEN, World
from metrics_sync.sandbox.broker import find_free_port
from tests.benchmarks.alike import REPOSITORY
from tests.benchmarks.figures import Figure
from tests.benchmarks.stage import MANAGE, Stage, answers, wait_for
from tests.factories import TrackedRepositoryFactory

#: The second is ten times the first.
AMOUNTS = (2_000, 20_000)
#: How much more memory ten times as many may take.
MOST_GROWTH = 1.1


def measure(stage: Stage) -> list[Figure]:
    """Run `backfill` twice, in a process of its own, and watch its memory; takes ten minutes."""
    peaks, seconds = zip(*(_backfill(stage, amount) for amount in AMOUNTS), strict=True)
    few, many = AMOUNTS
    return [
        Figure(
            f"peak memory of a backfill of {many:,}", peaks[1], "MB",
            f"of {few:,}", peaks[0], at_most=peaks[0] * MOST_GROWTH,
        ),
        Figure(
            f"PRs a second in a backfill of {many:,}", many / seconds[1], "/s",
            f"of {few:,}", few / seconds[0],
        ),
    ]  # fmt: skip


def _backfill(stage: Stage, amount: int) -> tuple[float, float]:
    """Return the most memory that the process had in MB, and its seconds."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    serve = [sys.executable, "-m", "tests.benchmarks.alike", str(port), str(amount)]
    repository = TrackedRepositoryFactory(
        full_name=REPOSITORY,
        github_repo_id=World().add_repository(REPOSITORY).id,
        integration__credential__access_token=DEFAULT_TOKEN,
    )
    with stage.run(*serve):
        wait_for(lambda: answers(f"{url}/_sandbox/"), "the pretend GitHub to answer")
        started, peak = perf_counter(), 0
        command = [*MANAGE, "backfill", REPOSITORY, "--since", "2020-01-01"]
        with stage.run(*command, GITHUB_API_URL=url) as process:
            while process.poll() is None:
                peak = max(peak, _read_memory(process))
                sleep(0.5)
        seconds = perf_counter() - started
    complete = PullRequest.objects.filter(repository=repository, sync_status="complete").count()
    assert (process.returncode, complete) == (os.EX_OK, amount), (process.returncode, complete)
    repository.team.delete()
    return peak / 2**20, seconds


def _read_memory(process: psutil.Popen) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
