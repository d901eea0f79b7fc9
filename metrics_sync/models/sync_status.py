"""The states of a pull request's synchronization."""

from datetime import timedelta

from django.db import models

#: A queued row without a job, or a running row without a sign of life, is stuck after this.
#: A fetch gives one every 30 seconds.
STUCK_AFTER = timedelta(minutes=2)


class SyncStatus(models.TextChoices):
    #: Not merged; leaves by the merge.
    IDLE = "idle"
    #: Merged, and nobody has queued it; leaves by a claim.
    PENDING = "pending"
    #: Claimed, its job is in Redis; leaves when a worker starts it, or by reconcile when stuck.
    QUEUED = "queued"
    #: A worker is on it; leaves when the fetch ends, or by reconcile when stuck.
    RUNNING = "running"
    #: Every section is fetched and its count verified; leaves by a later refetch.
    COMPLETE = "complete"
    #: Some sections are fetched, the errors are on the row; leaves by a retry or reconcile.
    PARTIAL = "partial"
    #: Nothing useful was fetched and the retries are used up; leaves by reconcile.
    FAILED = "failed"
    #: The team tracks no such repository; leaves by reconcile once it does.
    UNTRACKED = "untracked"
