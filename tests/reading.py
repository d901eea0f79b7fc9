"""A second reading of docs/metrics.md, written from the page alone and as plainly as can be.

It shares nothing with the formulas but the values that they read, counts time by walking through
it in steps of a quarter of an hour, and is slow. Times must be on such steps.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from metrics_sync.metrics import Check, Commit, Event, History, Review

STEP = timedelta(minutes=15)


def read_metrics(history: History) -> dict[str, Any]:
    """Return the numbers of a merged pull request whose lists were all fetched."""
    created, merged = history.created_at, history.merged_at
    assert created is not None
    assert merged is not None
    assert history.reviews is not None
    assert history.comments is not None
    assert history.events is not None
    assert history.commits is not None
    assert history.checks is not None
    author = history.author_id

    # The merge ends everything.
    submitted = [r for r in history.reviews if r.submitted_at and r.submitted_at <= merged]
    said = [comment for comment in history.comments if comment.created_at <= merged]
    events = [event for event in history.events if event.created_at <= merged]

    # Who counts.
    counted = [r for r in submitted if not r.bot_rule and not _same(r.reviewer_id, author)]
    others = [c for c in said if not c.bot_rule and not _same(c.author_id, author)]
    first = min((_at(review) for review in counted), default=None)
    answers = [*(_at(review) for review in counted), *(c.created_at for c in others)]

    # Waiting.
    drafts = _list_drafts(events)
    waited = [_at(review) for review in counted if not _is_draft(drafts, _at(review))]
    answered = [at for at in answers if not _is_draft(drafts, at)]
    early = [at for at in answers if _is_draft(drafts, at)]
    approved = [_at(review) for review in counted if review.state == "approved"]

    def wait(moments: Iterable[datetime]) -> float | None:
        until = min(moments, default=None)
        if until is None:
            return None
        return sum(0.25 for at in _walk(created, until) if not _is_draft(drafts, at))

    changes = _list_changes(events)
    opened_as_draft = bool(changes) and changes[0].event == "ready_for_review"

    # Requests and their answers.
    commits = sorted(history.commits, key=lambda commit: commit.position)
    work = [commit for commit in commits if not _is_of_base(commit, commits)]
    work = [commit for commit in work if not commit.bot_rule]
    asked = [review for review in counted if review.state == "changes_requested"]
    pairs = [(review, _find_answer(review, work, commits)) for review in asked]
    fixes = [(review, commit) for review, commit in pairs if commit is not None]
    waits = [
        (min(max(c.committed_at, _at(r)), merged) - _at(r)) / timedelta(hours=1)
        for r, c in fixes
        if c.committed_at is not None
    ]
    dated = [commit.committed_at for commit in work if commit.committed_at is not None]
    written = [commit.authored_at for commit in work if commit.authored_at is not None]

    standing = _find_standing(counted, merged)
    lines = None
    if history.additions is not None and history.deletions is not None:
        lines = history.additions + history.deletions
    texts = [review for review in submitted if review.has_body and not review.bot_rule]
    reviewers = _list_reviewers(counted, events)
    return {
        "first_review_at": first,
        "review_time_hours": _hours(created, first),
        "ready_at": changes[0].created_at if opened_as_draft else created,
        "review_wait_hours": wait(waited),
        "first_response_at": min(answered, default=None),
        "first_response_hours": wait(answered),
        "early_feedback_at": min(early, default=None),
        "changes_requested_count": len(asked),
        "review_rounds": len({commit.sha for _, commit in fixes}),
        "avg_fix_response_hours": sum(waits) / len(waits) if waits else None,
        "commits_after_first_review": _count_unseen(counted, work, commits),
        "first_approval_hours": wait(approved),
        "approval_to_merge_hours": _hours(standing, merged),
        "merged_without_review": counted == [],
        "merged_without_approval": standing is None,
        "merged_by_author": None
        if author is None or history.merged_by_id is None
        else history.merged_by_id == author,
        "reviewer_count": len(reviewers),
        "reviewers": reviewers,
        "changed_lines": lines,
        "size_band": _find_band(lines),
        "coding_hours": max(_hours(min(written), created) or 0, 0) if written else None,
        "last_commit_to_merge_hours": max(_hours(max(dated[-1], created), merged) or 0, 0)
        if dated
        else None,
        "draft_hours": sum(0.25 for at in _walk(created, merged) if _is_draft(drafts, at)),
        "total_comments": len(history.comments),
        "human_comments": len(texts) + sum(not comment.bot_rule for comment in said),
        "cycle_time_hours": _hours(created, merged),
        "ci_at_merge": _read_ci(history, merged),
        "ci_duration_hours": _count_ci(history.checks, created, merged),
    }


def _same(one: int | None, other: int | None) -> bool:
    return one is not None and one == other


def _at(review: Review) -> datetime:
    assert review.submitted_at is not None
    return review.submitted_at


def _hours(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start) / timedelta(hours=1)


def _walk(start: datetime, end: datetime) -> Iterable[datetime]:
    while start < end:
        yield start
        start += STEP


def _list_changes(events: Iterable[Event]) -> list[Event]:
    kinds = ["convert_to_draft", "ready_for_review"]
    changes = [event for event in events if event.event in kinds]
    return sorted(changes, key=lambda change: (change.created_at, kinds.index(change.event)))


def _list_drafts(events: Iterable[Event]) -> list[tuple[datetime | None, bool]]:
    """Return since when it was a draft, or not; None is the opening."""
    changes = _list_changes(events)
    opened_as_draft = bool(changes) and changes[0].event == "ready_for_review"
    told = [(change.created_at, change.event == "convert_to_draft") for change in changes]
    return [(None, opened_as_draft), *told]


def _is_draft(drafts: list[tuple[datetime | None, bool]], moment: datetime) -> bool:
    """Tell by the last change up to the moment: each phase has its first second."""
    return [state for since, state in drafts if since is None or since <= moment][-1]


def _is_of_base(commit: Commit, commits: list[Commit]) -> bool:
    if commit.parents is None:
        return commit.is_merge_by_message
    listed = {one.sha for one in commits}
    return any(parent not in listed for parent in list(commit.parents)[1:])


def _find_answer(review: Review, work: list[Commit], commits: list[Commit]) -> Commit | None:
    for reviewed in commits:
        if reviewed.sha == review.commit_sha:
            behind = [commit for commit in work if commit.position > reviewed.position]
            return behind[0] if behind else None
    later = [c for c in work if c.committed_at is not None and c.committed_at > _at(review)]
    return min(later, key=lambda c: (c.committed_at, c.position)) if later else None


def _count_unseen(counted: list[Review], work: list[Commit], commits: list[Commit]) -> int:
    if not counted:
        return 0
    first = min(_at(review) for review in counted)
    seen = [
        commit.position
        for commit in commits
        for review in counted
        if _at(review) == first and review.commit_sha == commit.sha
    ]
    if seen:
        return sum(commit.position > max(seen) for commit in work)
    return sum(c.committed_at is not None and c.committed_at > first for c in work)


def _find_standing(counted: list[Review], merged: datetime) -> datetime | None:
    """Return the earliest approval that stands at the merge."""
    standing = []
    for mine in _split(counted):
        opinions = []
        for review in mine:
            if review.state == "approved":
                opinions.append((_at(review), 0))
            if review.state == "changes_requested":
                opinions.append((_at(review), 1))
            dismissed = review.dismissed_at or _at(review)
            if review.was_dismissed and dismissed <= merged:
                opinions.append((dismissed, 2))
        opinions.sort()
        run: list[datetime] = []
        for at, kind in opinions:
            run = [*run, at] if kind == 0 else []
        standing += run[:1]
    return min(standing, default=None)


def _split(counted: list[Review]) -> list[list[Review]]:
    """Return the reviews of each person; each review by a deleted account is another's."""
    ids = {review.reviewer_id for review in counted if review.reviewer_id is not None}
    deleted = [[review] for review in counted if review.reviewer_id is None]
    return [[r for r in counted if r.reviewer_id == one] for one in sorted(ids)] + deleted


def _list_reviewers(counted: list[Review], events: list[Event]) -> list[dict[str, Any]]:
    found = []
    for mine in _split(counted):
        first = min(mine, key=lambda review: (_at(review), review.login))
        requests = [
            event.created_at
            for event in events
            if event.event == "review_requested"
            and event.subject_login.lower() == first.login.lower()
            and event.created_at <= _at(first)
            and first.reviewer_id is not None
        ]
        asked = min(requests, default=None)
        found.append((_at(first), first.login, asked))
    found.sort(key=lambda one: (one[0], one[1], one[2] or one[0]))
    return [
        {
            "login": login,
            "requested_at": asked.isoformat() if asked else None,
            "reviewed_at": at.isoformat(),
            "hours": _hours(asked, at),
        }
        for at, login, asked in found
    ]


def _find_band(lines: int | None) -> str:
    if lines is None:
        return ""
    for band, below in [("XS", 10), ("S", 30), ("M", 100), ("L", 500), ("XL", 1000)]:
        if lines < below:
            return band
    return "XXL"


def _read_ci(history: History, merged: datetime) -> str:
    assert history.checks is not None
    began = [check for check in history.checks if not _came_later(check, merged)]
    later = [check for check in history.checks if _came_later(check, merged)]
    words = []
    for name in {(check.is_status, check.app, check.name) for check in began}:
        runs = [check for check in began if (check.is_status, check.app, check.name) == name]
        newest = max(runs, key=lambda run: _place(run, merged))
        if _ran_on(newest, merged):
            words.append("pending")
        elif newest.conclusion in ("success", "neutral", "skipped"):
            words.append("passed")
        elif newest.conclusion in (
            *("failure", "timed_out", "cancelled", "action_required", "startup_failure", "error"),
        ):
            words.append("failed")
        else:
            words.append("pending")
    for word in ("failed", "pending", "passed"):
        if word in words:
            return word
    left_out = [check for check in later if not check.is_status]
    return "" if left_out and not history.has_all_runs else "none"


def _came_later(check: Check, merged: datetime) -> bool:
    """A run that started later than the merge, a status that was set later."""
    at = check.ended_at if check.is_status else check.started_at
    return at is not None and at > merged


def _ran_on(check: Check, merged: datetime) -> bool:
    return not check.conclusion or (check.ended_at is not None and check.ended_at > merged)


def _place(run: Check, merged: datetime) -> tuple[bool, datetime, int]:
    """Order by the start, else by the end; what has neither is the newest."""
    ended = None if _ran_on(run, merged) and not run.is_status else run.ended_at
    at = run.started_at or ended
    return (at is None, at or merged, run.github_id)


def _count_ci(checks: Iterable[Check], created: datetime, merged: datetime) -> float | None:
    intervals = []
    for check in checks:
        start, end = check.started_at, check.ended_at
        if check.is_status or start is None or start > merged:
            continue
        if _ran_on(check, merged):
            intervals.append((start, merged))
        elif check.conclusion != "skipped" and end is not None and end >= start:
            intervals.append((start, end))
    if not intervals:
        return None
    return sum(
        0.25 for at in _walk(created, merged) if any(start <= at < end for start, end in intervals)
    )
