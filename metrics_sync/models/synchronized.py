"""The state machine of a pull request's synchronization: its columns, and each arrow a method."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models.expressions import Combinable
from django.utils import timezone

from metrics_sync.models.filters import is_silent_since
from metrics_sync.models.repository import TrackedRepository
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.snapshot import Receipt

#: After a search for the number of a row, which lists the repository, the next one waits this long.
UNLISTED_PAUSE = timedelta(days=1)


class Synchronized(models.Model):
    """What is fetched of a pull request, what is proven of it, and which job works on it."""

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

    class Meta:
        abstract = True

    #: The state that the database has, as far as this object knows; None for a new row.
    _stored_state: str | None = None

    def _find_row(self) -> models.QuerySet[Self]:
        return type(self)._default_manager.filter(pk=self.pk)  # noqa: SLF001  (public in all but name)

    def _start_over(self) -> dict[str, Any]:
        """Return the changes before a fetch; a row that was complete is fetched whole again."""
        if self.sync_status != SyncStatus.COMPLETE:
            return {}
        return {"receipt": self._outdate_receipt(), "sync_attempts": 0, "refetch_at": None}

    def _outdate_receipt(self) -> dict[str, Any]:
        """Return the receipt with every list to be fetched again."""
        return Receipt.from_json(self.receipt).outdate().to_json()

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
        rows = self._find_row().exclude(sync_status=SyncStatus.RUNNING)
        forgotten = {"etags": {}, "receipt": self._outdate_receipt()}
        if not rows.update(**forgotten):
            return False
        self.etags, self.receipt = forgotten["etags"], forgotten["receipt"]
        return True

    # The arrows of the state machine. Each is one conditional UPDATE and returns whether it moved
    # the row, so that only one of two processes does.

    def _move(self, *, to: str, rows: models.Q | None = None, **fields: Any) -> bool:
        fields["sync_status"] = to
        if not self._find_row().filter(rows or models.Q()).update(**fields):
            return False
        self._take(fields)
        return True

    def _take(self, fields: Mapping[str, Any]) -> None:
        """Set fields of this object to what the row has."""
        for name, value in fields.items():
            if not isinstance(value, Combinable):
                setattr(self, name, value)
        self._stored_state = fields.get("state", self._stored_state)

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
        silent = is_silent_since(timezone.now() - STUCK_AFTER)
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

    @classmethod
    def begin_together(cls, rows: Iterable[Self], *, job_id: str) -> list[Self]:
        """Begin the run of `job_id` for rows that are still as these objects have them.

        Returns them as stored, locked until the transaction ends, in the order of their keys.
        Complete rows are left out. `finish_together` writes the beginning, too.
        """
        known = {row.pk: (row.sync_status, row.sync_job_id) for row in rows}
        stored = cls._default_manager.filter(pk__in=known).exclude(sync_status=SyncStatus.COMPLETE)
        stored = stored.select_related("team", "author").order_by("pk")
        begun = [
            row
            for row in stored.select_for_update(of=("self",), no_key=True)
            if (row.sync_status, row.sync_job_id) == known[row.pk]
        ]
        for row in begun:
            row.sync_status, row.sync_job_id = SyncStatus.RUNNING, job_id
            row.sync_attempts += 1
            row.queued_at = row.fetch_started_at = timezone.now()
        return begun

    @classmethod
    def finish_together(cls, ended: Sequence[tuple[Self, SyncStatus, Mapping[str, Any]]]) -> None:
        """End runs of `begin_together`: each row in a status, with these values of its fields.

        Does to each what the arrow to that status does to one row. One statement.
        """
        names = {"sync_job_id", "sync_attempts", "queued_at", "fetch_started_at"}
        for row, to, fields in ended:
            changes = row._build_end(to, fields)  # noqa: SLF001  (its own class)
            row._take(changes)  # noqa: SLF001
            names |= changes.keys()
        # An upsert, as an UPDATE gives all rows the same values. It adds none: all are locked, so
        # they are there, and each object has what its row has in the fields that it did not set.
        cls._default_manager.bulk_create(
            [row for row, _, _ in ended],
            update_conflicts=True,
            unique_fields=["pk"],
            update_fields=sorted(names),
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

    def mark_complete(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: every section is verified."""
        return self._finish(SyncStatus.COMPLETE, job_id=job_id, **fields)

    def note_heartbeat(self, *, job_id: str) -> None:
        """Store a heartbeat of the run of `job_id`; one UPDATE."""
        rows = self._find_row().filter(sync_status=SyncStatus.RUNNING, sync_job_id=job_id)
        rows.update(heartbeat_at=timezone.now())

    def mark_partial(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: some sections are still missing."""
        return self._finish(SyncStatus.PARTIAL, job_id=job_id, **fields)

    def mark_failed(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: nothing came, and RQ does not retry."""
        return self._finish(SyncStatus.FAILED, job_id=job_id, **fields)

    def mark_waiting(self, *, job_id: str, **fields: Any) -> bool:
        """End the run of `job_id`: nothing came, and RQ runs the same job again later."""
        return self._finish(SyncStatus.QUEUED, job_id=job_id, **fields)

    def _finish(self, to: SyncStatus, *, job_id: str, **fields: Any) -> bool:
        mine = models.Q(sync_status=SyncStatus.RUNNING, sync_job_id=job_id)
        return self._move(rows=mine, to=to, **self._build_end(to, fields))

    def _build_end(self, to: SyncStatus, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with which a run ends in a status.

        `completed_at` keeps the first time, from which the delay since the merge is measured.
        """
        ends: dict[str, Any] = {**fields, "sync_status": to, "heartbeat_at": None}
        if to == SyncStatus.COMPLETE:
            ends |= {"completed_at": self.completed_at or timezone.now(), "retry_at": None}
        elif to == SyncStatus.QUEUED:
            ends["queued_at"] = timezone.now()
        return ends
