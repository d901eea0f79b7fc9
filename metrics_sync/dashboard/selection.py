"""The selection of the dashboard: teams, repository and period."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from typing import Any, Self

from django.db.models import Case, Q, QuerySet, When

from metrics_sync.models import PullRequest, Team
from metrics_sync.models.pull_request import PullRequestQuerySet

DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
#: The longest period that is told week by week; a longer one is told month by month.
LONGEST_IN_WEEKS = 60 * WEEK


class Weeks(IntEnum):
    """The periods to choose from, in weeks; the current week is the last of them."""

    FOUR = 4
    TWELVE = 12
    FIFTY_TWO = 52


DEFAULT_WEEKS = Weeks.TWELVE


@dataclass(frozen=True, slots=True)
class Span:
    """A time from `since` until before `until`, which is None where nothing ends it."""

    since: datetime
    until: datetime | None = None

    @classmethod
    def of_days(cls, first: date, last: date) -> Self:
        """Return the span of some days in UTC, the first and the last included."""
        return cls(_begin(first), _begin(last + DAY))


@dataclass(frozen=True, slots=True)
class Step:
    """A week or a month, which began on that day (UTC), and what of it is in the period."""

    begins_on: date
    span: Span


@dataclass(frozen=True, slots=True)
class Selection:
    """Some teams, all their repositories or one of them, and a period.

    That is `chosen`, or else the last weeks up to now, all of them whole but the running one.
    """

    teams: QuerySet[Team]
    now: datetime
    weeks: int = DEFAULT_WEEKS
    repository: str = ""
    #: Whether the figures of reviews are also of pull requests by bots.
    with_bots: bool = False
    chosen: Span | None = None

    @property
    def span(self) -> Span:
        if self.chosen:
            return self.chosen
        today = self.now.astimezone(UTC).date()
        return Span(_begin(today - timedelta(days=today.weekday(), weeks=self.weeks - 1)))

    @property
    def since(self) -> datetime:
        return self.span.since

    @property
    def before(self) -> "Selection":
        """The same for the period of equal length before this one.

        Before the last weeks it ends as far in its last week as this one does now, so that both
        have the same days of the week.
        """
        since, until = self.span.since, self.span.until
        length = until - since if until else WEEK * self.weeks
        return replace(self, chosen=Span(since - length, (until or self.now) - length))

    @property
    def with_before(self) -> "Selection":
        """The period and the one before it in one, with the days between them if there are any."""
        return replace(self, chosen=Span(self.before.since, self.span.until))

    def tell_period(self, at: str = "") -> Case:
        """Return the expression that is true of merges in the period, and false of those before.

        Of the days between the two periods it is NULL.
        """
        before = When(**{f"{at}merged_at__lt": self.before.span.until, "then": False})
        return Case(When(**{f"{at}merged_at__gte": self.since, "then": True}), before)

    @property
    def is_in_months(self) -> bool:
        return (self.span.until or self.now) - self.since > LONGEST_IN_WEEKS

    @property
    def steps(self) -> list[Step]:
        """The weeks of the period, or the months of a long one, also those without merges."""
        begin, until = self.since.date(), self.span.until
        begin = begin.replace(day=1) if self.is_in_months else begin - DAY * begin.weekday()
        steps: list[Step] = []
        while _begin(begin) < (until or self.now) or not steps:
            following = (begin + 31 * DAY).replace(day=1) if self.is_in_months else begin + WEEK
            end = _begin(following)
            is_last = end >= (until or self.now)
            span = Span(max(self.since, _begin(begin)), until if is_last else end)
            steps.append(Step(begin, span))
            begin = following
        return steps

    @property
    def merges(self) -> PullRequestQuerySet:
        """The selected merges, newest first, without their large columns."""
        return _list(self.describe_merges())

    @property
    def reviewable(self) -> PullRequestQuerySet:
        """The selected merges whose reviews are counted: by people, or of bots as well."""
        return _list(self.describe_reviewable())

    def describe_merges(self, at: str = "") -> Q:
        """Return the condition for the selected merges.

        `at` is the way to them from what belongs to them, e.g. `pull_request__`.
        """
        span = self.span
        wanted: dict[str, Any] = {
            "state": PullRequest.State.MERGED,
            # Keys, not a subquery, which PostgreSQL would join with each row.
            "team__in": [team.pk for team in self.teams],
            "merged_at__gte": span.since,
        }
        if span.until:
            wanted["merged_at__lt"] = span.until
        if self.repository:
            wanted["github_repo__iexact"] = self.repository
        return Q(**{f"{at}{name}": value for name, value in wanted.items()})

    def describe_reviewable(self, at: str = "") -> Q:
        """Return the condition for the selected merges whose reviews are counted."""
        merges = self.describe_merges(at)
        return merges if self.with_bots else merges & Q(**{f"{at}is_by_bot": False})


def _list(wanted: Q) -> PullRequestQuerySet:
    rows = PullRequest.objects.filter(wanted).select_related("team")
    return rows.defer("receipt", "etags", "provenance").order_by("-merged_at", "-pk")


def _begin(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
