"""Finds merged pull requests that are not complete, and queues them again."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from django.db.models import Q, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.exceptions import MetricsSyncError, QueueUnavailableError
from metrics_sync.github import fetch_numbers
from metrics_sync.heal.refetching import group_for_bulk, refetch_in_bulk
from metrics_sync.jobs.running import fetch_now
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import NEWEST_FIRST, PullRequestQuerySet
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.observe import counting
from metrics_sync.work.abandoned import find_abandoned
from metrics_sync.work.queueing import BULK, count_free_places, enqueue_fetch, enqueue_together
from metrics_sync.work.rounds import hold_round, note_round

logger = logging.getLogger(__name__)

#: A fetch younger than this is not repeated for running checks, even if reconcile runs twice.
CHECKS_PAUSE = timedelta(minutes=5)

#: Requests for a pull request and its eight lists, if each list fits on one page.
REQUESTS_FOR_ONE = 9

#: Columns that are not needed to queue a row.
LARGE = ("etags", "provenance", "sync_error", "title")
#: Rows read at a time, and queued rows whose jobs are looked up in Redis at a time.
SLICE = 100
ASKED_AT_ONCE = 10_000

#: The longest round of the clock, and how long a round whose process died blocks the next.
ROUND_LASTS = timedelta(seconds=45)
ROUND_HOLD = timedelta(seconds=20)
#: Rows without a number that one round looks up.
MOST_NAMELESS = 2_000


class Reason(StrEnum):
    """Why a pull request is queued again."""

    FAILED = "failed"
    PARTIAL = "partial"
    MISSING = "missing"
    STUCK = "stuck"
    #: Complete, and due for a refetch: late comments, or a change that a webhook reported.
    OUTDATED = "outdated"
    #: Complete, except for checks that were still running.
    INCOMPLETE_CHECKS = "incomplete-checks"


#: The reasons of the clock. Running checks have a scheduled refetch; only people ask for it early.
DUE = tuple(reason for reason in Reason if reason is not Reason.INCOMPLETE_CHECKS)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which pull requests to consider; an empty field means all."""

    team: str = ""
    repositories: Collection[str] = ()
    #: Merges from `since` until before `until`.
    since: datetime | None = None
    until: datetime | None = None
    only: Collection[Reason] = tuple(Reason)
    #: Excludes rows whose retry is due later, as the clock does.
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A pull request to queue again, the reason, and the repository through which to fetch it."""

    pull_request: PullRequest
    reason: Reason
    repository: TrackedRepository | None


@dataclass(slots=True)
class Report:
    """What was found and done; `skipped` counts skipped rows by reason."""

    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(map(str, Reason), 0))
    requeued: int = 0
    discovered: int = 0
    #: Fetched in bulk, and complete.
    fetched: int = 0
    redelivered: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def requeue_due() -> dict[str, Any]:
    """Queue the rows that are due; the clock runs this every minute. Safe to repeat.

    A round ends when the bulk queue is full or after ROUND_LASTS, and the next round continues.
    Only one round runs at a time. Teams take turns. Rows without a number are excluded, because
    looking up numbers takes long.
    """
    report = Report()
    try:
        with hold_round("requeue_due", lasts=ROUND_HOLD) as go_on:
            if go_on is not None:
                _requeue_in_slices(report, go_on)
                note_round("requeue_due", requeued=report.requeued, errors=len(report.errors))
    except QueueUnavailableError as error:
        report.errors.append(str(error))
    return _summarize(report)


def _requeue_in_slices(report: Report, go_on: Callable[[], bool]) -> None:
    ends_at = timezone.now() + ROUND_LASTS
    due = {one.pk: one for one in _list_due(count_free_places(), has_number=True)}
    groups = group_for_bulk([pk for pk, one in due.items() if one.reason is Reason.OUTDATED])
    for group in groups:
        if timezone.now() > ends_at or not go_on():
            return
        _requeue_together([due.pop(pk) for pk in group], report)
    single = list(due.values())
    for start in range(0, len(single), SLICE):
        if timezone.now() > ends_at or not go_on():
            return
        for row, reason in _load_due(single[start : start + SLICE]):
            counting.count("reconcile_findings", reason=reason)
            if enqueue_fetch(row, queue_name=BULK):
                report.requeued += 1
                logger.info("Queued %s again: %s", row, reason)
            else:
                report.skipped["claimed by another process"] += 1


def _requeue_together(group: Collection["_Due"], report: Report) -> None:
    """Queue rows of one repository with one job."""
    rows = [row for row, _ in _load_due(group)]
    counting.count("reconcile_findings", len(rows), reason=Reason.OUTDATED)
    queued = enqueue_together(rows, refetch_in_bulk)
    report.requeued += queued
    if queued < len(group):
        report.skipped["claimed by another process"] += len(group) - queued


def requeue_nameless() -> dict[str, Any]:
    """Look up missing numbers and queue their rows; the clock runs this every hour."""
    report = Report()
    due = _load_due(_list_due(MOST_NAMELESS, has_number=False))
    repositories = _map_repositories(list_repositories(Scope()))
    findings = [Finding(row, reason, repositories.get(_get_key(row))) for row, reason in due]
    for finding in requeue(choose(findings, report), report):
        logger.info("Queued %s again: %s", finding.pull_request, finding.reason)
    return _summarize(report)


def _summarize(report: Report) -> dict[str, Any]:
    logger.info("Reconciled: %s queued, %s left alone", report.requeued, report.skipped.total())
    return {"requeued": report.requeued, "skipped": dict(report.skipped), "errors": report.errors}


class _Due(NamedTuple):
    """A row that is due: its place among its team's rows, and its state when it was found."""

    turn: int
    pk: int
    sync_status: str
    sync_job_id: str
    reason: Reason


def _list_due(limit: int, *, has_number: bool) -> list[_Due]:
    """Choose up to `limit` rows that can be fetched now, each team's newest merges first."""
    usable = IntegrationCredential.objects.filter(revoked_at=None).defer("access_token")
    ids = [row.pk for row in usable if row.find_pause(is_bulk=True) is None]
    scope = Scope(due_at=timezone.now())
    found: dict[int, _Due] = {}
    for reason in DUE if limit and ids else ():
        rows = _narrow(scope).filter(github_pr_number__isnull=not has_number)
        rows = rows.tracked(integration__credential__in=ids)
        for due in _list_in_turn(rows, reason, limit):
            found.setdefault(due.pk, due)
    return sorted(found.values())[:limit]


def _list_in_turn(rows: PullRequestQuerySet, reason: Reason, limit: int) -> Iterator[_Due]:
    if reason is Reason.STUCK:
        turns: Counter[int] = Counter()
        for row in islice(_select_stuck(rows), limit):
            turns[row.team_id] += 1
            yield _Due(turns[row.team_id], row.pk, row.sync_status, row.sync_job_id, reason)
        return
    turn = Window(RowNumber(), partition_by="team", order_by=NEWEST_FIRST)
    ordered = _restrict(rows, reason).annotate(turn=turn).order_by("turn", *NEWEST_FIRST)
    for values in ordered.values_list("turn", "pk", "sync_status", "sync_job_id")[:limit]:
        yield _Due(*values, reason)


def _load_due(due: Collection[_Due]) -> Iterator[tuple[PullRequest, Reason]]:
    """Yield the rows whose state has not changed since they were found."""
    rows = PullRequest.objects.defer(*LARGE).in_bulk([one.pk for one in due])
    for one in due:
        row = rows.get(one.pk)
        if row and (row.sync_status, row.sync_job_id) == (one.sync_status, one.sync_job_id):
            yield row, one.reason


def find_dropped(scope: Scope) -> list[Finding]:
    """Find merged pull requests that are not complete and that no worker is fetching.

    Only reads. A queued row whose job is still in Redis is not stuck. The newest merges come
    first within each reason; a row that has several reasons is listed under the first. Raises
    QueueUnavailableError if Redis is needed and does not answer.
    """
    found: dict[int, tuple[PullRequest, Reason]] = {}
    for reason in Reason:
        if reason in scope.only:
            for row in _select(scope, reason):
                found.setdefault(row.pk, (row, reason))
    repositories = _map_repositories(list_repositories(Scope(team=scope.team)))
    return [Finding(row, reason, repositories.get(_get_key(row))) for row, reason in found.values()]


def _map_repositories(
    repositories: Iterable[TrackedRepository],
) -> dict[tuple[int, str], TrackedRepository]:
    return {(row.team_id, row.full_name.lower()): row for row in repositories}


def _get_key(row: PullRequest) -> tuple[int, str]:
    return row.team_id, row.github_repo.lower()


def list_repositories(scope: Scope) -> list[TrackedRepository]:
    """Return the active repositories of a scope, with their credentials but not the tokens.

    Repositories of one credential share one object, so that all of them see its changes.
    """
    rows = TrackedRepository.objects.active().with_credentials()
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
    return _select_stuck(rows) if reason is Reason.STUCK else _restrict(rows, reason)


def _restrict(rows: PullRequestQuerySet, reason: Reason) -> PullRequestQuerySet:
    match reason:
        case Reason.FAILED:
            return rows.filter(sync_status=SyncStatus.FAILED)
        case Reason.PARTIAL:
            return rows.filter(sync_status=SyncStatus.PARTIAL)
        case Reason.MISSING:
            return rows.missing()
        case Reason.OUTDATED:
            return rows.outdated(timezone.now())
        case Reason.INCOMPLETE_CHECKS:
            now = timezone.now()
            rows = rows.with_running_checks().exclude(refetch_at__lte=now)
            return rows.exclude(fetch_started_at__gt=now - CHECKS_PAUSE)
    raise ValueError(reason)


def _narrow(scope: Scope) -> PullRequestQuerySet:
    """Return the merged rows of a scope, newest first."""
    rows = PullRequest.objects.merged().defer(*LARGE).order_by(*NEWEST_FIRST)
    if scope.team:
        rows = rows.filter(team__slug=scope.team)
    if scope.repositories:
        rows = rows.in_repositories(scope.repositories)
    if scope.since:
        rows = rows.filter(merged_at__gte=scope.since)
    if scope.until:
        rows = rows.filter(merged_at__lt=scope.until)
    if scope.due_at:
        rows = rows.filter(Q(retry_at=None) | Q(retry_at__lte=scope.due_at))
    return rows


def _select_stuck(rows: PullRequestQuerySet) -> Iterator[PullRequest]:
    """Yield rows whose job is gone; Redis is asked once for each ASKED_AT_ONCE rows."""
    queued = rows.queued_before(timezone.now() - STUCK_AFTER)
    for candidates in (rows.filter(sync_status=SyncStatus.RUNNING), queued):
        pks = list(candidates.order_by("queued_at", "pk").values_list("pk", flat=True))
        for start in range(0, len(pks), ASKED_AT_ONCE):
            yield from find_abandoned(candidates.filter(pk__in=pks[start : start + ASKED_AT_ONCE]))


def choose(
    findings: Collection[Finding], report: Report, *, limit: int | None = None
) -> list[Finding]:
    """Return the findings that can be fetched now, and count all of them in `report`."""
    for finding in findings:
        report.found[finding.reason] += 1
    fetchable = [finding for finding in findings if _can_fetch(finding, report)]
    if len(fetchable[:limit]) < len(fetchable):
        report.skipped["over the limit"] += len(fetchable) - len(fetchable[:limit])
    return fetchable[:limit]


def requeue(
    findings: Collection[Finding], report: Report, *, inline: bool = False
) -> Iterator[Finding]:
    """Queue the findings on the bulk queue, or fetch them here (`inline`); yield each when done.

    Counts in `report`. Missing numbers are looked up first. If two processes claim the same row,
    one of them wins. Stops when Redis does not answer, and reports it.
    """
    _save_numbers(findings, report)
    for finding in findings:
        counting.count("reconcile_findings", reason=finding.reason)
        try:
            _requeue_or_fetch(finding, report, inline=inline)
        except QueueUnavailableError as error:
            report.errors.append(str(error))
            return
        except MetricsSyncError as error:
            report.errors.append(f"{finding.pull_request}: {error}")
        yield finding


def _can_fetch(finding: Finding, report: Report) -> bool:
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


def _requeue_or_fetch(finding: Finding, report: Report, *, inline: bool) -> None:
    pull_request, repository = finding.pull_request, finding.repository
    if repository is None or pull_request.github_pr_number is None:
        report.skipped["number not found"] += 1
    elif not inline:
        if enqueue_fetch(pull_request, queue_name=BULK):
            report.requeued += 1
        else:
            report.skipped["claimed by another process"] += 1
    elif _can_fetch(finding, report):
        whole = PullRequest.objects.select_related("team").get(pk=pull_request.pk)
        result = fetch_now(whole, partial(Access.of, repository, is_bulk=True))
        report.requeued += 1
        errors = [result["error"]] if "error" in result else result["errors"]
        report.errors += [f"{pull_request}: {error}" for error in errors]


def _save_numbers(findings: Iterable[Finding], report: Report) -> None:
    """Look up missing numbers at GitHub, with one listing for each repository."""
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
            report.errors.append(f"{repository}: the lookup of its numbers failed: {error}")
            continue
        for github_pr_id, number in numbers.items():
            store.save_number(rows[github_pr_id], number)
        for github_pr_id in rows.keys() - numbers.keys():
            rows[github_pr_id].mark_unlisted()
            report.errors.append(
                f"{repository}: GitHub lists no pull request with the id {github_pr_id}"
            )
