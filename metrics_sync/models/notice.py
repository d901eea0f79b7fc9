"""What doctor found wrong and reported, so that each problem is reported once."""

import hashlib
from datetime import datetime
from typing import Self

from django.db import models


class NoticeQuerySet(models.QuerySet["Notice"]):
    """Notices, narrowed by the step they are at."""

    def unreported(self) -> Self:
        """Keep problems that were seen in two rounds and not reported yet."""
        return self.filter(reported_at=None, first_seen_at__lt=models.F("last_seen_at"))

    def ended_before(self, moment: datetime) -> Self:
        """Keep reported problems that no round has found since before this moment."""
        return self.filter(reported_at__isnull=False, missing_since__lt=moment)


class Notice(models.Model):
    """One problem, from the first round of doctor that finds it to the report of its end."""

    fingerprint = models.CharField(max_length=64, unique=True)
    group = models.CharField(max_length=50)
    text = models.TextField()
    advice = models.TextField()
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    #: Null until the problem was reported.
    reported_at = models.DateTimeField(null=True, blank=True)
    #: Null while the problem is found.
    missing_since = models.DateTimeField(null=True, blank=True)

    objects = NoticeQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.group}: {self.text}"


def fingerprint(group: str, subject: str, advice: str) -> str:
    """Identify a problem: what it is about, and what has to be done about it."""
    return hashlib.sha256("\n".join([group, subject, advice]).encode()).hexdigest()
