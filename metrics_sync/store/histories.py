"""Reads the stored rows of a pull request as the history that its metrics are measured by."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from django.db.models import BigIntegerField, BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Left

from metrics_sync.metrics import (
    METRICS_VERSION,
    Check,
    Comment,
    Commit,
    Event,
    History,
    Review,
    measure,
)
from metrics_sync.metrics.history import BotRule
from metrics_sync.models import Commit as CommitRow
from metrics_sync.models import (
    PRCheckRun,
    PRComment,
    PRReview,
    PRTimelineEvent,
    PullRequest,
    Team,
    TeamMember,
)
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.snapshot import ALL_RUNS, Receipt, Section

COMPLETED = "completed"
HAS_BODY = ExpressionWrapper(~Q(body=""), output_field=BooleanField())

#: How the messages begin that git and GitHub write for merges.
#: https://git-scm.com/docs/git-fmt-merge-msg
MERGES = ("Merge branch ", "Merge remote-tracking branch ", "Merge pull request #", "Merge tag ")

_OF_ROW: dict[str, Any] = {"pull_request": Slot("pull_request_id", BigIntegerField())}
_commits = Prepared(
    lambda: (
        CommitRow.objects.filter(**_OF_ROW)
        .select_related("author")
        .defer("message")
        .annotate(subject=Left("message", 30))
    )
)
_reviews = Prepared(
    lambda: (
        PRReview.objects.filter(**_OF_ROW)
        .select_related("reviewer")
        .defer("body")
        .annotate(has_body=HAS_BODY)
    )
)
_comments = Prepared(
    lambda: PRComment.objects.filter(**_OF_ROW).select_related("author").defer("body")
)
_check_runs = Prepared(lambda: PRCheckRun.objects.filter(**_OF_ROW))


def measure_rows(row: PullRequest) -> dict[str, Any]:
    """Measure the stored rows; returns the values of the model's fields, unsaved.

    Only reads, and only the database. Lists that were not fetched whole are left out as unknown.
    """
    return {
        **asdict(measure(read_history(row))),
        "is_by_bot": is_bot(row.author, row.team),
        "metrics_version": METRICS_VERSION,
    }


def read_history(row: PullRequest) -> History:
    receipt = Receipt.from_json(row.receipt)
    known, checks = receipt.whole, receipt.sections.get(Section.CHECK_RUNS)
    bots, timeline = row.team.list_bots(), _read_timeline(row)
    events = [Event(event.event, event.created_at, event.subject_login) for event in timeline]
    return History(
        created_at=row.pr_created_at,
        merged_at=row.merged_at,
        author_id=row.author.github_id if row.author else None,
        commits=_read_commits(row, bots) if Section.COMMITS in known else None,
        reviews=_read_reviews(row, timeline, bots) if Section.REVIEWS in known else None,
        comments=_read_comments(row, bots) if known >= COMMENTS else None,
        events=events if Section.TIMELINE in known else None,
        checks=_read_checks(row) if known >= CHECKS else None,
        merged_by_id=row.merged_by_github_id,
        additions=row.additions,
        deletions=row.deletions,
        has_all_runs=checks is not None and checks.scope == ALL_RUNS,
    )


COMMENTS = {Section.ISSUE_COMMENTS, Section.REVIEW_COMMENTS}
CHECKS = {Section.CHECK_RUNS, Section.COMMIT_STATUSES}


def is_bot(person: TeamMember | None, team: Team) -> bool:
    """Whether an account is a bot by any rule."""
    return find_bot_rule(person, team.list_bots()) is not None


def find_bot_rule(person: TeamMember | None, bots: Iterable[str]) -> BotRule | None:
    """Say by which rule an account is a bot: the team's list, the login, or GitHub's word."""
    if person is None:
        return None
    return find_rule(person.login, bots, is_bot=person.is_bot)


def find_rule(login: str, bots: Iterable[str], *, is_bot: bool) -> BotRule | None:
    """Say the same of an account by its login and GitHub's word."""
    return _find_rule_of_login(login, bots) or (BotRule.TYPE if is_bot else None)


def _find_rule_of_login(login: str, bots: Iterable[str]) -> BotRule | None:
    if login.lower() in bots:
        return BotRule.TEAM
    return BotRule.SUFFIX if login.endswith("[bot]") else None


def _read_commits(row: PullRequest, bots: frozenset[str]) -> Sequence[Commit]:
    """Return the commits; a bot may have no account, and a login from its name."""
    rows: list[Any] = _commits.run(pull_request_id=row.pk)
    return [
        Commit(
            sha=commit.github_sha,
            committed_at=commit.committed_at,
            position=commit.position,
            authored_at=commit.authored_at,
            parents=commit.parents,
            is_merge_by_message=commit.subject.startswith(MERGES),
            bot_rule=find_bot_rule(commit.author, bots)
            or _find_rule_of_login(commit.author_login, bots),
        )
        for commit in rows
    ]


def _read_reviews(
    row: PullRequest, events: Iterable[PRTimelineEvent], bots: frozenset[str]
) -> Sequence[Review]:
    dismissed_at = {
        event.dismissed_review_id: event.created_at
        for event in sorted(events, key=lambda event: event.created_at)
        if event.dismissed_review_id is not None
    }
    rows: list[Any] = _reviews.run(pull_request_id=row.pk)
    return [
        Review(
            submitted_at=review.submitted_at,
            state=review.submitted_state or review.state,
            reviewer_id=review.reviewer.github_id if review.reviewer else None,
            commit_sha=review.commit_sha,
            bot_rule=find_bot_rule(review.reviewer, bots),
            was_dismissed=review.state == "dismissed",
            dismissed_at=dismissed_at.get(review.github_review_id),
            login=review.reviewer_login,
            has_body=review.has_body,
        )
        for review in rows
    ]


def _read_comments(row: PullRequest, bots: frozenset[str]) -> Sequence[Comment]:
    return [
        Comment(
            created_at=comment.created_at,
            author_id=comment.author.github_id if comment.author else None,
            bot_rule=find_bot_rule(comment.author, bots),
        )
        for comment in _comments.run(pull_request_id=row.pk)
    ]


def _read_timeline(row: PullRequest) -> Sequence[PRTimelineEvent]:
    return list(row.timeline_events.all()) if _has_rows(row, Section.TIMELINE) else []


def _read_checks(row: PullRequest) -> Sequence[Check]:
    """Return check runs and legacy statuses alike; a status has no start."""
    statuses: Iterable[Any] = ()
    if _has_rows(row, Section.COMMIT_STATUSES):
        statuses = row.commit_statuses.all()
    return [
        *(
            Check(
                conclusion=run.conclusion if run.status == COMPLETED else "",
                started_at=run.started_at,
                ended_at=run.completed_at,
                name=run.name,
                app=run.app_slug,
                github_id=run.github_check_run_id,
            )
            for run in _check_runs.run(pull_request_id=row.pk)
        ),
        *(
            Check(
                conclusion="" if status.state == "pending" else status.state,
                ended_at=status.created_at,
                name=status.context,
                github_id=status.github_status_id,
                is_status=True,
            )
            for status in statuses
        ),
    ]


def _has_rows(row: PullRequest, section: Section) -> bool:
    """Whether the last fetch left rows of a section that only a fetch writes."""
    entry = Receipt.from_json(row.receipt).sections.get(section)
    return bool(entry and entry.is_whole and entry.stored)
