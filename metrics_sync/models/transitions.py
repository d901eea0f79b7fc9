"""Decides what becomes of a pull request when a fetch of it has ended; pure."""

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
from metrics_sync.models.pull_request import SyncStatus
from metrics_sync.snapshot import Receipt, Snapshot, read_text

#: How long the clock leaves a row alone after it failed once; doubled for each further time.
FIRST_PAUSE = timedelta(minutes=5)
LONGEST_PAUSE = timedelta(days=1)

#: When after the merge a complete pull request is looked at again: while checks run, and once
#: more for late comments. Pages that have not changed cost no rate limit.
RUNNING_CHECKS = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
LATE_COMMENTS = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fetch came to; `snapshot` is None when the pull request itself was not had."""

    snapshot: Snapshot | None = None
    errors: Mapping[str, Exception] = field(default_factory=dict)
    requests_made: int = 0
    #: Whether a list is proven now that was not before.
    made_progress: bool = False
    has_running_checks: bool = False

    @property
    def wait_until(self) -> datetime | None:
        """The latest moment that a rate limit names; None without one."""
        errors = self.errors.values()
        return max((e.until for e in errors if isinstance(e, RateLimitedError)), default=None)

    @property
    def passing(self) -> list[Exception]:
        """What may be gone when the same is asked a little later."""
        return [e for e in self.errors.values() if isinstance(e, RetrySoonError)]

    @property
    def may_pass(self) -> bool:
        """Whether RQ will try again: something passing, or a fault of our own."""
        return bool(self.passing) or "fetch" in self.errors

    @property
    def is_outage(self) -> bool:
        """Whether GitHub did not answer; a list that does not agree is no news for others."""
        return any(not isinstance(error, DisagreementError) for error in self.passing)

    @property
    def is_refused(self) -> bool:
        """Whether GitHub does not take the token."""
        return any(isinstance(e, CredentialRejectedError) for e in self.errors.values())

    def describe(self) -> list[str]:
        """Return each error with the part that it is of, as rows and runs can store it."""
        return [read_text(f"{part}: {error}") for part, error in self.errors.items()]


@dataclass(frozen=True, slots=True)
class Transition:
    """How a row leaves `running`, what else changes on it, and how its run ended."""

    to: SyncStatus
    result: FetchRun.Status
    changes: Mapping[str, Any]


def decide(
    row: PullRequest, outcome: Outcome, *, retries_left: int | None, now: datetime
) -> Transition:
    """Say how a row goes on when its fetch came to `outcome`; nothing is changed or asked.

    `row` is as it will be stored, but for what this decides. `retries_left` are those of RQ; None
    outside of the queues, where no job waits for anything.

    A failure counts when the row is given up until the clock takes it: no wait for a rate limit,
    no retry that RQ has in hand and no refused token is one. A list that came ends the row of them.
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
    """Say when a merged pull request that is complete is to be looked at again, if at all."""
    if row.merged_at is None:
        return None
    pauses = [*RUNNING_CHECKS, LATE_COMMENTS] if outcome.has_running_checks else [LATE_COMMENTS]
    looks = (row.merged_at + pause for pause in pauses)
    return next((look for look in looks if look > now), None)


def _choose_retry_at(outcome: Outcome, failures: int, now: datetime) -> datetime | None:
    """Say from when on the clock may try again; None: as soon as nothing else is in the way.

    A refused token is in the way until there is a new one, which must not wait any longer.
    """
    if outcome.is_refused:
        return None
    doublings = min(max(failures - 1, 0), 10)
    if outcome.wait_until:
        return outcome.wait_until
    return now + min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
