"""Who wants a weekly mail about which team, and for which week the last one was sent."""

from datetime import date
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from metrics_sync.models.teams import Team


class WeeklyDigestQuerySet(models.QuerySet["WeeklyDigest"]):
    """Wishes for weekly mails, narrowed by whether one is to be sent."""

    def due(self, week: date) -> Self:
        """Keep those that had no mail about this week, of active users who are still members."""
        had_none = Q(sent_for=None) | Q(sent_for__lt=week)
        return self.filter(had_none, user__is_active=True, team__members=F("user"))


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
        """Take the mail about a week for oneself, with one UPDATE; False if another process did."""
        rows = WeeklyDigest.objects.filter(pk=self.pk).due(week)
        return bool(WeeklyDigest.objects.filter(pk__in=rows.values("pk")).update(sent_for=week))

    def find_address(self) -> str:
        """Return the user's e-mail address; empty if there is none."""
        return str(getattr(self.user, self.user.get_email_field_name(), "") or "")
