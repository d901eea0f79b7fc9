"""Finds merged pull requests that are not complete, and the reason to fetch each again."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db.models import Q
from django.utils import timezone

from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.pull_request import NEWEST_FIRST, PullRequestQuerySet
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.work.abandoned import find_abandoned

#: A fetch younger than this is not repeated for running checks, even if reconcile runs twice.
CHECKS_PAUSE = timedelta(minutes=5)

#: Columns that are not needed to queue a row.
LARGE = ("etags", "provenance", "sync_error", "title")
#: Queued rows whose jobs are looked up in Redis at a time.
ASKED_AT_ONCE = 10_000


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
    return make_findings(found.values(), list_repositories(Scope(team=scope.team)))


def make_findings(
    found: Iterable[tuple[PullRequest, Reason]], repositories: Iterable[TrackedRepository]
) -> list[Finding]:
    """Give each row that was found its team's repository of that name, where there is one."""
    known = {(one.team_id, one.full_name.lower()): one for one in repositories}
    return [
        Finding(row, reason, known.get((row.team_id, row.github_repo.lower())))
        for row, reason in found
    ]


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
    rows = narrow(scope)
    return select_stuck(rows) if reason is Reason.STUCK else restrict(rows, reason)


def restrict(rows: PullRequestQuerySet, reason: Reason) -> PullRequestQuerySet:
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


def narrow(scope: Scope) -> PullRequestQuerySet:
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


def select_stuck(rows: PullRequestQuerySet) -> Iterator[PullRequest]:
    """Yield rows whose job is gone; Redis is asked once for each ASKED_AT_ONCE rows."""
    queued = rows.queued_before(timezone.now() - STUCK_AFTER)
    for candidates in (rows.filter(sync_status=SyncStatus.RUNNING), queued):
        pks = list(candidates.order_by("queued_at", "pk").values_list("pk", flat=True))
        for start in range(0, len(pks), ASKED_AT_ONCE):
            yield from find_abandoned(candidates.filter(pk__in=pks[start : start + ASKED_AT_ONCE]))
