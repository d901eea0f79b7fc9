"""Reads the items of a pull request's lists.

The readers accept what real payloads hold, not only what the schema promises: missing keys, null
texts, states in upper or lower case.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from metrics_sync.snapshot.items import (
    CheckRunItem,
    CommentItem,
    CommitItem,
    CommitStatusItem,
    FileItem,
    Item,
    Json,
    ReviewItem,
    Section,
    TimelineItem,
    get_key,
)
from metrics_sync.snapshot.values import (
    read_account,
    read_bot,
    read_login,
    read_text,
    read_time,
    require_time,
)

#: The events of the timeline that show how a pull request was reviewed.
#: https://docs.github.com/en/rest/using-the-rest-api/issue-event-types
TIMELINE_EVENTS = {
    "ready_for_review",
    "convert_to_draft",
    "head_ref_force_pushed",
    "review_dismissed",
    "review_requested",
}


def read_commit(value: Json) -> CommitItem:
    commit = value.get("commit") or {}
    git_author, parents = commit.get("author") or {}, value.get("parents")
    # Null here means that the e-mail address belongs to no account.
    account = value.get("author") or read_bot(git_author) or {}
    return CommitItem(
        github_sha=value["sha"],
        message=read_text(commit.get("message")),
        author=read_account(account),
        author_login=read_login(account),
        authored_at=read_time(git_author.get("date")),
        committed_at=read_time((commit.get("committer") or {}).get("date")),
        parents=None if parents is None else tuple(parent["sha"] for parent in parents),
    )


def read_file(value: Json) -> FileItem:
    return FileItem(
        filename=read_text(value["filename"]),
        previous_filename=read_text(value.get("previous_filename")),
        status=read_text(value.get("status")).lower(),
        additions=value.get("additions") or 0,
        deletions=value.get("deletions") or 0,
        changes=value.get("changes") or 0,
    )


def read_check_run(value: Json) -> CheckRunItem:
    return CheckRunItem(
        github_check_run_id=value["id"],
        name=read_text(value.get("name")),
        app_slug=read_text((value.get("app") or {}).get("slug")),
        status=read_text(value.get("status")).lower(),
        conclusion=read_text(value.get("conclusion")).lower(),
        started_at=read_time(value.get("started_at")),
        completed_at=read_time(value.get("completed_at")),
    )


def _read_comment(value: Json, *, comment_type: str) -> CommentItem:
    created_at = require_time(value["created_at"])
    is_of_file = comment_type == "review" and value.get("subject_type") == "file"
    return CommentItem(
        github_comment_id=value["id"],
        comment_type=comment_type,
        author=read_account(value.get("user")),
        author_login=read_login(value.get("user")),
        body=read_text(value.get("body")),
        path=read_text(value.get("path")),
        # A comment on a whole file has no line, though GitHub may say the first.
        line=None if is_of_file else value.get("line"),
        in_reply_to_id=value.get("in_reply_to_id"),
        created_at=created_at,
        updated_at=read_time(value.get("updated_at")) or created_at,
    )


def read_issue_comment(value: Json) -> CommentItem:
    return _read_comment(value, comment_type="issue")


def read_review_comment(value: Json) -> CommentItem:
    return _read_comment(value, comment_type="review")


def read_review(value: Json) -> ReviewItem:
    return ReviewItem(
        github_review_id=value["id"],
        reviewer=read_account(value.get("user")),
        reviewer_login=read_login(value.get("user")),
        state=read_text(value.get("state")).lower(),
        body=read_text(value.get("body")),
        commit_sha=read_text(value.get("commit_id")),
        submitted_at=read_time(value.get("submitted_at")),
    )


def read_timeline_event(value: Json) -> TimelineItem:
    asked, team = value.get("requested_reviewer") or {}, value.get("requested_team") or {}
    dismissed = value.get("dismissed_review") or {}
    return TimelineItem(
        github_event_id=value["id"],
        event=value["event"],
        actor=read_account(value.get("actor")),
        actor_login=read_login(value.get("actor")),
        created_at=require_time(value["created_at"]),
        subject_login=read_text(asked.get("login") or team.get("slug")),
        dismissed_review_id=dismissed.get("review_id"),
        dismissed_state=read_text(dismissed.get("state")).lower(),
        subject_github_id=asked.get("id"),
    )


def read_commit_status(value: Json) -> CommitStatusItem:
    created_at = require_time(value["created_at"])
    return CommitStatusItem(
        github_status_id=value["id"],
        context=read_text(value["context"]),
        state=read_text(value["state"]).lower(),
        created_at=created_at,
        updated_at=read_time(value.get("updated_at")) or created_at,
    )


READERS: dict[Section, Callable[[Json], Item]] = {
    Section.COMMITS: read_commit,
    Section.FILES: read_file,
    Section.CHECK_RUNS: read_check_run,
    Section.ISSUE_COMMENTS: read_issue_comment,
    Section.REVIEW_COMMENTS: read_review_comment,
    Section.REVIEWS: read_review,
    Section.TIMELINE: read_timeline_event,
    Section.COMMIT_STATUSES: read_commit_status,
}

#: The paths of the times that an item of a section can be without.
TIMES: dict[Section, Sequence[Sequence[str]]] = {
    Section.COMMITS: (("commit", "author", "date"), ("commit", "committer", "date")),
    Section.CHECK_RUNS: (("started_at",), ("completed_at",)),
    Section.ISSUE_COMMENTS: (("updated_at",),),
    Section.REVIEW_COMMENTS: (("updated_at",),),
    Section.REVIEWS: (("submitted_at",),),
    Section.COMMIT_STATUSES: (("updated_at",),),
}


def read_items(section: Section, values: Sequence[Json]) -> tuple[Item, ...]:
    """Read the items of a section, each once: pages shift when an item is added meanwhile.

    Raises KeyError, TypeError, ValueError or AttributeError for what is not such an item.
    """
    if section is Section.TIMELINE:
        values = [value for value in values if value["event"] in TIMELINE_EVENTS]
    items = {get_key(section, item): item for item in map(READERS[section], values)}
    return tuple(
        replace(item, position=n) if isinstance(item, CommitItem) else item
        for n, item in enumerate(items.values())
    )


def describe_unknown_times(section: Section, values: Sequence[Json]) -> str:
    """Say how many items have a time that cannot be read; empty if every time can."""
    paths = TIMES.get(section, ())
    count = sum(any(_is_unknown(value, path) for path in paths) for value in values)
    return f"{count} with a time that is unknown" if count else ""


def _is_unknown(value: Any, path: Sequence[str]) -> bool:
    for name in path:
        value = (value or {}).get(name)
    return bool(value) and read_time(value) is None
