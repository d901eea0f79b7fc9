"""Selects the reviews that count for their reviewers: by the merge, not by author or bot."""

from collections.abc import Collection, Iterator
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import PRReview, Team, TeamMember
from metrics_sync.store.histories import find_rule

OF = "pull_request__"
BEFORE_THE_MERGE = Q(submitted_at__lte=F(f"{OF}merged_at"))
#: The reviews of a pull request are known once their list is proven complete; until then it is
#: unknown (NULL) whether it was merged without a review.
COUNTED = (
    Q(**{f"{OF}merged_without_review": False})
    & BEFORE_THE_MERGE
    & (Q(**{f"{OF}author": None}) | ~Q(**{f"{OF}author": F("reviewer")}))
)


def select_counted(selection: Selection) -> QuerySet[PRReview]:
    """Return the counted reviews of the selected merges by known accounts, bots among them."""
    merged = selection.describe_reviewable(OF)
    return PRReview.objects.filter(merged, COUNTED, reviewer__isnull=False).order_by()


def select_first(reviews: QuerySet[PRReview]) -> QuerySet[PRReview]:
    """Keep one of the counted reviews of a pull request by the same account."""
    earlier = PRReview.objects.filter(
        submitted_at__lte=OuterRef(f"{OF}merged_at"),
        pull_request=OuterRef("pull_request"),
        reviewer=OuterRef("reviewer"),
        pk__lt=OuterRef("pk"),
    )
    return reviews.filter(~Exists(earlier))


def list_bots(selection: Selection) -> list[int]:
    """Return the primary keys of the selected teams' accounts that are bots."""
    return [pk for pk, is_bot in _judge_accounts(selection.teams) if is_bot]


def list_people(teams: QuerySet[Team], github_id: int) -> list[int]:
    """Return the keys of an account, by GitHub's id, in the teams where it is no bot."""
    judged = _judge_accounts(teams, github_id=github_id)
    return [pk for pk, is_bot in judged if not is_bot]


def is_reviewed_by(accounts: Collection[int]) -> Exists:
    """Return the condition for merges with a counted review by one of the accounts."""
    return Exists(_find_reviews(accounts))


def is_answered_by(accounts: Collection[int]) -> Q:
    """Return the condition for merges whose first counted review by the accounts is an answer.

    That is one that was made once the pull request was ready, and it is known since when it was.
    """
    early = _find_reviews(accounts).filter(submitted_at__lt=OuterRef("ready_at"))
    return Q(is_reviewed_by(accounts), ~Exists(early), ready_at__isnull=False)


def _find_reviews(accounts: Collection[int]) -> QuerySet[PRReview]:
    """Return the counted reviews by some accounts of the pull request of the outer query."""
    return PRReview.objects.filter(COUNTED, pull_request=OuterRef("pk"), reviewer__in=accounts)


def _judge_accounts(teams: QuerySet[Team], **narrowing: Any) -> Iterator[tuple[int, bool]]:
    """Yield the key of each account and whether it is a bot of its team."""
    named = {team.pk: team.list_bots() for team in teams}
    members = TeamMember.objects.filter(team__in=teams, **narrowing)
    for pk, team, login, is_bot in members.values_list("pk", "team", "login", "is_bot"):
        yield pk, find_rule(login, named[team], is_bot=is_bot) is not None
