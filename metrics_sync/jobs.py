"""What a worker runs."""

import asyncio
import logging
import random
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.utils import timezone
from rq import Retry, get_current_job
from rq.job import Job

from metrics_sync import counting, store
from metrics_sync.access import Access, converse
from metrics_sync.announcing import announce, pull_request_completed, pull_request_merged
from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    MetricsSyncError,
    NumberReusedError,
    RateLimitedError,
    RetrySoonError,
)
from metrics_sync.github import GitHub, Known, fetch_snapshot
from metrics_sync.models import FetchRun, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import RUNNING_CHECK_STATUSES
from metrics_sync.snapshot import (
    CAPPED,
    COUNTERS,
    SUPPLEMENTARY,
    Section,
    Snapshot,
    is_held,
    is_known,
)

logger = logging.getLogger(__name__)

#: The queues: merges, which workers take first, and everything that can wait.
MERGES: str = getattr(settings, "METRICS_SYNC_QUEUE", "pr-data")
BULK: str = getattr(settings, "METRICS_SYNC_BULK_QUEUE", "pr-data-bulk")

#: How often a long fetch says that it is alive.
HEARTBEAT_SECONDS = 30

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
    pull_request = PullRequest.objects.select_related("team").filter(pk=pr_id).first()
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
    if _is_superseded(pull_request, job):
        return {"error": f"Another job has completed {pull_request} since."}
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


def _is_superseded(pull_request: PullRequest, job: Job) -> bool:
    """Whether a retry comes late: another job began after this one was made, and is done."""
    started_at = pull_request.fetch_started_at
    is_others = pull_request.sync_job_id != job.id and started_at and started_at > job.created_at
    return bool(is_others and pull_request.sync_status == PullRequest.SyncStatus.COMPLETE)


def fetch_now(pull_request: PullRequest, find_access: Callable[[], Access]) -> dict[str, Any]:
    """Fetch a pull request outside of the queues, with the access that `find_access` finds.

    Writes and returns what `fetch_pr_complete_data` does, and raises nothing that GitHub says:
    it is among the `errors`.
    """
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
    proven = {s for s in snapshot.errors if _is_proven(pull_request, s, snapshot)}
    came = {s: result for s, result in snapshot.sections.items() if s not in proven}
    snapshot = replace(snapshot, sections=came)
    errors = {section.value: error for section, error in snapshot.errors.items()}
    try:
        return _save_at_once(pull_request, Outcome(snapshot, errors, requests_made))
    except Exception as error:
        logger.exception("What was fetched of %s could not be stored", pull_request)
        pull_request.refresh_from_db()
        fault = Outcome(errors={"fetch": error}, requests_made=requests_made)
        return _save_at_once(pull_request, fault)


def _is_proven(pull_request: PullRequest, section: Section, snapshot: Snapshot) -> bool:
    """Whether an earlier fetch has proven a list, and nothing was added to it since."""
    entry = pull_request.receipt.get(section)
    if entry is None or not is_held(entry):
        return False
    stated = snapshot.pull_request.stated.get(section)
    return section not in COUNTERS or stated == entry["stated"]


@transaction.atomic
def _save_at_once(pull_request: PullRequest, outcome: Outcome) -> bool:
    job_id = str(uuid4())
    if not pull_request.claim(job_id=job_id):
        return False
    # News that came since GitHub was asked must not be lost to a run that only begins now.
    pull_request.refresh_from_db(fields=["refetch_at"])
    news_at = pull_request.refetch_at
    pull_request.mark_running(job_id=job_id)
    if news_at is not None:
        PullRequest.objects.filter(pk=pull_request.pk).update(refetch_at=news_at)
    _save(pull_request, FetchRun.start(pull_request, job_id=job_id), outcome, job=None)
    return True


def _count_completion(pull_request: PullRequest, *, queue: str) -> None:
    completed_at, merged_at = pull_request.completed_at, pull_request.merged_at
    if completed_at is not None and merged_at is not None:
        counting.observe(
            "seconds_to_complete", (completed_at - merged_at).total_seconds(), queue=queue
        )


def _park(until: datetime) -> Retry:
    """Have RQ run this job again at that moment, a little spread out.

    A Retry that a job returns is counted apart from those left to it for errors.
    """
    seconds = (until - timezone.now()).total_seconds() * random.uniform(1, 1.05)
    return Retry(max=sys.maxsize, interval=max(1, ceil(seconds)))


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
        pull_request.receipt,
        pull_request.etags,
        store.recall(pull_request),
        pull_request.github_pr_id,
    )
    with access.open() as github:
        outcome = converse(_fetch, pull_request, number, known, github, job_id=job_id)
    access.note(outcome.errors.values())
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


@transaction.atomic
def _save(pull_request: PullRequest, run: FetchRun, outcome: Outcome, *, job: Job | None) -> None:
    """Write what came, measure it, and move the row on; nothing of it without the rest.

    A run whose row another job took over writes nothing but its own end.
    """
    if not pull_request.lock_run(job_id=run.job_id):
        took_over = ["fetch: another job took over"]
        run.finish(
            status=FetchRun.Status.FAILED,
            receipt={},
            errors=took_over,
            requests_made=outcome.requests_made,
        )
        return
    was_merged = pull_request.state == PullRequest.State.MERGED
    was_complete = pull_request.completed_at is not None
    changes: dict[str, Any] = {}
    if outcome.snapshot is not None:
        names = store.save_snapshot(pull_request, outcome.snapshot)
        stored = store.count_rows(pull_request)
        receipt = store.build_receipt(pull_request.receipt, outcome.snapshot, stored)
        pull_request.receipt = receipt
        changes = {name: getattr(pull_request, name) for name in names}
        changes["receipt"] = receipt
        changes["etags"] = outcome.snapshot.etags
        changes["truncated"] = sorted(s for s in receipt if receipt[s]["result"] == CAPPED)
        changes |= store.measure_rows(pull_request)
    if isinstance(outcome.errors.get("pull_request"), NumberReusedError):
        changes |= {"github_pr_number": None, "etags": {}}
    errors = [f"{part}: {error}" for part, error in outcome.errors.items()]
    changes["sync_error"] = "; ".join(errors)
    status = _judge(pull_request, outcome)
    run.finish(
        status=status,
        receipt=pull_request.receipt,
        errors=errors,
        requests_made=outcome.requests_made,
    )
    if status == FetchRun.Status.COMPLETE:
        refetch_at = _choose_refetch_at(pull_request, outcome.snapshot)
        pull_request.mark_complete(job_id=run.job_id, refetch_at=refetch_at, **changes)
    elif job is not None and outcome.wait_until:
        pull_request.mark_waiting(job_id=run.job_id, **changes)
    else:
        changes["retry_at"] = _choose_retry_at(pull_request, outcome)
        if status == FetchRun.Status.PARTIAL:
            pull_request.mark_partial(job_id=run.job_id, **changes)
        elif job is not None and job.should_retry and outcome.may_pass:
            pull_request.mark_waiting(job_id=run.job_id, **changes)
        else:
            pull_request.mark_failed(job_id=run.job_id, **changes)
    _announce_progress(pull_request, status, was_merged=was_merged, was_complete=was_complete)
    logger.info("Fetched %s: %s, %s requests", pull_request, status, run.requests_made)


def _announce_progress(
    pull_request: PullRequest, status: FetchRun.Status, *, was_merged: bool, was_complete: bool
) -> None:
    if pull_request.state != PullRequest.State.MERGED:
        return
    if not was_merged:
        announce(pull_request_merged, pull_request)
    if status == FetchRun.Status.COMPLETE and not (was_merged and was_complete):
        announce(pull_request_completed, pull_request)


def _judge(pull_request: PullRequest, outcome: Outcome) -> FetchRun.Status:
    if not outcome.errors:
        return FetchRun.Status.COMPLETE
    known = any(is_known(entry) for entry in pull_request.receipt.values())
    return FetchRun.Status.PARTIAL if known else FetchRun.Status.FAILED


def _choose_refetch_at(pull_request: PullRequest, snapshot: Snapshot | None) -> datetime | None:
    """Say when a merged pull request that is complete is to be looked at again, if at all."""
    if pull_request.merged_at is None:
        return None
    pauses = [LATE_COMMENTS]
    if snapshot is not None and _has_running_checks(pull_request, snapshot):
        pauses = [*RUNNING_CHECKS, LATE_COMMENTS]
    looks = (pull_request.merged_at + pause for pause in pauses)
    return next((look for look in looks if look > timezone.now()), None)


def _has_running_checks(pull_request: PullRequest, snapshot: Snapshot) -> bool:
    result = snapshot.sections.get(Section.CHECK_RUNS)
    if result is None or result.items is None:
        return pull_request.check_runs.filter(status__in=RUNNING_CHECK_STATUSES).exists()
    return any(getattr(item, "status", "") in RUNNING_CHECK_STATUSES for item in result.items)


def _choose_retry_at(pull_request: PullRequest, outcome: Outcome) -> datetime | None:
    """Say from when on the clock may try again; None: as soon as nothing else is in the way.

    A refused token is in the way until there is a new one, which must not wait any longer.
    """
    if any(isinstance(error, CredentialRejectedError) for error in outcome.errors.values()):
        return None
    doublings = min(max(pull_request.sync_attempts - 1, 0), 10)
    return timezone.now() + min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)


def _build_result(run: FetchRun, outcome: Outcome) -> dict[str, Any]:
    counts = {
        f"{section}_synced": run.receipt[section]["stored"] if section in run.receipt else 0
        for section in Section
        if section not in SUPPLEMENTARY
    }
    return {**counts, "requests_made": outcome.requests_made, "errors": run.errors}
