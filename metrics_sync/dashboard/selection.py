"""The selection of the dashboard: teams, repository and period."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from django.db.models import QuerySet

from metrics_sync.models import PullRequest, Team
from metrics_sync.models.pull_request import PullRequestQuerySet


class Weeks(IntEnum):
    """The periods to choose from, in weeks; the current week is the last of them."""

    FOUR = 4
    TWELVE = 12
    FIFTY_TWO = 52


DEFAULT_WEEKS = Weeks.TWELVE


@dataclass(frozen=True, slots=True)
class Selection:
    """Some teams, all their repositories or one of them, and the last weeks up to now."""

    teams: QuerySet[Team]
    now: datetime
    weeks: int = DEFAULT_WEEKS
    repository: str = ""
    #: Whether the figures of reviews are also of pull requests by bots.
    with_bots: bool = False

    @property
    def since(self) -> datetime:
        """The Monday on which the first week began, so that all weeks but the running are whole."""
        midnight = self.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight - timedelta(days=midnight.weekday(), weeks=self.weeks - 1)

    @property
    def merges(self) -> PullRequestQuerySet:
        """The selected merges, newest first, without their large columns."""
        rows = PullRequest.objects.merged().filter(team__in=self.teams, merged_at__gte=self.since)
        if self.repository:
            rows = rows.in_repositories([self.repository])
        rows = rows.select_related("team").defer("receipt", "etags", "provenance")
        return rows.order_by("-merged_at", "-pk")
