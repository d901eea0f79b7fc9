"""What a worker runs."""

import asyncio
import logging
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import ceil
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from rq import Retry, get_current_job
from rq.job import Job

from metrics_sync import store
from metrics_sync.access import Access, converse
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import GitHubError, GoneError, MetricsSyncError, NameReusedError
from metrics_sync.github import GitHub, Known, fetch_snapshot
from metrics_sync.models import FetchRun, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import (
    PENDING_STATUS,
    RUNNING_CHECK_STATUSES,
    SyncStatus,
)
from metrics_sync.models.transitions import Outcome, count_held, decide, leave_proven
from metrics_sync.observe import counting
from metrics_sync.snapshot import CAPPED, DISAGREEING, SUPPLEMENTARY, Section, Snapshot
from metrics_sync.store.announcing import announce, pull_request_completed, pull_request_merged

logger = logging.getLogger(__name__)

#: The queues: merges, which workers take first, and everything that can wait.
MERGES = app_settings.QUEUE
BULK = app_settings.BULK_QUEUE

#: How often a long fetch says that it is alive.
HEARTBEAT_SECONDS = 30

#: A job that waits for a rate limit looks after an hour whether it still must: what was said may
#: hold no more. It asks GitHub nothing for that. So that jobs do not come at once, each is spread
#: by a twentieth of its wait, and by this at most.
LONGEST_PARKED_SECONDS = 3600
MOST_SPREAD_SECONDS = 120

#: The arrow by which a run leaves a row in each status.
ARROWS = {
    SyncStatus.COMPLETE: PullRequest.mark_complete,
    SyncStatus.PARTIAL: PullRequest.mark_partial,
    SyncStatus.FAILED: PullRequest.mark_failed,
    SyncStatus.QUEUED: PullRequest.mark_waiting,
}


def fetch_pr_complete_data(pr_id: int) -> dict[str, Any] | Retry:
    """Fetch all of a pull request, store it, measure it; what the jobs on the queues are.

    Safe to repeat, and to run twice at once: the second run does nothing. Returns the number of
    rows of each section, `requests_made` and `errors`. A missing pull request, or one whose
    repository is not tracked, returns `{"error": ...}` and is not tried again.

    As an RQ job it raises what may be gone when asked later, so that RQ tries again while it
    has retries left; what no retry can mend is returned, and stands on the row. While GitHub
    wants its token to wait, the job returns an RQ Retry for that moment, which uses up none of
    its retries and holds no worker.
    """
    rows = PullRequest.objects.select_related("team", "repository")
    pull_request = rows.filter(pk=pr_id).first()
    if pull_request is None:
        return {"error": f"There is no pull request with the id {pr_id} here."}
    repositories = TrackedRepository.objects.matching(pull_request)
    # Secrets are read where a failure to decrypt them is recorded on the row.
    repository = (
        repositories.select_related("integration__credential")
        .defer("integration__webhook_secret", "integration__credential__access_token")
        .first()
    )
    if repository is None:
        pull_request.mark_untracked()
        return {"error": pull_request.sync_error}
    job = get_current_job()
    # A merge that is tried again there is none.
    is_bulk = job is not None and job.origin == BULK and not job.meta.get("is_merge")
    find_access = partial(Access.of, repository, is_bulk=is_bulk)
    if job is None:
        return fetch_now(pull_request, find_access)
    if _is_done(pull_request, job):
        return {"error": f"{pull_request} has been completed since this job was made."}
    credential = repository.integration.credential
    wait_until = credential.find_pause(is_bulk=is_bulk)
    if wait_until is not None:
        pull_request.mark_parked(job_id=job.id, until=wait_until)
        return _park(wait_until)
    outcome, result = _run(pull_request, find_access, job=job)
    if outcome.wait_until:
        return _park(outcome.wait_until)
    if outcome.passing:
        raise outcome.passing[0]
    return result


def _is_done(pull_request: PullRequest, job: Job) -> bool:
    """Whether a job comes late: it has completed the row itself, or one that began since has.

    It comes back when its worker died at the very end, or with an old dump of Redis.
    """
    if pull_request.sync_status != SyncStatus.COMPLETE:
        return False
    started_at = pull_request.fetch_started_at
    is_own = pull_request.sync_job_id == job.id
    return is_own or (started_at is not None and started_at > job.created_at)


def fetch_now(
    pull_request: PullRequest, find_access: Callable[[], Access], *, in_full: bool = False
) -> dict[str, Any]:
    """Fetch a pull request outside of the queues, with the access that `find_access` finds.

    Writes and returns what `fetch_pr_complete_data` does, and raises nothing that GitHub says:
    it is among the `errors`. `in_full` is for people, who ask because they doubt what is here.
    """
    if in_full:
        pull_request.forget_pages()
    _, result = _run(pull_request, find_access, job=None)
    return result


def _run(
    pull_request: PullRequest, find_access: Callable[[], Access], *, job: Job | None
) -> tuple[Outcome, dict[str, Any]]:
    job_id = job.id if job else str(uuid4())
    was_complete = pull_request.completed_at is not None
    if not pull_request.mark_running(job_id=job_id):
        return Outcome(), {"error": f"Another job is fetching {pull_request} already."}
    run = FetchRun.start(pull_request, job_id=job_id)
    try:
        outcome = _ask(pull_request, find_access, job_id=job_id)
        if outcome.snapshot is not None and not store.follow_rename(pull_request, outcome.snapshot):
            return Outcome(), {"error": f"{pull_request} has a row under its new name already."}
        _save(pull_request, run, outcome, job=job)
    except Exception as error:
        logger.exception("The fetch of %s broke off", pull_request)
        _save(pull_request, run, Outcome(errors={"fetch": error}), job=job)
        raise
    if outcome.snapshot is not None:
        PullRequest.objects.release_passing(pull_request)
    if not was_complete:
        _count_completion(pull_request, queue=job.origin if job else "none")
    return outcome, _build_result(run, outcome)


def save_fetched(pull_request: PullRequest, snapshot: Snapshot, *, requests_made: int = 0) -> bool:
    """Store what was fetched together with others, as a run of its own; False if a job has the row.

    The row must still be as this object has it, so that nothing newer is overwritten. All of it
    is one transaction: killed, it leaves the row as it was. What cannot be written stands on the
    row, as with a fetch of its own. The requests of its run are REST's. A list that did not come
    keeps what an earlier fetch has proven of it.
    """
    snapshot = leave_proven(pull_request.receipt, snapshot)
    errors = {section.value: error for section, error in snapshot.errors.items()}
    outcome = Outcome(snapshot, errors, requests_made)
    try:
        saved = store.run_transaction(partial(_begin_and_write, pull_request, outcome))
    except Exception as error:
        logger.exception("What was fetched of %s could not be stored", pull_request)
        fault = Outcome(errors={"fetch": error}, requests_made=requests_made)
        saved = store.run_transaction(partial(_begin_and_write, pull_request, fault))
    if saved is not None:
        pull_request.adopt(saved)
    return saved is not None


def _begin_and_write(pull_request: PullRequest, outcome: Outcome) -> PullRequest | None:
    row, job_id = copy(pull_request), str(uuid4())
    if not row.claim(job_id=job_id):
        return None
    # News that came since GitHub was asked must not be lost to a run that only begins now.
    row.refresh_from_db(fields=["refetch_at"])
    news_at = row.refetch_at
    row.mark_running(job_id=job_id)
    if news_at is not None:
        PullRequest.objects.filter(pk=row.pk).update(refetch_at=news_at)
    return _write(row, FetchRun.start(row, job_id=job_id), outcome, job=None)


def _count_completion(pull_request: PullRequest, *, queue: str) -> None:
    completed_at, merged_at = pull_request.completed_at, pull_request.merged_at
    if completed_at is not None and merged_at is not None:
        counting.observe(
            "seconds_to_complete", (completed_at - merged_at).total_seconds(), queue=queue
        )


def _park(until: datetime) -> Retry:
    """Have RQ run this job again at that moment, a little spread out, or in an hour if it is later.

    A Retry that a job returns is counted apart from those left to it for errors.
    """
    seconds = min((until - timezone.now()).total_seconds(), LONGEST_PARKED_SECONDS)
    spread = random.uniform(0, min(seconds * 0.05, MOST_SPREAD_SECONDS))
    return Retry(max=sys.maxsize, interval=max(1, ceil(seconds + spread)))


def _ask(pull_request: PullRequest, find_access: Callable[[], Access], *, job_id: str) -> Outcome:
    """Ask GitHub, and note what it said of the token; without access nothing is asked.

    What is refused is in the outcome; only our own faults are raised.
    """
    number = pull_request.github_pr_number
    if number is None:
        nameless = GitHubError("its number is not known yet; `manage.py reconcile` finds it")
        return Outcome(errors={"pull_request": nameless})
    try:
        access = find_access()
    except MetricsSyncError as error:
        return Outcome(errors={"access": error})
    try:
        access.check()
    except GitHubError as error:
        return Outcome(errors={"pull_request": error})
    known = Known(
        *store.recall_lists(pull_request),
        store.recall(pull_request),
        pull_request.github_pr_id,
        pull_request.repository.github_repo_id if pull_request.repository else None,
    )
    with access.open() as github:
        outcome = converse(_fetch, pull_request, number, known, github, job_id=job_id)
    access.note(outcome.errors.values())
    if pull_request.repository is not None:
        met = outcome.errors.get("pull_request")
        if isinstance(met, GoneError | NameReusedError):
            actor = f"the fetch of {pull_request}"
            store.doubt(pull_request.repository, reason=str(met), actor=actor)
    return outcome


async def _fetch(
    pull_request: PullRequest, number: int, known: Known, github: GitHub, *, job_id: str
) -> Outcome:
    snapshot, errors = None, dict[str, Exception]()
    async with _heartbeat(pull_request, job_id=job_id), github:
        try:
            snapshot = await fetch_snapshot(
                github,
                pull_request.github_repo,
                number,
                merged_at=pull_request.merged_at,
                known=known,
                now=timezone.now(),
            )
            errors |= {section.value: error for section, error in snapshot.errors.items()}
        except GitHubError as error:
            errors["pull_request"] = error
    return Outcome(snapshot, errors, github.requests_made)


@asynccontextmanager
async def _heartbeat(pull_request: PullRequest, *, job_id: str) -> AsyncIterator[None]:
    """Give signs of life while the block runs, so that nobody takes the row for stuck."""

    def beat() -> None:
        try:
            pull_request.note_heartbeat(job_id=job_id)
        except (DatabaseError, InterfaceError):
            # The next one may succeed; what was fetched must not be lost for this.
            logger.warning("No sign of life of %s could be written", pull_request)
            connection.close_if_unusable_or_obsolete()

    async def go_on() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await sync_to_async(beat)()

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _save(pull_request: PullRequest, run: FetchRun, outcome: Outcome, *, job: Job | None) -> None:
    """Write what came, all or nothing; the object says so once it is committed.

    A run whose row another job took over writes nothing but its own end.
    """
    saved = store.run_transaction(partial(_write, pull_request, run, outcome, job=job))
    if saved is not None:
        pull_request.adopt(saved)


def _write(
    pull_request: PullRequest, run: FetchRun, outcome: Outcome, *, job: Job | None
) -> PullRequest | None:
    """Write what came, measure it, and move the row on; returns the row as it is then."""
    row = pull_request.lock_run(job_id=run.job_id)
    if row is None:
        taken = Outcome(errors={"fetch": MetricsSyncError("another job took over")})
        run.finish(
            status=FetchRun.Status.FAILED,
            receipt={},
            errors=taken.describe(),
            requests_made=outcome.requests_made,
        )
        return None
    was_merged = row.state == PullRequest.State.MERGED
    was_complete = row.completed_at is not None
    changes = dict[str, Any]()
    if outcome.snapshot is not None:
        changes, outcome = _write_snapshot(row, outcome, outcome.snapshot)
    retries_left = None if job is None else job.retries_left or 0
    transition = decide(row, outcome, retries_left=retries_left, now=timezone.now())
    run.finish(
        status=transition.result,
        receipt=row.receipt,
        errors=outcome.describe(),
        requests_made=outcome.requests_made,
    )
    changes |= transition.changes
    ARROWS[transition.to](row, job_id=run.job_id, **changes)
    _announce_progress(row, transition.result, was_merged=was_merged, was_complete=was_complete)
    logger.info("Fetched %s: %s, %s requests", row, transition.result, run.requests_made)
    return row


def _write_snapshot(
    row: PullRequest, outcome: Outcome, snapshot: Snapshot
) -> tuple[dict[str, Any], Outcome]:
    """Write the lists; returns the row's new values, and what the fetch came to when written."""
    names, snapshot = store.save_snapshot(row, snapshot)
    earlier, stored = row.receipt, store.count_rows(row)
    receipt = row.receipt = store.build_receipt(earlier, snapshot, stored)
    changes = {
        **{name: getattr(row, name) for name in names},
        "receipt": receipt,
        "truncated": sorted(s for s in receipt if receipt[s]["result"] == CAPPED),
        "disagreeing": sorted(s for s in receipt if receipt[s]["result"] == DISAGREEING),
        **store.measure_rows(row),
    }
    refused = {section.value: error for section, error in snapshot.errors.items()}
    written = replace(
        outcome,
        snapshot=snapshot,
        errors={**outcome.errors, **refused},
        made_progress=count_held(receipt) > count_held(earlier),
        has_running_checks=_has_running_checks(row, snapshot),
    )
    return changes, written


def _announce_progress(
    pull_request: PullRequest, status: FetchRun.Status, *, was_merged: bool, was_complete: bool
) -> None:
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


def _build_result(run: FetchRun, outcome: Outcome) -> dict[str, Any]:
    counts = {
        f"{section}_synced": run.receipt[section]["stored"] if section in run.receipt else 0
        for section in Section
        if section not in SUPPLEMENTARY
    }
    return {**counts, "requests_made": outcome.requests_made, "errors": run.errors}
