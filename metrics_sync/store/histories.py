"""Reads the stored rows of a pull request as the history that its metrics are measured by."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Left

from metrics_sync.metrics import (
    METRICS_VERSION,
    Check,
    Comment,
    Commit,
    Event,
    History,
    Metrics,
    Review,
    measure,
)
from metrics_sync.metrics.history import BotRule
from metrics_sync.models import PRTimelineEvent, PullRequest, Team, TeamMember
from metrics_sync.models.prepared import PreparedForOne
from metrics_sync.snapshot import ALL_RUNS, SUPPLEMENTARY, Receipt, Section
from metrics_sync.store.lists import MODELS

#: The fields of a pull request that are measured. `asdict` would copy each value, too.
MEASURED = [field.name for field in fields(Metrics)]

COMPLETED = "completed"
HAS_BODY = ExpressionWrapper(~Q(body=""), output_field=BooleanField())

#: How the messages begin that git and GitHub write for merges.
#: https://git-scm.com/docs/git-fmt-merge-msg
MERGES = ("Merge branch ", "Merge remote-tracking branch ", "Merge pull request #", "Merge tag ")


def measure_rows(row: PullRequest) -> dict[str, Any]:
    """Measure the stored rows; returns the values of the model's fields, unsaved.

    Only reads, and only the database. Lists that were not fetched whole are left out as unknown.
    """
    return measure_together([row])[0]


def measure_together(rows: Sequence[PullRequest]) -> list[dict[str, Any]]:
    """Measure the stored rows of several pull requests, with as many queries as for one."""
    return [
        {
            **{name: getattr(metrics, name) for name in MEASURED},
            "is_by_bot": is_bot(row.author, row.team),
            "metrics_version": METRICS_VERSION,
        }
        for row, metrics in zip(rows, map(measure, read_histories(rows)), strict=True)
    ]


def read_histories(rows: Sequence[PullRequest]) -> list[History]:
    receipts = [Receipt.from_json(row.receipt) for row in rows]
    lists = {section: _load_list(section, rows, receipts) for section in COLUMNS_NEEDED}
    return [
        _read_history(row, receipt, {section: loaded[row.pk] for section, loaded in lists.items()})
        for row, receipt in zip(rows, receipts, strict=True)
    ]


def _load_list(
    section: Section, rows: Iterable[PullRequest], receipts: Iterable[Receipt]
) -> dict[int, list[Any]]:
    """Read one list of those pull requests of which it is known, and stored."""
    known = zip(rows, receipts, strict=True)
    found = defaultdict[int, list[Any]](list)
    for item in _lists[section].run([row.pk for row, r in known if _is_needed(r, section)]):
        found[item.pull_request_id].append(item)
    return found


def _list_needed(section: Section) -> QuerySet[Any]:
    return COLUMNS_NEEDED[section](MODELS[section].objects.all())


def _is_needed(receipt: Receipt, section: Section) -> bool:
    """Whether a list is known whole, and has rows if only a fetch writes them."""
    entry = receipt.sections.get(section)
    return bool(entry and entry.is_whole and (entry.stored or section not in SUPPLEMENTARY))


def _read_history(
    row: PullRequest, receipt: Receipt, lists: Mapping[Section, list[Any]]
) -> History:
    known, checks = receipt.whole, receipt.sections.get(Section.CHECK_RUNS)
    bots, timeline = row.team.list_bots(), lists[Section.TIMELINE]
    events = [Event(event.event, event.created_at, event.subject_login) for event in timeline]
    return History(
        created_at=row.pr_created_at,
        merged_at=row.merged_at,
        author_id=row.author.github_id if row.author else None,
        commits=_read_commits(lists[Section.COMMITS], bots) if Section.COMMITS in known else None,
        reviews=_read_reviews(lists[Section.REVIEWS], timeline, bots)
        if Section.REVIEWS in known
        else None,
        comments=_read_comments(lists[Section.ISSUE_COMMENTS], bots) if known >= COMMENTS else None,
        events=events if Section.TIMELINE in known else None,
        checks=_read_checks(lists) if known >= CHECKS else None,
        merged_by_id=row.merged_by_github_id,
        additions=row.additions,
        deletions=row.deletions,
        has_all_runs=checks is not None and checks.scope == ALL_RUNS,
    )


COMMENTS = {Section.ISSUE_COMMENTS, Section.REVIEW_COMMENTS}
CHECKS = {Section.CHECK_RUNS, Section.COMMIT_STATUSES}

#: What is read of each list, which leaves out long texts. One table has both kinds of comments.
COLUMNS_NEEDED: dict[Section, Callable[[QuerySet[Any]], QuerySet[Any]]] = {
    Section.COMMITS: lambda rows: (
        rows.select_related("author").defer("message").annotate(subject=Left("message", 30))
    ),
    Section.REVIEWS: lambda rows: (
        rows.select_related("reviewer").defer("body").annotate(has_body=HAS_BODY)
    ),
    Section.ISSUE_COMMENTS: lambda rows: rows.select_related("author").defer("body"),
    Section.TIMELINE: lambda rows: rows,
    Section.CHECK_RUNS: lambda rows: rows,
    Section.COMMIT_STATUSES: lambda rows: rows,
}

_lists = {
    section: PreparedForOne[Any](partial(_list_needed, section), "pull_request")
    for section in COLUMNS_NEEDED
}


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


def _read_commits(commits: Iterable[Any], bots: frozenset[str]) -> Sequence[Commit]:
    """Return the commits; a bot may have no account, and a login from its name."""
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
        for commit in commits
    ]


def _read_reviews(
    reviews: Iterable[Any], events: Iterable[PRTimelineEvent], bots: frozenset[str]
) -> Sequence[Review]:
    dismissed_at = {
        event.dismissed_review_id: event.created_at
        for event in sorted(events, key=lambda event: event.created_at)
        if event.dismissed_review_id is not None
    }
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
        for review in reviews
    ]


def _read_comments(comments: Iterable[Any], bots: frozenset[str]) -> Sequence[Comment]:
    return [
        Comment(
            created_at=comment.created_at,
            author_id=comment.author.github_id if comment.author else None,
            bot_rule=find_bot_rule(comment.author, bots),
        )
        for comment in comments
    ]


def _read_checks(lists: Mapping[Section, Iterable[Any]]) -> Sequence[Check]:
    """Return check runs and legacy statuses alike; a status has no start."""
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
            for run in lists[Section.CHECK_RUNS]
        ),
        *(
            Check(
                conclusion="" if status.state == "pending" else status.state,
                ended_at=status.created_at,
                name=status.context,
                github_id=status.github_status_id,
                is_status=True,
            )
            for status in lists[Section.COMMIT_STATUSES]
        ),
    ]
