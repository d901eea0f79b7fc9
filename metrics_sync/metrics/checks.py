"""How CI stood at the merge, and how long it took; pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from metrics_sync.metrics.history import Check
from metrics_sync.metrics.hours import measure_hours

#: What counts as failed, of check runs and of legacy statuses.
#: https://docs.github.com/en/rest/checks/runs, https://docs.github.com/en/rest/commits/statuses
FAILED = {"failure", "timed_out", "cancelled", "action_required", "startup_failure", "error"}


def measure_ci(checks: Sequence[Check] | None, *, merged_at: datetime | None) -> str:
    """Say how CI stood at the merge: `failed`, `pending`, `passed` or `none`; empty: unknown.

    One failure outweighs what was still running, which outweighs what had passed. What ended
    after the merge was running at the merge.
    """
    if checks is None or merged_at is None:
        return ""
    if not checks:
        return "none"
    outcomes = {_judge(check, merged_at) for check in checks}
    return next(outcome for outcome in ("failed", "pending", "passed") if outcome in outcomes)


def _judge(check: Check, merged_at: datetime) -> str:
    if not check.conclusion or (check.ended_at is not None and check.ended_at > merged_at):
        return "pending"
    return "failed" if check.conclusion in FAILED else "passed"


def measure_ci_hours(checks: Iterable[Check] | None) -> Decimal | None:
    """Return the hours from the first start to the last end of the checks that have both."""
    timed = [(c.started_at, c.ended_at) for c in checks or () if c.started_at and c.ended_at]
    if not timed:
        return None
    return measure_hours(min(start for start, _ in timed), max(end for _, end in timed))
