"""Fetches in bulk the merges that wait for requests: GraphQL's points are a separate budget."""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.utils import timezone

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    MetricsSyncError,
    RateLimitedError,
    RetrySoonError,
)
from metrics_sync.github import FETCHED, GraphQL, OnlyInRestError, fetch_snapshots
from metrics_sync.heal.backfilling import Backfill, Results
from metrics_sync.heal.wanted import Wanted
from metrics_sync.jobs import BULK, MERGES
from metrics_sync.jobs.saving import count_completion
from metrics_sync.jobs.saving_together import Fetched
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import NEWEST_FIRST
from metrics_sync.snapshot import Snapshot
from metrics_sync.work.queueing import bring_forward, drop_scheduled
from metrics_sync.work.rounds import hold_round
from metrics_sync.work.turns import enqueue_for_team

logger = logging.getLogger(__name__)

#: The merges of one job; the clock queues the next job for those that are left.
MOST_AT_ONCE = 4 * FETCHED
#: How long a job whose process died keeps other jobs from its credential.
HOLD = timedelta(seconds=45)

#: The columns that are needed to fetch a row and to postpone it.
NEEDED = (
    "github_pr_id",
    "github_pr_number",
    "repository",
    "state",
    "merged_at",
    "completed_at",
    "sync_status",
    "sync_job_id",
)
#: How the `sync_error` begins of a row that a query did not bring; the reason follows.
WAITS = "waits for GitHub's rate limit, as it was not fetched in bulk"

#: How long no query asks again for a merge that GraphQL did not return whole, and how long a
#: credential sends no queries after one that returned nothing.
FAULT_PAUSE = timedelta(minutes=1)


def enqueue_waiting() -> dict[str, Any]:
    """Queue a job for each credential that is short of requests; the clock calls it.

    Each credential fetches its own merges only. If a team has its share of jobs on the queue of
    merges, its job is queued in a later round. Safe to repeat: of two jobs of one
    credential the second ends at once. Raises QueueUnavailableError.
    """
    now, queued = timezone.now(), 0
    rows = IntegrationCredential.objects.filter(revoked_at=None, rate_limit_resets_at__gt=now)
    for credential in rows.defer("access_token"):
        waiting = PullRequest.objects.waiting_of(credential, now)
        if waiting.exists() and PullRequest.objects.prefer_bulk(credential):
            queued += enqueue_for_team(credential.team_id, fetch_waiting, credential.pk)
    return {"queued": queued}


def fetch_waiting(credential_id: int) -> dict[str, Any]:
    """Fetch merges that wait for the requests of a credential, 25 with each query; an RQ job.

    No row is claimed before its data have arrived, so if this job is killed, each row still has
    its own job. That one ends at once if the row is complete by then. If GraphQL refuses a
    repository, its rows are left to REST for a minute. The credential sends no queries for a
    minute if nothing was fetched, and until the end of a limit that it met. Raises
    QueueUnavailableError.
    """
    credential = IntegrationCredential.objects.defer("access_token").get(pk=credential_id)
    fetched, errors, is_limited = 0, list[str](), False
    until = timezone.now() + FAULT_PAUSE
    with hold_round(f"fetch_waiting:{credential_id}", lasts=HOLD) as go_on:
        if go_on is None:
            return {"fetched": 0, "errors": ["another job fetches them"]}
        for (repository_id, is_recent), rows in _group_waiting(credential).items():
            repository = TrackedRepository.objects.with_credentials().get(pk=repository_id)
            try:
                fetched += _fetch_of_repository(repository, rows, go_on, is_bulk=not is_recent)
            except MetricsSyncError as error:
                logger.warning("Merges of %s are not fetched in bulk: %s", repository, error)
                errors.append(f"{repository}: {error}")
                is_limited = isinstance(error, RateLimitedError)
                until = getattr(error, "until", until)
                for row in rows:
                    row.postpone(until, reason=f"{WAITS}: {error}")
                bring_forward(row.sync_job_id for row in rows)
                if is_limited or isinstance(error, CredentialRejectedError):
                    break
            if not go_on():
                break
    if is_limited or (errors and not fetched):
        credential.note_bulk_pause(until)
    return {"fetched": fetched, "errors": errors}


def _group_waiting(credential: IntegrationCredential) -> dict[tuple[int, bool], list[PullRequest]]:
    """Choose waiting merges, the newest first, and group them by repository and being recent."""
    groups, now = defaultdict[tuple[int, bool], list[PullRequest]](list), timezone.now()
    if PullRequest.objects.prefer_bulk(credential):
        rows = PullRequest.objects.waiting_of(credential, now).order_by(*NEWEST_FIRST)
        for row in rows.only(*NEEDED)[:MOST_AT_ONCE]:
            if row.repository_id is not None:
                groups[row.repository_id, row.is_recent_merge].append(row)
    return groups


def _fetch_of_repository(
    repository: TrackedRepository,
    rows: list[PullRequest],
    go_on: Callable[[], bool],
    *,
    is_bulk: bool,
) -> int:
    waiting = WaitingMerges(repository, is_bulk=is_bulk)
    waiting.take(rows)
    for _ in waiting.fetch():
        drop_scheduled(waiting.replaced_jobs)
        bring_forward(waiting.unserved_jobs)
        waiting.replaced_jobs, waiting.unserved_jobs = [], []
        if not go_on():
            break
    return waiting.tally.fetched


class WaitingMerges(Backfill):
    """A backfill of waiting merges: a row that bulk does not bring goes on waiting for its own job.

    Unless `is_bulk`, lists that only REST has may use the requests that are reserved for merges.
    """

    def __init__(self, repository: TrackedRepository, *, is_bulk: bool) -> None:
        super().__init__(repository, is_bulk=is_bulk)
        #: As which queue's the merges count: old ones would look like slow ones of the other.
        self._counted_as = BULK if is_bulk else MERGES
        #: The ids of the jobs of stored rows, and of rows that bulk did not bring.
        self.replaced_jobs, self.unserved_jobs = list[str](), list[str]()

    def _build_question(self, batch: Sequence[Wanted]) -> Callable[[GraphQL], Awaitable[Results]]:
        numbers = [wanted.number for wanted in batch]
        return partial(fetch_snapshots, full_name=self.repository.full_name, numbers=numbers)

    def _save(self, fetched: Sequence[Fetched]) -> None:
        before = [(one.row, one.row.sync_job_id) for one in fetched]
        super()._save(fetched)
        for row, job_id in before:
            if row.sync_job_id != job_id:
                self.replaced_jobs.append(job_id)
                count_completion(row, queue=self._counted_as)

    def _leave_unfetched(self, row: PullRequest, result: Snapshot | GitHubError) -> None:
        """Let the row's own job use requests, if any are left.

        Bulk tries again in a minute, or after the reset if only REST can bring the row.
        """
        credential, until = self.repository.integration.credential, timezone.now() + FAULT_PAUSE
        is_final = not isinstance(result, Snapshot | RetrySoonError)
        if is_final or isinstance(result, OnlyInRestError):
            until = max(until, credential.rate_limit_resets_at or until)
        reason = result if isinstance(result, GitHubError) else "GitHub's answer is not of it"
        if row.postpone(until, reason=f"{WAITS}: {reason}"):
            self.unserved_jobs.append(row.sync_job_id)

    def _leave_incomplete(self, row: PullRequest) -> None:
        """Leave the row to the clock, which queues it when there are requests for it."""
