"""Pull requests: what GitHub says of them, and how a merge begins their synchronization."""

from collections.abc import Collection, Iterable
from typing import Any, Self

from django.db import models
from django.db.models.functions import Upper
from django.utils import timezone

from metrics_sync.models.filters import CHANGE_PAUSE, RECENT, PullRequestFilters
from metrics_sync.models.measured import Measured
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.models.repository import TrackedRepository
from metrics_sync.models.states import State, SyncStatus
from metrics_sync.models.synchronized import Synchronized
from metrics_sync.models.team import Team, TeamMember
from metrics_sync.names import PATTERN

#: The newest merge first, rows that are not merged last: without `nulls_last`, PostgreSQL puts
#: them first and SQLite last.
NEWEST_FIRST = (models.F("merged_at").desc(nulls_last=True), "-pk")


class PullRequestQuerySet(PullRequestFilters["PullRequest"]):
    """Pull requests, chosen by the filters that chain."""


class PullRequest(Measured, Synchronized):
    """A pull request of one team; another team that tracks the repository has its own row."""

    State = State
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

    @property
    def is_recent_merge(self) -> bool:
        """Whether it may use the requests reserved for merges, on whichever queue its job is."""
        is_recent = self.merged_at is not None and self.merged_at > timezone.now() - RECENT
        return is_recent and self.state == self.State.MERGED and self.completed_at is None

    def is_new_merge(self, update_fields: Iterable[str] | None) -> bool:
        """Whether saving these fields turns a row that was not merged into a merged one."""
        writes_state = update_fields is None or "state" in update_fields
        is_merged = self.state == self.State.MERGED and self._stored_state != self.State.MERGED
        return writes_state and is_merged

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

    def lock_run(self, *, job_id: str) -> "PullRequest | None":
        """Lock the row until the transaction ends, and return it as stored.

        None when another job has taken the row over.
        """
        return _run.first(pk=self.pk, job_id=job_id)

    def release_others(self) -> None:
        """Have the clock retry at once the rows that failed because GitHub did not answer.

        Call it after an answer about this row. Usually there are no such rows, which a query of a
        small index shows.
        """
        if _passing.first(now=timezone.now()) is not None:
            type(self).objects.release_passing(self)

    def mark_merged_late(self, **fields: Any) -> bool:
        """Note a merge that no webhook reported; sends no signal, reconcile queues the row."""
        return self._move(
            to=SyncStatus.PENDING,
            rows=~models.Q(state=self.State.MERGED),
            receipt=self._outdate_receipt(),
            completed_at=None,
            **fields,
        )

    def mark_untracked(self) -> bool:
        """Note that the team does not track the repository."""
        return self._move(
            to=SyncStatus.UNTRACKED,
            rows=~models.Q(sync_status=SyncStatus.RUNNING),
            sync_error=f"{self.github_repo} is not an active tracked repository of this team.",
        )


def _list_running() -> PullRequestQuerySet:
    """Lock the row whose run a job has begun."""
    rows = PullRequest.objects.filter(
        pk=Slot("pk", models.BigIntegerField()),
        sync_status=SyncStatus.RUNNING,
        sync_job_id=Slot("job_id", models.CharField()),
    )
    rows = rows.select_related("team", "author").order_by("pk")
    return rows.select_for_update(of=("self",), no_key=True)


_run = Prepared(_list_running)
#: Without the order of lists, in which PostgreSQL would look through all rows for the first.
_passing = Prepared(
    lambda: (
        PullRequest.objects.passing(Slot("now", models.DateTimeField())).order_by().only("pk")[:1]
    )
)
