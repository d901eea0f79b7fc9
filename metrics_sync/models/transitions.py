"""Decides the next status of a pull request after a fetch; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from metrics_sync.exceptions import (
    CredentialRejectedError,
    DisagreementError,
    NumberReusedError,
    RateLimitedError,
    RetrySoonError,
)
from metrics_sync.models import FetchRun, PullRequest
from metrics_sync.models.states import SyncStatus
from metrics_sync.snapshot import Receipt, Snapshot, read_text

#: How long the clock waits after the first failure of a row; doubled for each further failure.
FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(days=1)

#: How long after the merge a complete pull request is fetched again: while checks run, and once
#: for late comments. Unchanged pages do not count against the rate limit.
RUNNING_CHECKS = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
LATE_COMMENTS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one fetch; `snapshot` is None when the pull request itself was not fetched."""

    snapshot: Snapshot | None = None
    errors: Mapping[str, Exception] = field(default_factory=dict)
    requests_made: int = 0
    #: Whether a list is verified now that was not before.
    made_progress: bool = False
    has_running_checks: bool = False

    @property
    def wait_until(self) -> datetime | None:
        """The latest time that a rate limit names; None without one."""
        errors = self.errors.values()
        return max((e.until for e in errors if isinstance(e, RateLimitedError)), default=None)

    @property
    def passing(self) -> list[Exception]:
        """The errors that a retry may not meet again."""
        return [e for e in self.errors.values() if isinstance(e, RetrySoonError)]

    @property
    def may_pass(self) -> bool:
        """Whether RQ should retry: after a passing error, or a fault of our own."""
        return bool(self.passing) or "fetch" in self.errors

    @property
    def is_outage(self) -> bool:
        """Whether GitHub did not answer; a list that disagrees says nothing about other rows."""
        return any(not isinstance(error, DisagreementError) for error in self.passing)

    @property
    def is_refused(self) -> bool:
        """Whether GitHub refused the token."""
        return any(isinstance(e, CredentialRejectedError) for e in self.errors.values())

    def describe(self) -> list[str]:
        """Return each error with its section, as text that rows and runs can store."""
        return [read_text(f"{part}: {error}") for part, error in self.errors.items()]


@dataclass(frozen=True, slots=True)
class Transition:
    """The next status of a row, its other changes, and the result of the run."""

    to: SyncStatus
    result: FetchRun.Status
    changes: Mapping[str, Any]


def decide(
    row: PullRequest, outcome: Outcome, *, retries_left: int | None, now: datetime
) -> Transition:
    """Choose the next status of a row after a fetch with this `outcome`; writes nothing.

    `row` has its new values already, except those chosen here. `retries_left` is RQ's count; None
    outside of the queues, where no job can wait.

    A failure is counted when the row is left to the clock, but not for a rate limit, a retry of RQ
    or a refused token. Progress resets the count.
    """
    changes: dict[str, Any] = {"sync_error": "; ".join(outcome.describe())}
    if isinstance(outcome.errors.get("pull_request"), NumberReusedError):
        changes |= {"github_pr_number": None, "etags": {}}
    if not outcome.errors:
        refetch_at = row.refetch_at or _choose_refetch_at(row, outcome, now)
        changes |= {"failures": 0, "refetch_at": refetch_at}
        changes["fault_may_pass"] = False  # nosec B105  (passing, not a pass)
        return Transition(SyncStatus.COMPLETE, FetchRun.Status.COMPLETE, changes)
    is_partial = bool(Receipt.from_json(row.receipt).whole)
    result = FetchRun.Status.PARTIAL if is_partial else FetchRun.Status.FAILED
    has_retry = bool(retries_left) and outcome.may_pass
    is_parked = retries_left is not None and outcome.wait_until is not None
    if is_parked or (has_retry and not is_partial):
        return Transition(SyncStatus.QUEUED, result, changes)
    failures = 0 if outcome.made_progress else row.failures
    if not (has_retry or outcome.wait_until or outcome.is_refused):
        failures += 1
    changes |= {
        "failures": failures,
        "fault_may_pass": outcome.is_outage,
        "retry_at": _choose_retry_at(outcome, failures, now),
    }
    return Transition(SyncStatus.PARTIAL if is_partial else SyncStatus.FAILED, result, changes)


def _choose_refetch_at(row: PullRequest, outcome: Outcome, now: datetime) -> datetime | None:
    """Return when a complete, merged pull request is fetched again; None for never."""
    if row.merged_at is None:
        return None
    pauses = [*RUNNING_CHECKS, LATE_COMMENTS] if outcome.has_running_checks else [LATE_COMMENTS]
    moments = (row.merged_at + pause for pause in pauses)
    return next((moment for moment in moments if moment > now), None)


def _choose_retry_at(outcome: Outcome, failures: int, now: datetime) -> datetime | None:
    """Return when the clock may retry; None where it waits for a new token.

    The rows of a refused token are due as soon as a new one is stored.
    """
    if outcome.is_refused:
        return None
    doublings = min(max(failures - 1, 0), 10)
    if outcome.wait_until:
        return outcome.wait_until
    return now + min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
