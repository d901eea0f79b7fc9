"""How CI stood at the merge, and how long it ran; pure. The history ends at the merge."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from metrics_sync.metrics.history import Check
from metrics_sync.metrics.hours import ZERO, to_hours

#: Conclusions of check runs and states of legacy statuses. Any other word counts as `pending`:
#: `stale`, which GitHub writes when it gives up on a check, and words that are new.
#: https://docs.github.com/en/rest/checks/runs, https://docs.github.com/en/rest/commits/statuses
PASSED = {"success", "neutral", "skipped"}
FAILED = {"failure", "timed_out", "cancelled", "action_required", "startup_failure", "error"}
SKIPPED = "skipped"

FAR = datetime.max.replace(tzinfo=UTC)


def get_key(check: Check) -> tuple[bool, str, str]:
    """Return what identifies a check: the same name from two apps is two checks."""
    return check.is_status, check.app, check.name


def measure_ci(checks: Sequence[Check] | None, *, has_replaced: bool = False) -> str:
    """Say how CI stood at the merge: `failed`, `pending`, `passed` or `none`; empty: unknown.

    The newest run of each check decides. One failure outweighs what was still running, which
    outweighs what had passed. `has_replaced` says that runs after the merge may have replaced
    some from before it: then a history without runs does not prove that there were none.
    """
    if checks is None:
        return ""
    newest: dict[tuple[bool, str, str], Check] = {}
    for check in sorted(checks, key=_order):
        newest[get_key(check)] = check
    outcomes = {_judge(check) for check in newest.values()}
    nothing = "" if has_replaced else "none"
    return next((word for word in ("failed", "pending", "passed") if word in outcomes), nothing)


def _order(check: Check) -> tuple[datetime, int]:
    """Order runs by their start, else by their end; a run with neither has not started yet."""
    return check.started_at or check.ended_at or FAR, check.github_id


def _judge(check: Check) -> str:
    if check.conclusion in FAILED:
        return "failed"
    return "passed" if check.conclusion in PASSED else "pending"


def measure_ci_hours(
    checks: Iterable[Check] | None, *, created_at: datetime | None, merged_at: datetime | None
) -> Decimal | None:
    """Return for how many hours of the pull request's life at least one check was running.

    Skipped runs did not run. One that was running at the merge ran until it. A run whose start
    is unknown is left out, and so is one that has ended at an unknown time; an end before the
    start is unknown. None when that leaves no run.
    """
    if checks is None or created_at is None or merged_at is None:
        return None
    intervals = sorted(
        (check.started_at, end)
        for check in checks
        if check.started_at is not None and (end := _find_end(check, merged_at)) is not None
    )
    total, covered_until = ZERO, created_at
    for start, end in intervals:
        total += max(end - max(start, covered_until), ZERO)
        covered_until = max(covered_until, end)
    return to_hours(total) if intervals else None


def _find_end(check: Check, merged_at: datetime) -> datetime | None:
    if check.conclusion == SKIPPED or check.started_at is None:
        return None
    if not check.conclusion:
        return merged_at
    is_known = check.ended_at is not None and check.ended_at >= check.started_at
    return check.ended_at if is_known else None
