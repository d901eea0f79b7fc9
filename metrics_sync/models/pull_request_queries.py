"""Selects pull requests, e.g. `PullRequest.objects.merged().disagreeing()`."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from metrics_sync.models.repositories import TrackedRepository
from metrics_sync.models.sync_status import SyncStatus

if TYPE_CHECKING:
    from metrics_sync.models.pull_request import PullRequest

#: What a check run is before it is completed.
#: https://docs.github.com/en/rest/checks/runs
RUNNING_CHECK_STATUSES = ("queued", "in_progress", "waiting", "requested", "pending")

#: What a legacy commit status is while its check runs.
PENDING_STATUS = "pending"

#: How long news of a merged pull request is left to gather before it is looked at again.
CHANGE_PAUSE = timedelta(minutes=1)

#: A row that failed more often in a row than in an outage of most of a day fails for a reason of
#: its own: that GitHub answers others is no news to it.
MOST_RELEASES = 8
#: How many rows one answer of GitHub releases at most; the next answer releases others.
RELEASED_AT_ONCE = 5000


class PullRequestQuerySet(models.QuerySet["PullRequest"]):
    """Questions that chain, e.g. `PullRequest.objects.merged().stuck(now)`."""

    def merged(self) -> Self:
        return self.filter(state=self.model.State.MERGED)

    def tracked(self, **which: Any) -> Self:
        """Keep those whose repository is tracked, if wanted by one that is `which`."""
        of_repository = {f"repository__{name}": value for name, value in which.items()}
        return self.filter(repository__is_active=True, **of_repository)

    def in_repositories(self, full_names: Iterable[str]) -> Self:
        """Keep those of the repositories of these names; GitHub's names ignore case."""
        named = models.Q()
        for full_name in full_names:
            named |= models.Q(github_repo__iexact=full_name)
        return self.filter(named)

    def of_repository(self, repository: TrackedRepository | None, full_name: str) -> Self:
        """Keep those of a repository, and those of its name that belong to none yet."""
        nobodys = models.Q(repository=None, github_repo__iexact=full_name)
        return self.filter(nobodys | models.Q(repository=repository) if repository else nobodys)

    def missing(self) -> Self:
        """Keep merged ones that nobody has queued, or nobody can fetch for want of a number."""
        nameless = models.Q(
            github_pr_number=None,
            sync_status__in=[SyncStatus.COMPLETE, SyncStatus.PARTIAL, SyncStatus.FAILED],
        )
        unqueued = models.Q(sync_status__in=[SyncStatus.IDLE, SyncStatus.PENDING])
        untracked = models.Q(sync_status=SyncStatus.UNTRACKED, repository__is_active=True)
        return self.merged().filter(unqueued | untracked | nameless)

    def note_change(self) -> bool:
        """Have these rows looked at again in a minute; False when there are none.

        Much that comes at once, as checks and reviews do, makes one look.
        """
        soon = timezone.now() + CHANGE_PAUSE
        waiting = models.Q(refetch_at=None) | models.Q(refetch_at__gt=soon)
        self.filter(waiting).update(refetch_at=soon)
        return self.exists()

    def release_passing(self, answered: "PullRequest") -> int:
        """Let the clock try again at once what failed because GitHub did not answer.

        Returns how many rows: those that are asked for where `answered` has just been had. As a
        rule there is no such row, and one look into a small index says so. Each failure is
        released once. Rows that somebody else has locked are left to the next answer, so that
        nobody waits in a circle.
        """
        answering = TrackedRepository.objects.matching(answered).values("integration__api_url")
        now = timezone.now()
        rows = self.filter(fault_may_pass=True, retry_at__gt=now, failures__lte=MOST_RELEASES)
        if not rows.exists():
            return 0
        with transaction.atomic():
            locked = rows.tracked(integration__api_url__in=answering).select_for_update(
                skip_locked=True, of=("self",), no_key=True
            )
            pks = list(locked.order_by("retry_at").values_list("pk", flat=True)[:RELEASED_AT_ONCE])
            return self.filter(pk__in=pks).update(retry_at=now, fault_may_pass=False)

    def outdated(self, moment: datetime) -> Self:
        """Keep complete rows that were to be looked at again by then."""
        return self.filter(sync_status=SyncStatus.COMPLETE, refetch_at__lte=moment)

    def disagreeing(self) -> Self:
        """Keep rows with a list of which GitHub's counter says something else for good."""
        return self.exclude(disagreeing=[])

    def with_running_checks(self) -> Self:
        """Keep complete rows that have a check which has not ended, as far as we know.

        A legacy status that is pending is one, too.
        """
        # Each from its own small index; joined with "or", all rows would be read.
        rows = type(self)(self.model)
        running = rows.filter(check_runs__status__in=RUNNING_CHECK_STATUSES).values("pk")
        pending = rows.filter(commit_statuses__state=PENDING_STATUS).values("pk")
        either = models.Q(pk__in=running) | models.Q(pk__in=pending)
        return self.filter(either, sync_status=SyncStatus.COMPLETE)

    def silent_since(self, moment: datetime) -> Self:
        """Keep running rows with no sign of life after `moment`."""
        return (
            self.filter(sync_status=SyncStatus.RUNNING)
            .alias(alive_at=Coalesce("heartbeat_at", "fetch_started_at"))
            .filter(models.Q(alive_at__lt=moment) | models.Q(alive_at=None))
        )

    def waiting_since(self, moment: datetime) -> Self:
        """Keep pending rows that merged before `moment`, and rows that were queued before it."""
        pending = models.Q(sync_status=SyncStatus.PENDING, merged_at__lt=moment)
        queued = models.Q(sync_status=SyncStatus.QUEUED, queued_at__lt=moment)
        return self.filter(pending | queued)

    def queued_before(self, moment: datetime) -> Self:
        return self.filter(sync_status=SyncStatus.QUEUED).filter(
            models.Q(queued_at__lt=moment) | models.Q(queued_at=None)
        )
