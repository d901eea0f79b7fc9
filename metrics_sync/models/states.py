"""The states of a pull request, at GitHub and of its synchronization."""

from datetime import timedelta

from django.db import models

#: A queued row without a job is stuck after this, and so is a running row without a heartbeat; a
#: fetch writes one every 30 seconds.
STUCK_AFTER = timedelta(minutes=2)


class State(models.TextChoices):
    #: Not closed; drafts are open too.
    OPEN = "open"
    #: Closed without being merged.
    CLOSED = "closed"
    #: Merged.
    MERGED = "merged"


class SyncStatus(models.TextChoices):
    #: Not merged; the merge moves it on.
    IDLE = "idle"
    #: Merged and not queued; a claim moves it on.
    PENDING = "pending"
    #: Claimed, its job is in Redis; a worker moves it on, or reconcile when it is stuck.
    QUEUED = "queued"
    #: A worker fetches it; the end of the fetch moves it on, or reconcile when it is stuck.
    RUNNING = "running"
    #: Every section is fetched and verified; a later refetch moves it on.
    COMPLETE = "complete"
    #: Some sections are fetched, the row has the errors; a retry or reconcile moves it on.
    PARTIAL = "partial"
    #: Nothing useful was fetched and no retry is left; reconcile moves it on.
    FAILED = "failed"
    #: The team does not track its repository; reconcile moves it on once it does.
    UNTRACKED = "untracked"
