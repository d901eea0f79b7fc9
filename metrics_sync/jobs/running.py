"""Runs one fetch: asks GitHub, shows that it is alive meanwhile, and has the outcome saved."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from functools import partial
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from rq.job import Job

from metrics_sync import store
from metrics_sync.access import Access, run_conversation
from metrics_sync.exceptions import GitHubError, GoneError, MetricsSyncError, NameReusedError
from metrics_sync.github import GitHub, fetch_snapshot
from metrics_sync.jobs.saving import count_completion, save
from metrics_sync.models import FetchRun, PullRequest
from metrics_sync.models.transitions import Outcome
from metrics_sync.snapshot import SUPPLEMENTARY, Known, Receipt, Section

logger = logging.getLogger(__name__)

#: Seconds between the signs of life of a long fetch.
HEARTBEAT_SECONDS = 30


def fetch_now(
    pull_request: PullRequest, find_access: Callable[[], Access], *, in_full: bool = False
) -> dict[str, Any]:
    """Fetch a pull request outside of the queues, with the access that `find_access` returns.

    Writes and returns what `fetch_pr_complete_data` does. Errors of GitHub are not raised but
    listed in `errors`. `in_full` ignores what earlier fetches left, for people who doubt it.
    """
    if in_full:
        pull_request.forget_pages()
    _, result = run(pull_request, find_access, job=None)
    return result


def run(
    pull_request: PullRequest, find_access: Callable[[], Access], *, job: Job | None
) -> tuple[Outcome, dict[str, Any]]:
    """Fetch and save a pull request, unless another job is at it; returns the job's result, too."""
    job_id = job.id if job else str(uuid4())
    was_complete = pull_request.completed_at is not None
    begun = store.run_transaction(partial(_begin, pull_request, job_id=job_id))
    if begun is None:
        return Outcome(), {"error": f"Another job is fetching {pull_request} already."}
    row, fetch_run = begun
    pull_request.copy_from(row)
    try:
        outcome = _ask(pull_request, find_access, job_id=job_id)
        if outcome.snapshot is not None and not store.follow_rename(pull_request, outcome.snapshot):
            return Outcome(), {"error": f"{pull_request} has a row under its new name already."}
        save(pull_request, fetch_run, outcome, job=job)
    except Exception as error:
        logger.exception("The fetch of %s broke off", pull_request)
        save(pull_request, fetch_run, Outcome(errors={"fetch": error}), job=job)
        raise
    if outcome.snapshot is not None:
        pull_request.release_others()
    if not was_complete:
        count_completion(pull_request, queue=job.origin if job else "none")
    return outcome, _build_result(fetch_run, outcome)


def _begin(pull_request: PullRequest, *, job_id: str) -> tuple[PullRequest, FetchRun] | None:
    """Mark the row as running and begin the record; None if another job is fetching the row."""
    row = copy(pull_request)
    if not row.mark_running(job_id=job_id):
        return None
    return row, FetchRun.start(pull_request, job_id=job_id)


def _build_result(fetch_run: FetchRun, outcome: Outcome) -> dict[str, Any]:
    receipt = Receipt.from_json(fetch_run.receipt)
    counts = {
        f"{section}_synced": receipt.count_stored(section)
        for section in Section
        if section not in SUPPLEMENTARY
    }
    return {**counts, "requests_made": outcome.requests_made, "errors": fetch_run.errors}


def _ask(pull_request: PullRequest, find_access: Callable[[], Access], *, job_id: str) -> Outcome:
    """Ask GitHub, and record what it said about the token and the repository.

    Refusals are in the outcome; only errors of our own are raised. Without access GitHub is not
    asked.
    """
    number = pull_request.github_pr_number
    if number is None:
        nameless = GitHubError("its number is not known yet; `manage.py reconcile` finds it")
        return Outcome(errors={"pull_request": nameless})
    try:
        access = find_access()
    except MetricsSyncError as error:
        return Outcome(errors={"access": error})
    known = store.load_known(pull_request)
    try:
        with access.open() as github:
            outcome = run_conversation(_fetch, pull_request, number, known, github, job_id=job_id)
    except GitHubError as error:
        return Outcome(errors={"pull_request": error})
    access.note(outcome.errors.values())
    refusal = outcome.errors.get("pull_request")
    if pull_request.repository is not None and isinstance(refusal, GoneError | NameReusedError):
        actor = f"the fetch of {pull_request}"
        store.doubt(pull_request.repository, reason=str(refusal), actor=actor)
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
    """Write signs of life to the row while the block runs, so that it is not taken for stuck."""

    def beat() -> None:
        try:
            pull_request.note_heartbeat(job_id=job_id)
        except (DatabaseError, InterfaceError):
            # The next one may succeed; what was fetched must not be lost for this.
            logger.warning("No sign of life of %s could be written", pull_request)
            connection.close_if_unusable_or_obsolete()

    async def beat_again() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await sync_to_async(beat)()

    task = asyncio.create_task(beat_again())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
