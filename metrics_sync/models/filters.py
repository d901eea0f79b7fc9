"""The filters of pull requests, and what is done to many of them at once."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from math import inf
from typing import Any, Self, TypeVar

from django.db import models, transaction
from django.db.models.expressions import Combinable
from django.utils import timezone

from metrics_sync.models.budgets import HOUR
from metrics_sync.models.credential import IntegrationCredential
from metrics_sync.models.repository import TrackedRepository
from metrics_sync.models.states import State, SyncStatus

Row = TypeVar("Row", bound=models.Model)

#: The statuses of a check run that is not completed.
#: https://docs.github.com/en/rest/checks/runs
RUNNING_CHECK_STATUSES = ("queued", "in_progress", "waiting", "requested", "pending")

#: The state of a legacy commit status whose check has not ended.
PENDING_STATUS = "pending"

#: After a change to a merged pull request, further changes are awaited this long before a refetch.
CHANGE_PAUSE = timedelta(minutes=1)

#: The merges of so long tell how many are to come.
RATE_PERIOD = timedelta(minutes=5)

#: So long after it a merge may use the requests that are reserved for merges, if it has never been
#: complete. Thousands of older ones may be discovered together.
RECENT = timedelta(hours=1)

#: A row with more failures in succession than an outage of most of a day causes has a fault of its
#: own: that GitHub answers for other rows does not release it.
MOST_RELEASES = 8
#: The most rows that one answer of GitHub releases; the next answer releases others.
RELEASED_AT_ONCE = 5000


def is_silent_since(moment: datetime) -> models.Q:
    """Match rows whose fetch has given no sign of life since `moment`."""
    unseen = models.Q(heartbeat_at=None)
    begun_before = models.Q(fetch_started_at__lt=moment) | models.Q(fetch_started_at=None)
    return models.Q(heartbeat_at__lt=moment) | (unseen & begun_before)


class PullRequestFilters(models.QuerySet[Row]):
    """Filters that chain, e.g. `PullRequest.objects.merged().disagreeing()`."""

    def merged(self) -> Self:
        return self.filter(state=State.MERGED)

    def recent_merges(self, moment: datetime) -> Self:
        """Keep merges that may use the requests reserved for merges, as `is_recent_merge` says."""
        return self.merged().filter(completed_at=None, merged_at__gt=moment - RECENT)

    def tracked(self, **which: Any) -> Self:
        """Keep rows of tracked repositories; `which` are further conditions on the repository."""
        of_repository = {f"repository__{name}": value for name, value in which.items()}
        return self.filter(repository__is_active=True, **of_repository)

    def in_repositories(self, full_names: Iterable[str]) -> Self:
        """Keep rows of the repositories with these names; GitHub's names ignore case."""
        named = models.Q()
        for full_name in full_names:
            named |= models.Q(github_repo__iexact=full_name)
        return self.filter(named)

    def of_repository(self, repository: TrackedRepository | None, full_name: str) -> Self:
        """Keep rows of a repository, and rows with its name that belong to no repository yet."""
        nobodys = models.Q(repository=None, github_repo__iexact=full_name)
        return self.filter(nobodys | models.Q(repository=repository) if repository else nobodys)

    def missing(self) -> Self:
        """Keep merged rows that are not queued, or cannot be fetched without their number."""
        nameless = models.Q(
            github_pr_number=None,
            sync_status__in=[SyncStatus.COMPLETE, SyncStatus.PARTIAL, SyncStatus.FAILED],
        )
        unqueued = models.Q(sync_status__in=[SyncStatus.IDLE, SyncStatus.PENDING])
        untracked = models.Q(sync_status=SyncStatus.UNTRACKED, repository__is_active=True)
        return self.merged().filter(unqueued | untracked | nameless)

    def note_change(self) -> bool:
        """Schedule a refetch of these rows in a minute; False when there are none.

        Changes that come together, as checks and reviews do, cause one refetch.
        """
        soon = timezone.now() + CHANGE_PAUSE
        return bool(self.not_refetched_by(soon).update(refetch_at=soon)) or self.exists()

    def not_refetched_by(self, moment: datetime | Combinable) -> Self:
        """Keep rows whose next refetch is after `moment`, or that have none."""
        return self.filter(models.Q(refetch_at=None) | models.Q(refetch_at__gt=moment))

    def passing(self, moment: datetime | Combinable) -> Self:
        """Keep rows that wait after `moment` because GitHub did not answer."""
        return self.filter(fault_may_pass=True, retry_at__gt=moment, failures__lte=MOST_RELEASES)

    def release_passing(self, answered: models.Model) -> int:
        """Let the clock retry at once the rows that failed because GitHub did not answer.

        Returns the number of rows released: those of the API root that has just answered for
        `answered`. Each failure is released once. Locked rows are left to the next answer, so that
        two workers cannot deadlock.
        """
        answering = TrackedRepository.objects.matching(answered).values("integration__api_url")
        now = timezone.now()
        rows = self.passing(now)
        with transaction.atomic():
            locked = rows.tracked(integration__api_url__in=answering).select_for_update(
                skip_locked=True, of=("self",), no_key=True
            )
            pks = list(locked.order_by("retry_at").values_list("pk", flat=True)[:RELEASED_AT_ONCE])
            return self.filter(pk__in=pks).update(retry_at=now, fault_may_pass=False)

    def outdated(self, moment: datetime) -> Self:
        """Keep complete rows whose refetch is due by `moment`."""
        return self.filter(sync_status=SyncStatus.COMPLETE, refetch_at__lte=moment)

    def disagreeing(self) -> Self:
        """Keep rows with a list that GitHub's counter has contradicted for a day."""
        return self.exclude(disagreeing=[])

    def with_running_checks(self) -> Self:
        """Keep complete rows with a stored check run, or legacy status, that has not ended."""
        # A union reads two small indexes; "or" would read all complete rows.
        rows = type(self)(self.model).order_by()  # SQLite takes no order inside a union
        running = rows.filter(check_runs__status__in=RUNNING_CHECK_STATUSES).values("pk")
        pending = rows.filter(commit_statuses__state=PENDING_STATUS).values("pk")
        return self.filter(pk__in=running.union(pending), sync_status=SyncStatus.COMPLETE)

    def silent_since(self, moment: datetime) -> Self:
        """Keep running rows without a heartbeat since `moment`."""
        return self.filter(is_silent_since(moment), sync_status=SyncStatus.RUNNING)

    def waiting_since(self, moment: datetime) -> Self:
        """Keep pending rows merged before `moment`, and rows queued before it."""
        pending = models.Q(sync_status=SyncStatus.PENDING, merged_at__lt=moment)
        queued = models.Q(sync_status=SyncStatus.QUEUED, queued_at__lt=moment)
        return self.filter(pending | queued)

    def prefer_bulk(self, credential: IntegrationCredential) -> bool:
        """Whether a credential's merges are to be fetched through GraphQL now.

        They are while its requests would not last until the reset, by the merges of the last
        minutes, and its points may be used.
        """
        # Most credentials have plenty, whatever comes.
        if not (credential.may_fetch_in_bulk and credential.is_short(inf)):
            return False
        since = timezone.now() - RATE_PERIOD
        recent = self.merged().tracked(integration__credential=credential)
        count = recent.filter(merged_at__gte=since).count()
        return credential.is_short(count * (HOUR / RATE_PERIOD))

    def waiting_of(self, credential: IntegrationCredential, moment: datetime) -> Self:
        """Keep merges that wait for a credential, except those postponed beyond the moment.

        Those that failed, or lack a list, wait too. What was complete once waits for a refetch,
        and may wait longer.
        """
        due = models.Q(retry_at=None) | models.Q(retry_at__lte=moment)
        rows = self.merged().tracked(integration__credential=credential)
        waiting = [SyncStatus.PENDING, SyncStatus.QUEUED, SyncStatus.PARTIAL, SyncStatus.FAILED]
        rows = rows.filter(due, sync_status__in=waiting, completed_at=None)
        return rows.filter(github_pr_number__isnull=False)

    def queued_before(self, moment: datetime) -> Self:
        return self.filter(sync_status=SyncStatus.QUEUED).filter(
            models.Q(queued_at__lt=moment) | models.Q(queued_at=None)
        )
