"""Compares teams, repositories, authors or reviewers, each with its own period before."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db.models import Count, F, Max, Min, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat, StrIndex, Upper
from django.db.models.lookups import GreaterThan

from metrics_sync.dashboard.measures import Spread, read_spreads, spread_metrics
from metrics_sync.dashboard.selection import Selection
from metrics_sync.dashboard.totals import divide
from metrics_sync.models import PRReview
from metrics_sync.models.pull_request import PullRequestQuerySet

#: The metrics that are compared.
COMPARED = ("review_wait_hours", "review_rounds", "cycle_time_hours", "ci_duration_hours")


class By(StrEnum):
    TEAM = "team"
    REPOSITORY = "repository"
    AUTHOR = "author"
    REVIEWER = "reviewer"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The figures of one team, repository or person in one period; None is unknown."""

    merged: int = 0
    metrics: Mapping[str, Spread] | None = None
    without_review: int = 0
    #: Of how many it is known whether they were reviewed.
    review_is_known: int = 0

    @property
    def share_without_review(self) -> float | None:
        return divide(self.without_review, self.review_is_known)

    def get_spread(self, metric: str) -> Spread:
        return (self.metrics or {}).get(metric, Spread())


@dataclass(frozen=True, slots=True)
class Compared:
    """The figures of a team (its slug is `key`), a repository or a person, now and before."""

    key: str
    name: str
    now: Numbers
    before: Numbers


def compare(selection: Selection, by: By) -> list[Compared]:
    """Compare all that have a merge in the period, by name; with two queries.

    Repositories are told apart by name, in any case of letters. A pull request counts for each
    person who reviewed it, whose reviews are those of `reviewers` in docs/metrics.md. Authors whom
    GitHub does not name are left out. Merges by bots are as the selection says.
    """
    now, before = _read(selection, by), _read(selection.before, by)
    nothing = Numbers()
    return [
        Compared(key, name, numbers, before.get(group, ("", "", nothing))[2])
        for group, (key, name, numbers) in sorted(now.items(), key=lambda item: item[1][1].lower())
    ]


#: What is compared, and how it is told apart.
_GROUPS: dict[By, dict[str, Any]] = {
    By.TEAM: {"group": F("team"), "key": Max("team__slug"), "name": Max("team__name")},
    By.REPOSITORY: {
        "group": Upper("github_repo"), "key": Max("github_repo"), "name": Max("github_repo"),
    },
    By.AUTHOR: {
        "group": F("author_login"), "key": Max("author_login"), "name": Max("author_login"),
    },
    By.REVIEWER: {
        "group": F("reviewer_login"), "key": Max("reviewer_login"), "name": Max("reviewer_login"),
    },
}  # fmt: skip


def _read(selection: Selection, by: By) -> dict[Any, tuple[str, str, Numbers]]:
    merges = selection.reviewable.order_by()
    if by is By.AUTHOR:
        merges = merges.exclude(author_login="")
    is_of_reviews = by is By.REVIEWER
    rows: QuerySet[Any] = find_first_reviews(merges) if is_of_reviews else merges
    group, at = _GROUPS[by], "pull_request__" if is_of_reviews else ""
    counted = (
        rows.annotate(group=group["group"])
        .values("group")
        .annotate(
            key=group["key"],
            name=group["name"],
            merged=Count("pk"),
            unreviewed=Count("pk", filter=Q(**{f"{at}merged_without_review": True})),
            known=Count(f"{at}merged_without_review"),
            **spread_metrics(COMPARED, at=at),
        )
    )
    return {
        row["group"]: (
            row["key"],
            row["name"],
            Numbers(row["merged"], read_spreads(COMPARED, row), row["unreviewed"], row["known"]),
        )
        for row in counted
    }


def find_first_reviews(merges: PullRequestQuerySet) -> QuerySet[PRReview]:
    """Return a review for each person who reviewed one of these, by `reviewers` of each merge."""
    reviews = PRReview.objects.order_by().filter(pull_request__in=merges.values("pk"))
    firsts = reviews.values("pull_request", "reviewer_login").annotate(first=Min("pk"))
    entry = Concat(Value('"login": "'), F("reviewer_login"), Value('"'), output_field=TextField())
    listed = StrIndex(Cast("pull_request__reviewers", TextField()), entry)
    return PRReview.objects.order_by().filter(GreaterThan(listed, 0), pk__in=firsts.values("first"))
