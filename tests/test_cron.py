"""What the clock runs, how often and where."""

import pytest
from pytest_django import Settings
from redis import Redis
from rq.cron import CronScheduler
from rq.utils import import_attribute

from metrics_sync.work.queueing import BULK, MERGES

NAMES = [
    "enqueue_waiting",
    "requeue_due",
    "verify_due",
    "remeasure_outdated",
    "report_changes",
    "discover_lost",
    "requeue_nameless",
    "release_refused",
    "send_digests",
    "prune",
]


def load_intervals() -> dict[str, float | None]:
    clock = CronScheduler(Redis.from_url("redis://127.0.0.1:1/0"))
    clock.load_config_from_file("metrics_sync.cron")
    of_merges, *others = clock.get_jobs()
    assert (of_merges.queue_name, {job.queue_name for job in others}) == (MERGES, {BULK})
    return {job.func_name.rpartition(".")[2]: job.interval for job in clock.get_jobs()}


@pytest.mark.parametrize(
    "path",
    [
        "metrics_sync.jobs.fetch_pr_complete_data",
        "metrics_sync.heal.discovery.discover_lost",
        "metrics_sync.heal.reconcile.requeue_due",
        "metrics_sync.heal.reconcile.requeue_nameless",
        "metrics_sync.heal.refetching.refetch_in_bulk",
        "metrics_sync.heal.releasing.release_refused",
        "metrics_sync.heal.remeasuring.remeasure_outdated",
        "metrics_sync.heal.retention.prune",
        "metrics_sync.operate.notifying.report_changes",
        "metrics_sync.operate.weekly_digest.send_digests",
        "metrics_sync.work.verification.verify_due",
    ],
)
def test_job_of_the_version_before_still_runs(path: str) -> None:
    """Jobs wait in Redis, by the path of their function, while a new version is deployed."""
    assert callable(import_attribute(path))


@pytest.mark.parametrize(
    ("speedup", "intervals"),
    [
        pytest.param(1, [10, 60, 60, 300, 600, 3600, 3600, 3600, 3600, 86400], id="as it runs"),
        pytest.param(
            30, [1, 2, 2, 10, 20, 120, 120, 120, 120, 2880], id="a night in a quarter of an hour"
        ),
        pytest.param(1e9, [1] * 10, id="no loop without a pause"),
    ],
)
def test_every_interval_is_divided(
    settings: Settings, speedup: float, intervals: list[int]
) -> None:
    """What heals within hours is shown by rehearsals that nobody waits hours for."""
    settings.METRICS_SYNC_CLOCK_SPEEDUP = speedup

    assert load_intervals() == dict(zip(NAMES, intervals, strict=True))
