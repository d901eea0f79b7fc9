"""Finds what was let fall, and queues it again."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from django.db.models import Q
from django.utils import timezone

from metrics_sync import counting, store
from metrics_sync.access import Access
from metrics_sync.exceptions import MetricsSyncError, QueueUnavailableError
from metrics_sync.github import fetch_numbers
from metrics_sync.jobs import fetch_now
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.pull_request import STUCK_AFTER, PullRequestQuerySet, SyncStatus
from metrics_sync.queueing import BULK, enqueue_fetch, find_live_jobs

logger = logging.getLogger(__name__)

#: What a pull request and its eight lists cost, when each list fits one page.
REQUESTS_FOR_ONE = 9


class Reason(StrEnum):
    """Why a pull request is to be queued again."""

    FAILED = "failed"
    PARTIAL = "partial"
    MISSING = "missing"
    STUCK = "stuck"
    #: Complete, and its next look is due: late comments, or news that a webhook told.
    OUTDATED = "outdated"
    #: Complete, but for checks that were still running.
    INCOMPLETE_CHECKS = "incomplete-checks"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which pull requests to look at; what is not set means all of them."""

    team: str = ""
    repositories: Collection[str] = ()
    since: datetime | None = None
    only: Collection[Reason] = tuple(Reason)
    #: Leaves out rows that failed a short while ago, as the clock does.
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A pull request to queue again, why, and the repository that says how to reach it."""

    pull_request: PullRequest
    reason: Reason
    repository: TrackedRepository | None


@dataclass(slots=True)
class Report:
    """What was found and done; `skipped` counts rows by the reason for leaving them alone."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, Reason), 0))
    requeued: int = 0
    discovered: int = 0
    #: Complete now, fetched in bulk.
    fetched: int = 0
    redelivered: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def requeue_due() -> dict[str, Any]:
    """Queue what is due; what the clock runs. Safe to repeat, and to run twice at once.

    Leaves out rows without a number: to find those takes long.
    """
    return _requeue_due(has_number=True)


def requeue_nameless() -> dict[str, Any]:
    """Find the numbers of rows that have none, and queue these; what the clock runs each hour."""
    return _requeue_due(has_number=False)


def _requeue_due(*, has_number: bool) -> dict[str, Any]:
    report = Report()
    # Running checks have their next look; only people may not want to wait for it.
    due = [reason for reason in Reason if reason is not Reason.INCOMPLETE_CHECKS]
    dropped = [
        finding
        for finding in find_dropped(Scope(only=due, due_at=timezone.now()))
        if (finding.pull_request.github_pr_number is not None) is has_number
    ]
    for finding in requeue(choose(dropped, report), report):
        logger.info("Queued %s again: %s", finding.pull_request, finding.reason)
    logger.info("Reconciled: %s queued, %s left alone", report.requeued, report.skipped.total())
    return {"requeued": report.requeued, "skipped": dict(report.skipped), "errors": report.errors}


def find_dropped(scope: Scope) -> list[Finding]:
    """Find merged pull requests that are not complete and that nobody is working on.

    Only reads. A queued row whose job Redis still holds is not stuck. The newest merges come
    first within each reason, and each has one reason, its first. Raises QueueUnavailableError
    when Redis has to be asked and does not answer.
    """
    found: dict[int, tuple[PullRequest, Reason]] = {}
    for reason in Reason:
        if reason in scope.only:
            for row in _select(scope, reason):
                found.setdefault(row.pk, (row, reason))
    repositories = {
        (repository.team_id, repository.full_name.lower()): repository
        for repository in list_repositories(Scope(team=scope.team))
    }
    return [
        Finding(row, reason, repositories.get((row.team_id, row.github_repo.lower())))
        for row, reason in found.values()
    ]


def list_repositories(scope: Scope) -> list[TrackedRepository]:
    """Return the active repositories of a scope, with their credential but not its token.

    Those of one credential share its object, so that what one learns of it the others know.
    """
    rows = TrackedRepository.objects.active().select_related("team", "integration__credential")
    rows = rows.defer("integration__webhook_secret", "integration__credential__access_token")
    if scope.team:
        rows = rows.filter(team__slug=scope.team)
    names = {name.lower() for name in scope.repositories}
    chosen = [row for row in rows if not names or row.full_name.lower() in names]
    credentials = {row.integration.credential_id: row.integration.credential for row in chosen}
    for row in chosen:
        row.integration.credential = credentials[row.integration.credential_id]
    return chosen


def _select(scope: Scope, reason: Reason) -> Iterable[PullRequest]:
    rows = _narrow(scope)
    match reason:
        case Reason.FAILED:
            return rows.filter(sync_status=SyncStatus.FAILED)
        case Reason.PARTIAL:
            return rows.filter(sync_status=SyncStatus.PARTIAL)
        case Reason.MISSING:
            return rows.missing()
        case Reason.STUCK:
            return _select_stuck(rows)
        case Reason.OUTDATED:
            return rows.outdated(timezone.now())
        case Reason.INCOMPLETE_CHECKS:
            return rows.with_running_checks().exclude(refetch_at__lte=timezone.now())


def _narrow(scope: Scope) -> PullRequestQuerySet:
    """Return the merged rows of a scope, newest first."""
    rows = PullRequest.objects.merged().select_related("team").order_by("-merged_at", "-pk")
    if scope.team:
        rows = rows.filter(team__slug=scope.team)
    if scope.repositories:
        rows = rows.in_repositories(scope.repositories)
    if scope.since:
        rows = rows.filter(merged_at__gte=scope.since)
    if scope.due_at:
        rows = rows.filter(Q(retry_at=None) | Q(retry_at__lte=scope.due_at))
    return rows


def _select_stuck(rows: PullRequestQuerySet) -> Iterator[PullRequest]:
    moment = timezone.now() - STUCK_AFTER
    yield from rows.silent_since(moment)
    queued = list(rows.queued_before(moment))
    live = find_live_jobs(row.sync_job_id for row in queued)
    yield from (row for row in queued if row.sync_job_id not in live)


def choose(
    findings: Collection[Finding], report: Report, *, limit: int | None = None
) -> list[Finding]:
    """Return the findings that can be taken now, counting all of them into `report`."""
    for finding in findings:
        report.found[finding.reason] += 1
    takeable = [finding for finding in findings if _may_take(finding, report)]
    if len(takeable[:limit]) < len(takeable):
        report.skipped["over the limit"] += len(takeable) - len(takeable[:limit])
    return takeable[:limit]


def requeue(
    findings: Collection[Finding], report: Report, *, inline: bool = False
) -> Iterator[Finding]:
    """Queue the findings on the bulk queue, or fetch them here (`inline`), yielding each as done.

    Counts into `report` as it goes. Rows without a number get theirs first. Of two processes
    that try the same row, one wins. Stops at the first sign of Redis being down, and says so.
    """
    _save_numbers(findings, report)
    for finding in findings:
        counting.count("reconcile_findings", reason=finding.reason)
        try:
            _take(finding, report, inline=inline)
        except QueueUnavailableError as error:
            report.errors.append(str(error))
            return
        except MetricsSyncError as error:
            report.errors.append(f"{finding.pull_request}: {error}")
        yield finding


def _may_take(finding: Finding, report: Report) -> bool:
    if finding.repository is None:
        report.skipped["repository not tracked"] += 1
        return False
    credential = finding.repository.integration.credential
    if credential.revoked_at is not None:
        report.skipped["credential revoked"] += 1
    elif credential.find_pause(is_bulk=True) is not None:
        report.skipped["rate limit kept for merges"] += 1
    else:
        return True
    return False


def _take(finding: Finding, report: Report, *, inline: bool) -> None:
    pull_request, repository = finding.pull_request, finding.repository
    if repository is None or pull_request.github_pr_number is None:
        report.skipped["number not found"] += 1
    elif not inline:
        if enqueue_fetch(pull_request, queue_name=BULK):
            report.requeued += 1
        else:
            report.skipped["taken by somebody else"] += 1
    elif _may_take(finding, report):
        result = fetch_now(pull_request, partial(Access.of, repository, is_bulk=True))
        report.requeued += 1
        errors = [result["error"]] if "error" in result else result["errors"]
        report.errors += [f"{pull_request}: {error}" for error in errors]


def _save_numbers(findings: Iterable[Finding], report: Report) -> None:
    """Ask GitHub for the numbers of rows that have none, one listing for each repository."""
    nameless: defaultdict[TrackedRepository, dict[int, PullRequest]] = defaultdict(dict)
    for finding in findings:
        row = finding.pull_request
        if row.github_pr_number is None and finding.repository is not None:
            nameless[finding.repository][row.github_pr_id] = row
    for repository, rows in nameless.items():
        try:
            question = partial(
                fetch_numbers, full_name=repository.full_name, github_pr_ids=rows.keys()
            )
            numbers = Access.of(repository, is_bulk=True).ask(question)
        except MetricsSyncError as error:
            report.errors.append(f"{repository}: the numbers were not found: {error}")
            continue
        for github_pr_id, number in numbers.items():
            store.save_number(rows[github_pr_id], number)
        for github_pr_id in rows.keys() - numbers.keys():
            rows[github_pr_id].mark_unlisted()
            report.errors.append(
                f"{repository}: GitHub lists no pull request with the id {github_pr_id}"
            )
