"""Compares teams, repositories, authors or reviewers, each with its own period before."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db.models import Count, F, Max, Q, QuerySet, Value
from django.db.models.functions import Upper

from metrics_sync.dashboard.counted_reviews import OF, list_bots, select_counted, select_first
from metrics_sync.dashboard.measures import Spread, read_spreads, spread_metrics
from metrics_sync.dashboard.selection import Selection
from metrics_sync.dashboard.totals import divide
from metrics_sync.models import PRReview

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
    """The figures of a team, a repository or a person, now and before.

    `key` is the slug of the team, the name of the repository, the login of the author, or the
    reviewer's id at GitHub.
    """

    key: str
    name: str
    now: Numbers
    before: Numbers


def compare(selection: Selection, by: By) -> list[Compared]:
    """Compare all that have a merge in the period, by name; with at most three queries.

    Repositories are told apart by name, in any case of letters. A pull request counts for each
    person with a counted review, by GitHub's id, which is the key. Authors whom GitHub does not
    name are left out. Merges by bots are as the selection says, and bots review nothing.
    """
    now, before = _read(selection, by)
    teams = {team.pk: team for team in selection.teams} if by is By.TEAM else {}
    found = []
    for group, (name, numbers) in now.items():
        _, earlier = before.get(group, ("", Numbers()))
        if by is By.TEAM:
            found.append(Compared(teams[group].slug, teams[group].name, numbers, earlier))
        else:
            key = str(group) if by is By.REVIEWER else name
            found.append(Compared(key, name, numbers, earlier))
    return sorted(found, key=lambda one: one.name.lower())


#: By group its name and numbers.
_Groups = dict[Any, tuple[str, Numbers]]
#: What is compared is told apart by the first, and has the second as its name. The names of teams
#: are read once for each, and not for each row.
_GROUPS: dict[By, tuple[Any, Any]] = {
    By.TEAM: (F("team"), Value("")),
    By.REPOSITORY: (Upper("github_repo"), Max("github_repo")),
    By.AUTHOR: (F("author_login"), F("group")),
    By.REVIEWER: (F("reviewer__github_id"), Max("reviewer__login")),
}


def _read(selection: Selection, by: By) -> tuple[_Groups, _Groups]:
    """Return the groups of the period, and of the one before it."""
    both, at = selection.with_before, ""
    rows: QuerySet[Any] = both.reviewable.order_by()
    if by is By.AUTHOR:
        rows = rows.exclude(author_login="")
    elif by is By.REVIEWER:
        rows, at = _find_first_reviews(both), OF
    group, name = _GROUPS[by]
    counted = rows.values(group=group, is_now=selection.tell_period(at)).annotate(
        name=name,
        merged=Count("pk"),
        unreviewed=Count("pk", filter=Q(**{f"{at}merged_without_review": True})),
        known=Count(f"{at}merged_without_review"),
        **spread_metrics(COMPARED, at=at),
    )
    found: dict[bool | None, _Groups] = {True: {}, False: {}, None: {}}
    for row in counted:
        found[row["is_now"]][row["group"]] = row["name"], _to_numbers(row)
    return found[True], found[False]


def _to_numbers(row: Mapping[str, Any]) -> Numbers:
    spreads = read_spreads(COMPARED, row)
    return Numbers(row["merged"], spreads, row["unreviewed"], row["known"])


def _find_first_reviews(selection: Selection) -> QuerySet[PRReview]:
    """Return a counted review for each person who reviewed one of the merges."""
    counted = select_counted(selection).exclude(reviewer__in=list_bots(selection))
    return select_first(counted)
