"""The events of a pull request, as its timeline and the table behind the timeline show them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from metrics_sync.admin.labels import UNKNOWN
from metrics_sync.models import PullRequest

PASSED = {"success", "neutral", "skipped"}
#: Review states with a shape of their own; GitHub may add others.
REVIEWS = {
    "approved": "approved",
    "changes_requested": "requested changes",
    "commented": "reviewed",
    "dismissed": "reviewed (dismissed since)",
}


@dataclass(frozen=True, slots=True)
class Event:
    """An event; `shape` is its kind, which decides how it is drawn and in which lane."""

    at: datetime
    shape: str
    text: str
    who: str = ""
    #: When it began, if it lasted.
    since: datetime | None = None

    def __str__(self) -> str:
        return f"{self.who or 'somebody'} {self.text}"


def list_events(row: PullRequest) -> Iterator[Event]:
    """Yield the stored events of a pull request, in no order."""
    yield from _list_milestones(row)
    commits = row.commits.values_list("committed_at", "github_sha", "author_login")
    for at, sha, who in commits:
        if at is not None:
            yield Event(at, "commit", f"committed {sha[:7]}", who)
    reviews = row.reviews.values_list("submitted_at", "state", "submitted_state", "reviewer_login")
    for at, now, then, who in reviews:
        if at is not None:
            shape = now if now in REVIEWS else "commented"
            text = REVIEWS.get(then or now, f"reviewed: {now}")
            if now == "dismissed" and then:
                text = f"{text} (dismissed since)"
            yield Event(at, shape, text, who)
    for at, kind, who in row.comments.values_list("created_at", "comment_type", "author_login"):
        where = "on the diff" if kind == "review" else "in the conversation"
        yield Event(at, "comment", f"commented {where}", who)
    yield from _list_checks(row)


def _list_checks(row: PullRequest) -> Iterator[Event]:
    """Yield check runs that ended, and the statuses of CI without check runs."""
    checks = row.check_runs.values_list(
        "completed_at", "started_at", "name", "conclusion", "app_slug"
    )
    for at, since, name, conclusion, app in checks:
        if at is not None:
            shape = "passed" if conclusion in PASSED else "failed"
            text = f"finished {name}: {conclusion or UNKNOWN}"
            yield Event(at, shape, text, app or "CI", since)
    for at, context, state in row.commit_statuses.values_list("updated_at", "context", "state"):
        if state != "pending":
            shape = "passed" if state in PASSED else "failed"
            yield Event(at, shape, f"finished {context}: {state}", "CI")


def _list_milestones(row: PullRequest) -> Iterator[Event]:
    if row.pr_created_at:
        yield Event(row.pr_created_at, "opened", "opened it", row.author_login)
    words = {
        "ready_for_review": "marked it ready for review",
        "convert_to_draft": "made it a draft",
        "head_ref_force_pushed": "force-pushed",
        "review_dismissed": "dismissed a review",
    }
    for at, event, who, subject in row.timeline_events.values_list(
        "created_at", "event", "actor_login", "subject_login"
    ):
        text = f"asked {subject} to review" if event == "review_requested" else words.get(event)
        yield Event(at, event, text or event.replace("_", " "), who)
    if row.merged_at:
        yield Event(row.merged_at, "merged", "merged it")


def list_drafts(
    row: PullRequest, events: Iterable[Event], now: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the times in which it was a draft; of an open draft, until now.

    It began as one if the first change was to become ready.
    """
    turns = [event for event in events if event.shape in {"ready_for_review", "convert_to_draft"}]
    drafts, since = [], row.pr_created_at
    for turn in turns:
        if turn.shape == "convert_to_draft":
            since = turn.at
        elif since is not None:
            drafts.append((since, turn.at))
            since = None
    last = row.merged_at or row.closed_at or now
    is_still = turns[-1].shape == "convert_to_draft" if turns else row.is_draft
    return [*drafts, *([(since, last)] if is_still and since else [])]
