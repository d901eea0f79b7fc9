"""Which reviews count for those who made them: by the merge, and not by the author."""

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from metrics_sync.dashboard.selection import Selection
from metrics_sync.models import PRReview, TeamMember
from metrics_sync.store.histories import find_rule

OF = "pull_request__"
COUNTED = Q(submitted_at__lte=F(f"{OF}merged_at")) & (
    Q(**{f"{OF}author": None}) | ~Q(**{f"{OF}author": F("reviewer")})
)


def select_counted(selection: Selection) -> QuerySet[PRReview]:
    """Return the counted reviews of the selected merges by known accounts, bots among them."""
    merged = selection.describe_reviewable(OF)
    return PRReview.objects.filter(merged, COUNTED, reviewer__isnull=False).order_by()


def list_bots(selection: Selection) -> list[int]:
    """Return the keys of the accounts of the selected teams whose reviews are those of bots."""
    named = {team.pk: team.list_bots() for team in selection.teams}
    members = TeamMember.objects.filter(team__in=selection.teams)
    return [
        pk
        for pk, team, login, is_bot in members.values_list("pk", "team", "login", "is_bot")
        if find_rule(login, named[team], is_bot=is_bot)
    ]


def is_reviewed_by(github_id: int) -> Exists:
    """Return the condition for merges with a counted review by an account, by GitHub's id."""
    reviews = PRReview.objects.filter(COUNTED, pull_request=OuterRef("pk"))
    return Exists(reviews.filter(reviewer__github_id=github_id))
