"""The job that a worker runs: fetch a pull request, store it, measure it."""

import random
import sys
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Any

from django.db.models import BigIntegerField
from django.utils import timezone
from rq import Retry, get_current_job
from rq.job import Job

from metrics_sync.access import Access
from metrics_sync.conf import app_settings
from metrics_sync.jobs import running
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.models.states import SyncStatus

#: The queues: merges, which workers take first, and everything that can wait.
MERGES = app_settings.QUEUE
BULK = app_settings.BULK_QUEUE

#: A job that waits for a rate limit checks at least once an hour whether it still must, without a
#: request: GitHub may have said something else since. So that jobs do not return together, each
#: wait is spread by a twentieth, and by MOST_SPREAD_SECONDS at most.
LONGEST_PARKED_SECONDS = 3600
MOST_SPREAD_SECONDS = 120

#: How long a merge waits to be fetched in bulk, while it could have requests of its own. The clock
#: fetches it within seconds, or says that it cannot; so this is for where no clock runs.
LONGEST_BULK_WAIT = timedelta(minutes=5)

_pull_request = Prepared(lambda: PullRequest.objects.filter(pk=Slot("pk", BigIntegerField())))
_repository = Prepared(
    lambda: (
        TrackedRepository.objects.active()
        .filter(pull_requests=Slot("pull_request_id", BigIntegerField()))
        .with_credentials()
    )
)


def fetch_pr_complete_data(pr_id: int) -> dict[str, Any] | Retry:
    """Fetch all of a pull request, store it, and measure it; this is the job on the queues.

    Safe to repeat, and to run twice at once: the second run does nothing. Returns the number of
    rows of each section, `requests_made` and `errors`. A missing pull request, or one whose
    repository is not tracked, returns `{"error": ...}` and is not tried again.

    As an RQ job it raises errors that may be gone later, so that RQ tries again while it has
    retries left. Errors that no retry mends are returned, and recorded on the row. While GitHub
    wants the token to wait, the job returns an RQ Retry for that moment, which uses up none of its
    retries and holds no worker.
    """
    pull_request = _pull_request.first(pk=pr_id)
    if pull_request is None:
        return {"error": f"There is no pull request with the id {pr_id} here."}
    # A secret that cannot be decrypted is met later, where it is recorded on the row.
    repository = _repository.first(pull_request_id=pr_id)
    if repository is None:
        pull_request.mark_untracked()
        return {"error": pull_request.sync_error}
    # Neither needs to be read again.
    pull_request.team, pull_request.repository = repository.team, repository
    job = get_current_job()
    if job is None:
        return running.fetch_now(pull_request, partial(Access.of, repository, is_bulk=False))
    return _fetch_or_park(pull_request, repository, job)


def _fetch_or_park(
    pull_request: PullRequest, repository: TrackedRepository, job: Job
) -> dict[str, Any] | Retry:
    """Run the job, or have it wait for requests; raises errors that may be gone later."""
    if _is_done(pull_request, job):
        return {"error": f"{pull_request} has been completed since this job was made."}
    is_bulk = job.origin == BULK and not pull_request.is_recent_merge
    credential = repository.integration.credential
    if wait_until := credential.find_pause(is_bulk=is_bulk):
        pull_request.mark_parked(job_id=job.id, until=wait_until)
        return _park(wait_until)
    if not is_bulk and (wait_until := _find_bulk_wait(pull_request, credential)):
        reason = "a query that fetches many merges, as few requests are left,"
        pull_request.mark_parked(job_id=job.id, until=wait_until, reason=reason)
        return _park(wait_until)
    find_access = partial(Access.of, repository, is_bulk=is_bulk)
    outcome, result = running.run(pull_request, find_access, job=job)
    if outcome.wait_until:
        return _park(outcome.wait_until)
    if outcome.passing:
        raise outcome.passing[0]
    return result


def _is_done(pull_request: PullRequest, job: Job) -> bool:
    """Whether the row was completed by this job, or by one that began after it was made.

    RQ runs a job again when its worker died at the very end, or when Redis loads an old dump.
    """
    if pull_request.sync_status != SyncStatus.COMPLETE:
        return False
    started_at = pull_request.fetch_started_at
    is_own = pull_request.sync_job_id == job.id
    return is_own or (started_at is not None and started_at > job.created_at)


def _find_bulk_wait(
    pull_request: PullRequest, credential: IntegrationCredential
) -> datetime | None:
    """Return until when a merge waits for the clock to fetch it in bulk; None if it need not.

    It need not once that was in vain: it is postponed, or has waited for long.
    """
    now = timezone.now()
    until = (pull_request.queued_at or now) + LONGEST_BULK_WAIT
    was_in_vain = until <= now or (pull_request.retry_at or now) > now
    return until if not was_in_vain and PullRequest.objects.prefer_bulk(credential) else None


def _park(until: datetime) -> Retry:
    """Have RQ run this job again about then, or in an hour if that is sooner.

    RQ counts a Retry that a job returns apart from the retries it has for errors.
    """
    seconds = min((until - timezone.now()).total_seconds(), LONGEST_PARKED_SECONDS)
    spread = random.uniform(0, min(seconds * 0.05, MOST_SPREAD_SECONDS))
    return Retry(max=sys.maxsize, interval=max(1, ceil(seconds + spread)))
