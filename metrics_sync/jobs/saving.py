"""Saves the outcome of a fetch: rows, receipt, metrics and the row's next state, all or nothing."""

import logging
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from django.utils import timezone
from rq.job import Job

from metrics_sync import store
from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.models import FetchRun, PullRequest
from metrics_sync.models.filters import PENDING_STATUS, RUNNING_CHECK_STATUSES
from metrics_sync.models.states import SyncStatus
from metrics_sync.models.transitions import Outcome, Transition, decide
from metrics_sync.observe import counting
from metrics_sync.snapshot import CAPPED, DISAGREEING, Receipt, Section, Snapshot
from metrics_sync.store.announcing import announce, pull_request_completed, pull_request_merged

logger = logging.getLogger(__name__)

#: The method by which a run leaves a row in each status.
ARROWS = {
    SyncStatus.COMPLETE: PullRequest.mark_complete,
    SyncStatus.PARTIAL: PullRequest.mark_partial,
    SyncStatus.FAILED: PullRequest.mark_failed,
    SyncStatus.QUEUED: PullRequest.mark_waiting,
}


def save(
    pull_request: PullRequest, fetch_run: FetchRun, outcome: Outcome, *, job: Job | None
) -> None:
    """Write an outcome, all or nothing, and update the object once that is committed.

    A run whose row another job has taken over writes nothing but its own end.
    """
    saved = store.run_transaction(partial(_write, pull_request, fetch_run, outcome, job=job))
    if saved is not None:
        pull_request.copy_from(saved)


def count_completion(pull_request: PullRequest, *, queue: str) -> None:
    """Count for monitoring, if a merge has just become complete, how long that took."""
    completed_at, merged_at = pull_request.completed_at, pull_request.merged_at
    if completed_at is not None and merged_at is not None:
        counting.observe(
            "seconds_to_complete", (completed_at - merged_at).total_seconds(), queue=queue
        )


def save_fetched(pull_request: PullRequest, snapshot: Snapshot, *, requests_made: int = 0) -> bool:
    """Store a snapshot that was fetched in bulk, as a run of its own; False if a job has the row.

    The row must still be as this object has it, so that nothing newer is overwritten. One
    transaction writes everything: a process that is killed leaves the row as it was. A snapshot
    that cannot be written is recorded on the row as an error. `requests_made` counts REST's. A list
    that failed keeps what an earlier fetch has proven of it.
    """
    outcome = build_outcome(pull_request, snapshot, requests_made)
    try:
        saved = store.run_transaction(partial(_begin_and_write, pull_request, outcome))
    except Exception as error:
        logger.exception("What was fetched of %s could not be stored", pull_request)
        fault = Outcome(errors={"fetch": error}, requests_made=requests_made)
        saved = store.run_transaction(partial(_begin_and_write, pull_request, fault))
    if saved is not None:
        pull_request.copy_from(saved)
    return saved is not None


def build_outcome(row: PullRequest, snapshot: Snapshot, requests_made: int) -> Outcome:
    """Return the outcome of a fetch in bulk; a list that failed keeps what the row has proven."""
    snapshot = Receipt.from_json(row.receipt).keep_proven(snapshot)
    errors = {section.value: error for section, error in snapshot.errors.items()}
    return Outcome(snapshot, errors, requests_made)


def _begin_and_write(pull_request: PullRequest, outcome: Outcome) -> PullRequest | None:
    row, job_id = copy(pull_request), str(uuid4())
    if not row.claim(job_id=job_id):
        return None
    # A webhook may have asked for a refetch since GitHub was asked; a run that begins only now
    # must not cancel it.
    row.refresh_from_db(fields=["refetch_at"])
    refetch_at = row.refetch_at
    row.mark_running(job_id=job_id)
    if refetch_at is not None:
        PullRequest.objects.filter(pk=row.pk).update(refetch_at=refetch_at)
    return _write(row, FetchRun.start(row, job_id=job_id), outcome, job=None)


def _write(
    pull_request: PullRequest, fetch_run: FetchRun, outcome: Outcome, *, job: Job | None
) -> PullRequest | None:
    """Write the rows, measure them, and move the row on; returns the row as it is then."""
    row = pull_request.lock_run(job_id=fetch_run.job_id)
    if row is None:
        lost = Outcome(errors={"fetch": MetricsSyncError("another job took over")})
        fetch_run.finish(
            status=FetchRun.Status.FAILED,
            receipt={},
            errors=lost.describe(),
            requests_made=outcome.requests_made,
        )
        fetch_run.save(update_fields=FetchRun.END)
        return None
    was_merged, was_complete = row.state == PullRequest.State.MERGED, row.completed_at is not None
    changes = dict[str, Any]()
    if outcome.snapshot is not None:
        names, snapshot = store.save_snapshot(row, outcome.snapshot)
        stored = store.count_rows(row)
        changes, outcome = prove(row, replace(outcome, snapshot=snapshot), names, stored=stored)
        changes |= store.measure_rows(row)
    transition = conclude(row, fetch_run, outcome, changes, job=job)
    ARROWS[transition.to](row, job_id=fetch_run.job_id, **transition.changes)
    announce_progress(row, transition.result, was_merged=was_merged, was_complete=was_complete)
    fetch_run.save(update_fields=FetchRun.END)
    return row


def prove(
    row: PullRequest, outcome: Outcome, names: Iterable[str], *, stored: Mapping[Section, int]
) -> tuple[dict[str, Any], Outcome]:
    """Set the row's receipt, unsaved, after its lists were written.

    `names` are the row's fields that were set meanwhile, and `stored` counts its rows. Returns the
    row's new values, without metrics, and the outcome as it was written.
    """
    snapshot, earlier = outcome.snapshot, Receipt.from_json(row.receipt)
    if snapshot is None:
        return {}, outcome
    receipt = earlier.merge(snapshot.sections, stored=stored)
    row.receipt = receipt.to_json()
    changes = {
        **{name: getattr(row, name) for name in names},
        "receipt": row.receipt,
        "truncated": receipt.list_with(CAPPED),
        "disagreeing": receipt.list_with(DISAGREEING),
    }
    refused = {section.value: error for section, error in snapshot.errors.items()}
    written = replace(
        outcome,
        errors={**outcome.errors, **refused},
        made_progress=len(receipt.proven) > len(earlier.proven),
        has_running_checks=_has_running_checks(row, snapshot),
    )
    return changes, written


def conclude(
    row: PullRequest,
    fetch_run: FetchRun,
    outcome: Outcome,
    changes: Mapping[str, Any],
    *,
    job: Job | None,
) -> Transition:
    """Return how a row moves on, with its new values; ends the record of the run, unsaved."""
    retries_left = None if job is None else job.retries_left or 0
    transition = decide(row, outcome, retries_left=retries_left, now=timezone.now())
    fetch_run.finish(
        status=transition.result,
        receipt=row.receipt,
        errors=outcome.describe(),
        requests_made=outcome.requests_made,
    )
    logger.info("Fetched %s: %s, %s requests", row, transition.result, fetch_run.requests_made)
    return replace(transition, changes={**changes, **transition.changes})


def announce_progress(
    pull_request: PullRequest, status: FetchRun.Status, *, was_merged: bool, was_complete: bool
) -> None:
    """Announce a merge and a first completion, of which the row did not know before the run."""
    if pull_request.state != PullRequest.State.MERGED:
        return
    if not was_merged:
        announce(pull_request_merged, pull_request)
    if status == FetchRun.Status.COMPLETE and not (was_merged and was_complete):
        announce(pull_request_completed, pull_request)


def _has_running_checks(pull_request: PullRequest, snapshot: Snapshot) -> bool:
    """Whether a check run has not ended, or a legacy status is pending."""
    runs, statuses = (
        snapshot.sections.get(section) for section in (Section.CHECK_RUNS, Section.COMMIT_STATUSES)
    )
    if runs is None or runs.items is None:
        is_running = pull_request.check_runs.filter(status__in=RUNNING_CHECK_STATUSES).exists()
    else:
        is_running = any(
            getattr(item, "status", "") in RUNNING_CHECK_STATUSES for item in runs.items
        )
    if statuses is None or statuses.items is None:
        is_pending = pull_request.commit_statuses.filter(state=PENDING_STATUS).exists()
    else:
        is_pending = any(getattr(item, "state", "") == PENDING_STATUS for item in statuses.items)
    return is_running or is_pending
