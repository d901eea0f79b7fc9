"""What the open pull requests wait for, by the rows that webhooks have written."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import QuerySet

from metrics_sync.metrics import OpenPullRequest, Person, Review, Turn, Wait, find_wait
from metrics_sync.models import PRReview, PullRequest, Team
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.snapshot import ASKED, DISMISSED_REVIEW, PUSHED, READY, name_event, read_time
from metrics_sync.store.histories import find_rule

#: What a wait, and its row of a table, are made of. Two thousand rows are common: plain values are
#: read in a quarter of the time that objects take.
COLUMNS = (
    *("pk", "team_id", "author__github_id", "author_login", "github_repo", "github_pr_number"),
    *("title", "is_draft", "head_sha", "pr_created_at", "review_requests", "review_events"),
)
REVIEW_COLUMNS = (
    *("pull_request_id", "reviewer__github_id", "reviewer__login", "reviewer__is_bot"),
    *("reviewer_login", "github_review_id", "state", "submitted_state", "submitted_at"),
    "commit_sha",
)
LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open pull request, and what it waits for."""

    pk: int
    team: Team
    name: str
    title: str
    author_login: str
    wait: Wait


@dataclass(frozen=True, slots=True)
class OpenState:
    """The open pull requests by whose turn it is, each turn's longest wait first.

    Of `unlisted` GitHub has not said yet who is asked for a review.
    """

    turns: Mapping[Turn, list[Waiting]]
    bots_left_out: int
    unlisted: int


def read_open(teams: QuerySet[Team], *, repository: str = "", with_bots: bool = False) -> OpenState:
    """Read what the open pull requests of tracked repositories wait for, with four queries."""
    known = {team.pk: team for team in teams}
    bots = {key: team.list_bots() for key, team in known.items()}
    rows = PullRequest.objects.tracked().filter(state=PullRequest.State.OPEN, team__in=known)
    if repository:
        rows = rows.in_repositories([repository])
    shown = rows.order_by() if with_bots else rows.order_by().filter(is_by_bot=False)
    listed = list(shown.values_list(*COLUMNS, named=True))
    reviews = _read_reviews(shown, {row.pk: row for row in listed}, bots)
    turns: dict[Turn, list[Waiting]] = {turn: [] for turn in Turn}
    for row in listed:
        wait = find_wait(_describe(row, reviews[row.pk], bots[row.team_id]))
        team, name = known[row.team_id], f"{row.github_repo}#{row.github_pr_number or '?'}"
        waiting = Waiting(row.pk, team, name, row.title, row.author_login, wait)
        turns[wait.turn].append(waiting)
    for waits in turns.values():
        waits.sort(key=lambda one: (one.wait.since or LATEST, one.pk))
    return OpenState(
        turns=turns,
        bots_left_out=0 if with_bots else rows.filter(is_by_bot=True).count(),
        unlisted=sum(row.review_requests is None for row in listed),
    )


def _read_reviews(
    rows: PullRequestQuerySet, listed: Mapping[int, Any], bots: Mapping[int, frozenset[str]]
) -> Mapping[int, list[Review]]:
    """Read the reviews of these rows, for which a draft does not wait.

    The times of dismissals are in the events of the rows.
    """
    found: dict[int, list[Review]] = defaultdict(list)
    reviews = PRReview.objects.filter(pull_request__in=rows.filter(is_draft=False).values("pk"))
    for review in reviews.order_by().values_list(*REVIEW_COLUMNS, named=True):
        row = listed.get(review.pull_request_id)
        if row is None:
            continue  # it was opened between the two queries
        key = name_event(DISMISSED_REVIEW, review.github_review_id)
        found[row.pk].append(
            Review(
                submitted_at=review.submitted_at,
                state=review.submitted_state or review.state,
                reviewer_id=review.reviewer__github_id,
                commit_sha=review.commit_sha,
                bot_rule=find_rule(
                    review.reviewer__login or "",
                    bots[row.team_id],
                    is_bot=bool(review.reviewer__is_bot),
                ),
                was_dismissed=review.state == "dismissed",
                dismissed_at=read_time(row.review_events.get(key)),
                login=review.reviewer_login,
            )
        )
    return found


def _describe(row: Any, reviews: Sequence[Review], bots: frozenset[str]) -> OpenPullRequest:
    listed, events = row.review_requests or {}, row.review_events
    return OpenPullRequest(
        created_at=row.pr_created_at,
        is_draft=row.is_draft,
        head_sha=row.head_sha,
        author_id=row.author__github_id,
        reviews=reviews,
        asked=[
            Person(
                login=asked["login"],
                since=read_time(
                    events.get(name_event(ASKED, asked["github_id"], is_team=asked["is_team"]))
                ),
                github_id=asked["github_id"],
                is_team=asked["is_team"],
            )
            for asked in listed.get("asked", ())
            if asked["is_team"] or asked["login"].lower() not in bots
        ],
        asked_as_of=read_time(listed.get("as_of")),
        ready_at=read_time(events.get(READY)),
        pushed_at=read_time(events.get(PUSHED)),
    )
