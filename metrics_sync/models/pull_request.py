"""Pull requests, and the state machine of their synchronization.

One module, longer than others: the model and its queryset name each other, and every arrow of the
state machine writes the model's own columns.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from math import inf
from typing import Any, Self

from django.db import models, transaction
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Upper
from django.utils import timezone

from metrics_sync.models.budgets import HOUR
from metrics_sync.models.credentials import IntegrationCredential
from metrics_sync.models.repositories import TrackedRepository
from metrics_sync.models.sync_status import STUCK_AFTER, SyncStatus
from metrics_sync.models.teams import Team, TeamMember
from metrics_sync.names import PATTERN
from metrics_sync.snapshot import Receipt

#: The statuses of a check run that is not completed.
#: https://docs.github.com/en/rest/checks/runs
RUNNING_CHECK_STATUSES = ("queued", "in_progress", "waiting", "requested", "pending")

#: The state of a legacy commit status whose check has not ended.
PENDING_STATUS = "pending"

#: After a change to a merged pull request, further changes are awaited this long before a refetch.
CHANGE_PAUSE = timedelta(minutes=1)

#: A row with more failures in succession than an outage of most of a day causes has a fault of its
#: own: that GitHub answers for other rows does not release it.
MOST_RELEASES = 8
#: The most rows that one answer of GitHub releases; the next answer releases others.
RELEASED_AT_ONCE = 5000

#: The merges of so long tell how many are to come.
RATE_PERIOD = timedelta(minutes=5)

#: The newest merge first, rows that are not merged last: without `nulls_last`, PostgreSQL puts
#: them first and SQLite last.
NEWEST_FIRST = (models.F("merged_at").desc(nulls_last=True), "-pk")

#: After a search for the number of a row, which lists the repository, the next one waits this long.
UNLISTED_PAUSE = timedelta(days=1)


class CIAtMerge(models.TextChoices):
    #: Every check had passed.
    PASSED = "passed"
    #: A check had failed.
    FAILED = "failed"
    #: No check had failed, and one had not ended.
    PENDING = "pending"
    #: There was no check.
    NONE = "none"


class SizeBand(models.TextChoices):
    #: Fewer than 10 changed lines.
    XS = "XS"
    #: Fewer than 30.
    S = "S"
    #: Fewer than 100.
    M = "M"
    #: Fewer than 500.
    L = "L"
    #: Fewer than 1,000.
    XL = "XL"
    #: 1,000 or more.
    XXL = "XXL"


class PullRequestQuerySet(models.QuerySet["PullRequest"]):
    """Filters that chain, e.g. `PullRequest.objects.merged().disagreeing()`."""

    def merged(self) -> Self:
        return self.filter(state=PullRequest.State.MERGED)

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
        waiting = models.Q(refetch_at=None) | models.Q(refetch_at__gt=soon)
        return bool(self.filter(waiting).update(refetch_at=soon)) or self.exists()

    def release_passing(self, answered: "PullRequest") -> int:
        """Let the clock retry at once the rows that failed because GitHub did not answer.

        Returns the number of rows released: those of the API root that has just answered for
        `answered`. Usually there are none, and a query of a small index shows it. Each failure is
        released once. Locked rows are left to the next answer, so that two workers cannot
        deadlock.
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
        """Keep complete rows whose refetch is due by `moment`."""
        return self.filter(sync_status=SyncStatus.COMPLETE, refetch_at__lte=moment)

    def disagreeing(self) -> Self:
        """Keep rows with a list that GitHub's counter has contradicted for a day."""
        return self.exclude(disagreeing=[])

    def with_running_checks(self) -> Self:
        """Keep complete rows with a stored check run, or legacy status, that has not ended."""
        # Two subqueries use two small indexes; a join with "or" would read all rows.
        rows = type(self)(self.model)
        running = rows.filter(check_runs__status__in=RUNNING_CHECK_STATUSES).values("pk")
        pending = rows.filter(commit_statuses__state=PENDING_STATUS).values("pk")
        either = models.Q(pk__in=running) | models.Q(pk__in=pending)
        return self.filter(either, sync_status=SyncStatus.COMPLETE)

    def silent_since(self, moment: datetime) -> Self:
        """Keep running rows without a heartbeat since `moment`."""
        return (
            self.filter(sync_status=SyncStatus.RUNNING)
            .alias(alive_at=Coalesce("heartbeat_at", "fetch_started_at"))
            .filter(models.Q(alive_at__lt=moment) | models.Q(alive_at=None))
        )

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
        """Keep merges that wait for a credential, except those postponed beyond the moment."""
        due = models.Q(retry_at=None) | models.Q(retry_at__lte=moment)
        rows = self.merged().tracked(integration__credential=credential)
        waiting = (SyncStatus.PENDING, SyncStatus.QUEUED)
        return rows.filter(due, sync_status__in=waiting, github_pr_number__isnull=False)

    def queued_before(self, moment: datetime) -> Self:
        return self.filter(sync_status=SyncStatus.QUEUED).filter(
            models.Q(queued_at__lt=moment) | models.Q(queued_at=None)
        )


class PullRequest(models.Model):
    """A pull request of one team; another team that tracks the repository has its own row."""

    class State(models.TextChoices):
        #: Not closed; drafts are open too.
        OPEN = "open"
        #: Closed without being merged.
        CLOSED = "closed"
        #: Merged.
        MERGED = "merged"

    SyncStatus = SyncStatus

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="pull_requests")
    repository = models.ForeignKey(
        TrackedRepository,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        db_index=False,
        related_name="pull_requests",
        verbose_name="tracked repository",
        help_text="Found by GitHub's id; empty if the team tracks none.",
    )
    github_repo = models.CharField("repository", max_length=255)
    github_pr_id = models.BigIntegerField("GitHub id")
    github_pr_number = models.PositiveIntegerField(
        "number", null=True, blank=True, help_text="GitHub's API calls need it."
    )
    title = models.TextField(blank=True)
    author = models.ForeignKey(
        TeamMember, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    author_login = models.TextField(blank=True)
    is_by_bot = models.BooleanField(
        "by a bot",
        default=False,
        db_default=False,
        help_text="The author is a bot by any of the rules.",
    )
    merged_by_github_id = models.BigIntegerField(null=True, blank=True)
    merged_by_login = models.TextField(
        "merged by", blank=True, default="", db_default="", help_text="Empty: unknown."
    )
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    is_draft = models.BooleanField(default=False)
    base_ref = models.TextField(blank=True)
    head_ref = models.TextField(blank=True)
    head_sha = models.CharField(max_length=64, blank=True)
    base_sha = models.CharField(max_length=64, blank=True)
    pr_created_at = models.DateTimeField(null=True, blank=True)
    pr_updated_at = models.DateTimeField(
        null=True, blank=True, help_text="Older deliveries do not overwrite newer ones."
    )
    review_requests = models.JSONField(
        null=True,
        blank=True,
        editable=False,
        help_text="Who is asked for a review, as GitHub last listed them; empty: unknown.",
    )
    review_events = models.JSONField(
        default=dict,
        db_default=models.Value({}, output_field=models.JSONField()),
        blank=True,
        editable=False,
        help_text="The newest event of each kind that a webhook reported, and when.",
    )
    closed_at = models.DateTimeField(null=True, blank=True)
    merged_at = models.DateTimeField(null=True, blank=True, db_index=True)
    additions = models.IntegerField(null=True, blank=True)
    deletions = models.IntegerField(null=True, blank=True)
    changed_files = models.IntegerField(null=True, blank=True)

    first_review_at = models.DateTimeField(null=True, blank=True)
    cycle_time_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    review_time_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    review_rounds = models.PositiveIntegerField(null=True, blank=True)
    avg_fix_response_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    commits_after_first_review = models.PositiveIntegerField(null=True, blank=True)
    total_comments = models.PositiveIntegerField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    review_wait_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    first_response_at = models.DateTimeField(null=True, blank=True)
    first_response_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    early_feedback_at = models.DateTimeField(null=True, blank=True)
    changes_requested_count = models.PositiveIntegerField(null=True, blank=True)
    first_approval_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    approval_to_merge_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    ci_at_merge = models.CharField(max_length=10, choices=CIAtMerge, blank=True)
    ci_duration_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    merged_without_review = models.BooleanField(null=True, blank=True)
    merged_without_approval = models.BooleanField(null=True, blank=True)
    merged_by_author = models.BooleanField(null=True, blank=True)
    reviewer_count = models.PositiveIntegerField(null=True, blank=True)
    reviewers = models.JSONField(null=True, blank=True)
    changed_lines = models.PositiveIntegerField(null=True, blank=True)
    size_band = models.CharField(
        max_length=10, choices=SizeBand, blank=True, default="", db_default=""
    )
    coding_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    last_commit_to_merge_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    draft_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    human_comments = models.PositiveIntegerField(null=True, blank=True)
    metrics_version = models.PositiveSmallIntegerField(null=True, blank=True)
    provenance = models.JSONField(
        default=dict, blank=True, help_text="How the metrics were computed."
    )

    sync_status = models.CharField(max_length=10, choices=SyncStatus, default=SyncStatus.IDLE)
    sync_error = models.TextField(blank=True)
    sync_attempts = models.PositiveIntegerField(default=0)
    sync_job_id = models.CharField(max_length=100, blank=True, editable=False)
    queued_at = models.DateTimeField(null=True, blank=True)
    fetch_started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(
        null=True, blank=True, help_text="The clock skips this row until then."
    )
    truncated = models.JSONField(
        default=list, blank=True, help_text="Sections that GitHub itself cuts off."
    )
    disagreeing = models.JSONField(
        default=list,
        db_default=models.Value([], output_field=models.JSONField()),
        blank=True,
        help_text="Sections about which GitHub has contradicted itself for a day.",
    )
    receipt = models.JSONField(default=dict, blank=True)
    etags = models.JSONField(
        default=dict,
        blank=True,
        editable=False,
        help_text="With these, GitHub does not send unchanged pages again.",
    )
    refetch_at = models.DateTimeField(
        null=True, blank=True, help_text="When a complete pull request is due to be fetched again."
    )
    failures = models.PositiveIntegerField(
        default=0,
        db_default=0,
        help_text="How often in a row it was given up; a fetched list resets this.",
    )
    fault_may_pass = models.BooleanField(
        default=False,
        db_default=False,
        help_text="It failed because GitHub did not answer; the next answer resets this.",
    )

    objects = PullRequestQuerySet.as_manager()

    class Meta:
        ordering = NEWEST_FIRST
        constraints = [
            models.UniqueConstraint(
                fields=["team", "github_repo", "github_pr_id"], name="unique_pull_request_id"
            ),
            models.UniqueConstraint(
                fields=["team", "github_repo", "github_pr_number"],
                condition=models.Q(github_pr_number__isnull=False),
                name="unique_pull_request_number",
            ),
            models.CheckConstraint(
                condition=models.Q(github_repo__regex=PATTERN), name="pull_request_name"
            ),
        ]
        indexes = [
            models.Index(fields=["sync_status", "merged_at"], name="pull_request_sync"),
            # Webhooks name a pull request in these ways; names are compared in upper case.
            models.Index(fields=["github_pr_id"], name="pull_request_github_id"),
            models.Index(Upper("github_repo"), "github_pr_number", name="pull_request_number"),
            models.Index(fields=["repository", "github_pr_number"], name="pull_request_repository"),
            # Searches of people; PostgreSQL has two more, of the order of lists and of words.
            models.Index(fields=["github_pr_number"], name="pull_request_any_number"),
            models.Index(fields=["head_sha"], name="pull_request_head"),
            models.Index(
                fields=["refetch_at"],
                condition=models.Q(refetch_at__isnull=False),
                name="pull_request_refetch",
            ),
            # For `release_passing`; usually empty.
            models.Index(
                fields=["retry_at"],
                condition=models.Q(fault_may_pass=True),
                name="pull_request_passing",
            ),
            # For the scrape of `/metrics`, which counts them.
            models.Index(
                fields=["merged_at"],
                condition=~models.Q(disagreeing=[]),
                name="pull_request_disagreeing",
            ),
            # For the dashboard's slowest reviews.
            models.Index(
                models.F("review_wait_hours").desc(),
                models.F("id").desc(),
                condition=models.Q(state="merged", review_wait_hours__isnull=False),
                name="pull_request_slowest_review",
            ),
            # For the page of what waits now.
            models.Index(
                fields=["team"], condition=models.Q(state="open"), name="pull_request_open"
            ),
            # For rows that older formulas measured.
            models.Index(fields=["metrics_version"], name="pull_request_metrics_version"),
            # For `missing`.
            models.Index(
                fields=["merged_at"],
                condition=models.Q(state="merged")
                & (
                    models.Q(sync_status__in=["idle", "pending", "untracked"])
                    | models.Q(github_pr_number=None)
                ),
                name="pull_request_missing",
            ),
        ]

    #: The state that the database has, as far as this object knows; None for a new row.
    _stored_state: str | None = None

    def __str__(self) -> str:
        return f"{self.github_repo}#{self.github_pr_number or '?'}"

    @classmethod
    def from_db(
        cls, db: str | None, field_names: Collection[str], values: Collection[Any], **options: Any
    ) -> Self:
        instance = super().from_db(db, field_names, values, **options)
        if "state" in field_names:
            instance._stored_state = instance.state  # noqa: SLF001  (its own class)
        return instance

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: Any = None,
    ) -> None:
        """Read the row again; `save` then takes a stored merge for known."""
        names = None if fields is None else list(fields)
        super().refresh_from_db(using=using, fields=names, from_queryset=from_queryset)
        if names is None or "state" in names:
            self._stored_state = self.state

    def save(self, *, update_fields: Iterable[str] | None = None, **options: Any) -> None:
        """Save; a merge that the database does not have yet makes the row `pending`.

        A new row without a repository gets the team's tracked repository of its name.
        """
        if self._state.adding and self.repository_id is None:
            rows = TrackedRepository.objects.filter(team=self.team_id)
            self.repository = rows.first_named(self.github_repo)
        if self.is_new_merge(update_fields):
            self.sync_status, self.receipt = SyncStatus.PENDING, self._outdate_receipt()
            self.completed_at = None
            if update_fields is not None:
                update_fields = {*update_fields, "sync_status", "receipt", "completed_at"}
        super().save(update_fields=update_fields, **options)
        if update_fields is None or "state" in update_fields:
            self._stored_state = self.state

    def is_new_merge(self, update_fields: Iterable[str] | None) -> bool:
        """Whether saving these fields turns a row that was not merged into a merged one."""
        writes_state = update_fields is None or "state" in update_fields
        is_merged = self.state == self.State.MERGED and self._stored_state != self.State.MERGED
        return writes_state and is_merged

    def _start_over(self) -> dict[str, Any]:
        """Return the changes before a fetch; a row that was complete is fetched whole again."""
        if self.sync_status != SyncStatus.COMPLETE:
            return {}
        return {"receipt": self._outdate_receipt(), "sync_attempts": 0, "refetch_at": None}

    def _outdate_receipt(self) -> dict[str, Any]:
        """Return the receipt with every list to be fetched again."""
        return Receipt.from_json(self.receipt).outdate().to_json()

    def copy_from(self, other: "PullRequest") -> None:
        """Copy the columns of another object of this row, after its transaction has committed."""
        for field in self._meta.concrete_fields:
            setattr(self, field.attname, getattr(other, field.attname))
        self._stored_state = self.state

    def note_change(self) -> list[str]:
        """Schedule a refetch of a merged row in a minute, as the queryset's method does.

        Changes this object only, and returns the names of its changed fields for the caller to
        save.
        """
        soon = timezone.now() + CHANGE_PAUSE
        if self.state != self.State.MERGED or (self.refetch_at and self.refetch_at <= soon):
            return []
        self.refetch_at = soon
        return ["refetch_at"]

    def outdate(self, section: str) -> list[str]:
        """Mark a list for the next fetch, which fetches it in full: a webhook changed it.

        Changes this object only, and returns the names of its changed fields for the caller to
        save, in the transaction that writes the item.
        """
        self.etags = {name: pages for name, pages in self.etags.items() if name != section}
        self.receipt = Receipt.from_json(self.receipt).outdate([section]).to_json()
        return ["etags", "receipt"]

    def forget_pages(self) -> bool:
        """Mark all lists for the next fetch, which fetches them in full; for "Fetch again".

        One UPDATE; False while a run is under way.
        """
        rows = type(self).objects.filter(pk=self.pk).exclude(sync_status=SyncStatus.RUNNING)
        forgotten = {"etags": {}, "receipt": self._outdate_receipt()}
        if not rows.update(**forgotten):
            return False
        self.etags, self.receipt = forgotten["etags"], forgotten["receipt"]
        return True

    # The arrows of the state machine. Each is one conditional UPDATE and returns whether it moved
    # the row, so that only one of two processes does.

    def _move(self, *, to: str, rows: models.Q | None = None, **fields: Any) -> bool:
        fields["sync_status"] = to
        matching = type(self).objects.filter(pk=self.pk)
        if not matching.filter(rows or models.Q()).update(**fields):
            return False
        for name, value in fields.items():
            if not isinstance(value, Combinable):
                setattr(self, name, value)
        self._stored_state = self.state
        return True

    def claim(self, *, job_id: str, if_tracked: bool = False) -> bool:
        """Reserve the row for the job `job_id`, which the caller then puts on the queue.

        The status and the job of the row must still be those of this object; with `if_tracked` its
        repository must be tracked, too. A row that was complete is fetched whole again; any other
        keeps the sections that it has.
        """
        rows = models.Q(sync_status=self.sync_status, sync_job_id=self.sync_job_id)
        if if_tracked:
            rows &= models.Q(repository__in=TrackedRepository.objects.active())
        return self._move(
            to=SyncStatus.QUEUED,
            rows=rows,
            sync_job_id=job_id,
            queued_at=timezone.now(),
            **self._start_over(),
        )

    def release_claim(self, *, job_id: str) -> bool:
        """Undo `claim`: its job could not be put on the queue."""
        return self._move(
            to=SyncStatus.PENDING,
            rows=models.Q(sync_status=SyncStatus.QUEUED, sync_job_id=job_id),
            queued_at=None,
        )

    def mark_running(self, *, job_id: str) -> bool:
        """Let the job `job_id` begin, unless another job is fetching the row."""
        silent = models.Q(pk__in=type(self).objects.silent_since(timezone.now() - STUCK_AFTER))
        changes = {"sync_attempts": self.sync_attempts, **self._start_over()}
        changes["sync_attempts"] += 1
        return self._move(
            to=SyncStatus.RUNNING,
            rows=~models.Q(sync_status=SyncStatus.RUNNING) | models.Q(sync_job_id=job_id) | silent,
            sync_job_id=job_id,
            fetch_started_at=timezone.now(),
            heartbeat_at=None,
            **changes,
        )

    def mark_merged_late(self, **fields: Any) -> bool:
        """Note a merge that no webhook reported; sends no signal, reconcile queues the row."""
        return self._move(
            to=SyncStatus.PENDING,
            rows=~models.Q(state=self.State.MERGED),
            receipt=self._outdate_receipt(),
            completed_at=None,
            **fields,
        )

    def mark_parked(
        self, *, job_id: str, until: datetime, reason: str = "GitHub's rate limit"
    ) -> bool:
        """Note that the job has not begun and waits, at the latest until that time."""
        return self._move(
            to=SyncStatus.QUEUED,
            rows=models.Q(sync_job_id=job_id) & ~models.Q(sync_status=SyncStatus.RUNNING),
            sync_error=f"waits for {reason} until {until:%Y-%m-%d %H:%M:%S} UTC",
        )

    def postpone(self, until: datetime, *, reason: str) -> bool:
        """Note why bulk did not bring the row, and until when it does not try again."""
        return self._move(
            to=self.sync_status,
            rows=models.Q(sync_status=self.sync_status, sync_job_id=self.sync_job_id),
            retry_at=until,
            sync_error=reason,
        )

    def mark_unlisted(self) -> bool:
        """Note that GitHub lists no pull request of this id; the clock searches again in a day.

        A complete row stays complete.
        """
        is_complete = self.sync_status == SyncStatus.COMPLETE
        return self._move(
            to=SyncStatus.COMPLETE if is_complete else SyncStatus.FAILED,
            rows=models.Q(sync_status=self.sync_status, sync_job_id=self.sync_job_id),
            sync_error="GitHub lists no pull request of this id in the repository.",
            retry_at=timezone.now() + UNLISTED_PAUSE,
        )

    def mark_untracked(self) -> bool:
        """Note that the team does not track the repository."""
        return self._move(
            to=SyncStatus.UNTRACKED,
            rows=~models.Q(sync_status=SyncStatus.RUNNING),
            sync_error=f"{self.github_repo} is not an active tracked repository of this team.",
        )

    def mark_complete(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: every section is verified.

        `completed_at` keeps the first time, from which the delay since the merge is measured.
        """
        fields["completed_at"] = self.completed_at or timezone.now()
        return self._finish(SyncStatus.COMPLETE, job_id=job_id, retry_at=None, **fields)

    def lock_run(self, *, job_id: str) -> "PullRequest | None":
        """Lock the row until the transaction ends, and return it as stored.

        None when another job has taken the row over.
        """
        rows = PullRequest.objects.filter(pk=self.pk, sync_job_id=job_id)
        rows = rows.filter(sync_status=SyncStatus.RUNNING).select_related("team", "author")
        return rows.select_for_update(of=("self",), no_key=True).first()

    def note_heartbeat(self, *, job_id: str) -> None:
        """Store a heartbeat of the run of `job_id`; one UPDATE."""
        mine = type(self).objects.filter(pk=self.pk, sync_job_id=job_id)
        mine.filter(sync_status=SyncStatus.RUNNING).update(heartbeat_at=timezone.now())

    def mark_partial(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: some sections are still missing."""
        return self._finish(SyncStatus.PARTIAL, job_id=job_id, **fields)

    def mark_failed(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: nothing came, and RQ does not retry."""
        return self._finish(SyncStatus.FAILED, job_id=job_id, **fields)

    def mark_waiting(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: nothing came, and RQ runs the same job again later."""
        return self._finish(SyncStatus.QUEUED, job_id=job_id, queued_at=timezone.now(), **fields)

    def _finish(self, to: str, *, job_id: str, **fields: Any) -> bool:
        mine = models.Q(sync_status=SyncStatus.RUNNING, sync_job_id=job_id)
        return self._move(to=to, rows=mine, heartbeat_at=None, **fields)
