"""Who wants a weekly mail about which team, and for which week the last one was sent."""

from datetime import date
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from metrics_sync.models.team import Team


class WeeklyDigestQuerySet(models.QuerySet["WeeklyDigest"]):
    """Wishes for weekly mails, narrowed by whether one is to be sent."""

    def due(self, week: date) -> Self:
        """Keep those that had no mail about this week, of active users who are still members."""
        return self.unsent(week).filter(user__is_active=True, team__members=F("user"))

    def unsent(self, week: date) -> Self:
        """Keep those that had no mail about this week."""
        return self.filter(Q(sent_for=None) | Q(sent_for__lt=week))


class WeeklyDigest(models.Model):
    """One user's wish for a weekly mail about one team."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="digests")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="metrics_sync_digests"
    )
    #: The Monday (UTC) of the week that the last mail was about.
    sent_for = models.DateField("last sent for the week of", null=True, blank=True, editable=False)

    objects = WeeklyDigestQuerySet.as_manager()

    class Meta:
        ordering = ["team", "pk"]
        constraints = [models.UniqueConstraint(fields=["team", "user"], name="unique_digest")]

    def __str__(self) -> str:
        return f"{self.team} for {self.user}"

    def claim(self, week: date) -> bool:
        """Reserve the mail about a week, with one conditional UPDATE; of two processes one wins.

        False also if the user is no member any more.
        """
        rows = WeeklyDigest.objects.filter(pk=self.pk)
        # PostgreSQL looks again at the row's own columns, not at a subquery, after it has waited.
        mine = rows.unsent(week).filter(pk__in=rows.due(week).values("pk"))
        return bool(mine.update(sent_for=week))

    def find_address(self) -> str:
        """Return the user's e-mail address; empty if there is none."""
        return str(getattr(self.user, self.user.get_email_field_name(), "") or "")
