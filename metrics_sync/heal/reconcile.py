"""Queues pull requests again that are not complete, by the clock and by hand."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from django.db.models import Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.exceptions import MetricsSyncError, QueueUnavailableError
from metrics_sync.github import fetch_numbers
from metrics_sync.heal.finding import (
    LARGE,
    Finding,
    Reason,
    Scope,
    list_repositories,
    make_findings,
    narrow,
    restrict,
    select_stuck,
)
from metrics_sync.heal.refetching import group_for_bulk, refetch_in_bulk
from metrics_sync.jobs.running import fetch_now
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import NEWEST_FIRST, PullRequestQuerySet
from metrics_sync.observe import counting
from metrics_sync.work.queueing import BULK, count_free_places, enqueue_fetch, enqueue_together
from metrics_sync.work.rounds import hold_round, note_round

logger = logging.getLogger(__name__)

#: Rows read at a time.
SLICE = 100

#: The longest round of the clock, and how long a round whose process died blocks the next.
ROUND_LASTS = timedelta(seconds=45)
ROUND_HOLD = timedelta(seconds=20)
#: Rows without a number that one round looks up.
MOST_NAMELESS = 2_000


#: The reasons of the clock. Running checks have a scheduled refetch; only people ask for it early.
DUE = tuple(reason for reason in Reason if reason is not Reason.INCOMPLETE_CHECKS)


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
    findings = make_findings(due, list_repositories(Scope()))
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
    usable = list(IntegrationCredential.objects.filter(revoked_at=None).defer("access_token"))
    of_all = [row.pk for row in usable if row.find_pause(is_bulk=True) is None]
    of_recent = [row.pk for row in usable if row.pk not in of_all and row.find_pause() is None]
    now, found = timezone.now(), dict[int, _Due]()
    rows = narrow(Scope(due_at=now)).filter(github_pr_number__isnull=not has_number)
    for reason in DUE if limit else ():
        for chosen, ids in ((rows, of_all), (rows.recent_merges(now), of_recent)):
            fetchable = chosen.tracked(integration__credential__in=ids)
            for due in _list_in_turn(fetchable, reason, limit) if ids else ():
                found.setdefault(due.pk, due)
    return sorted(found.values())[:limit]


def _list_in_turn(rows: PullRequestQuerySet, reason: Reason, limit: int) -> Iterator[_Due]:
    if reason is Reason.STUCK:
        turns: Counter[int] = Counter()
        for row in islice(select_stuck(rows), limit):
            turns[row.team_id] += 1
            yield _Due(turns[row.team_id], row.pk, row.sync_status, row.sync_job_id, reason)
        return
    turn = Window(RowNumber(), partition_by="team", order_by=NEWEST_FIRST)
    ordered = restrict(rows, reason).annotate(turn=turn).order_by("turn", *NEWEST_FIRST)
    for values in ordered.values_list("turn", "pk", "sync_status", "sync_job_id")[:limit]:
        yield _Due(*values, reason)


def _load_due(due: Collection[_Due]) -> Iterator[tuple[PullRequest, Reason]]:
    """Yield the rows whose state has not changed since they were found."""
    rows = PullRequest.objects.defer(*LARGE).in_bulk([one.pk for one in due])
    for one in due:
        row = rows.get(one.pk)
        if row and (row.sync_status, row.sync_job_id) == (one.sync_status, one.sync_job_id):
            yield row, one.reason


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
    elif credential.find_pause(is_bulk=not finding.pull_request.is_recent_merge) is not None:
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
        is_bulk = not whole.is_recent_merge
        result = fetch_now(whole, partial(Access.of, repository, is_bulk=is_bulk))
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
