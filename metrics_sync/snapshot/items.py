"""The values that a fetch reads: a pull request and the items of its lists.

Field names are those of the models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from metrics_sync.names import RepositoryName

Json = Mapping[str, Any]


class Section(StrEnum):
    """The lists that belong to a pull request, in the order in which people look at them."""

    COMMITS = "commits"
    FILES = "files"
    CHECK_RUNS = "check_runs"
    ISSUE_COMMENTS = "issue_comments"
    REVIEW_COMMENTS = "review_comments"
    REVIEWS = "reviews"
    TIMELINE = "timeline"
    COMMIT_STATUSES = "commit_statuses"


#: A pull request can be complete without these: GitHub may not have them, or not for this token.
SUPPLEMENTARY = {Section.TIMELINE, Section.COMMIT_STATUSES}

#: The same, and the list that fine-grained tokens cannot read.
#: https://github.com/cli/cli/issues/8843
OPTIONAL = SUPPLEMENTARY | {Section.CHECK_RUNS}


@dataclass(frozen=True, slots=True)
class Account:
    """A GitHub account."""

    github_id: int
    login: str
    is_bot: bool


@dataclass(frozen=True, slots=True)
class CommitItem:
    github_sha: str
    message: str
    author: Account | None
    author_login: str
    authored_at: datetime | None
    committed_at: datetime | None
    #: The shas of its parents; None where the answer does not say.
    parents: tuple[str, ...] | None = None
    #: Its place in GitHub's list, which is in the order of history and not of dates.
    position: int = 0


@dataclass(frozen=True, slots=True)
class FileItem:
    filename: str
    previous_filename: str
    status: str
    additions: int
    deletions: int
    changes: int


@dataclass(frozen=True, slots=True)
class CheckRunItem:
    github_check_run_id: int
    name: str
    app_slug: str
    status: str
    conclusion: str
    started_at: datetime | None
    completed_at: datetime | None


@dataclass(frozen=True, slots=True)
class CommentItem:
    github_comment_id: int
    comment_type: str
    author: Account | None
    author_login: str
    body: str
    path: str
    line: int | None
    in_reply_to_id: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ReviewItem:
    github_review_id: int
    reviewer: Account | None
    reviewer_login: str
    state: str
    body: str
    commit_sha: str
    submitted_at: datetime | None


@dataclass(frozen=True, slots=True)
class TimelineItem:
    github_event_id: int
    event: str
    actor: Account | None
    actor_login: str
    created_at: datetime
    #: Who was asked to review.
    subject_login: str
    dismissed_review_id: int | None
    #: What the dismissed review was.
    dismissed_state: str
    #: GitHub's id of the account that was asked; None for a team.
    subject_github_id: int | None = None


@dataclass(frozen=True, slots=True)
class CommitStatusItem:
    github_status_id: int
    context: str
    state: str
    created_at: datetime
    updated_at: datetime


Item = (
    CommitItem
    | FileItem
    | CheckRunItem
    | CommentItem
    | ReviewItem
    | TimelineItem
    | CommitStatusItem
)


@dataclass(frozen=True, slots=True)
class PullRequestItem:
    """The pull request itself. Numbers that the payload does not state are None, not 0."""

    github_repo: str
    github_pr_id: int
    github_pr_number: int
    title: str
    author: Account | None
    author_login: str
    state: str
    is_draft: bool
    base_ref: str
    head_ref: str
    head_sha: str
    base_sha: str
    pr_created_at: datetime | None
    pr_updated_at: datetime | None
    closed_at: datetime | None
    merged_at: datetime | None
    additions: int | None
    deletions: int | None
    changed_files: int | None
    #: What GitHub states for each section; sections without a counter are absent.
    stated: Mapping[Section, int]
    #: The name of the repository in the payload, which is the new one after a rename.
    base_repo: str = ""
    #: Who merged it; None where the answer does not say. A deleted account has no id.
    merged_by_github_id: int | None = None
    merged_by_login: str | None = None
    #: GitHub's id of that repository; None where the answer does not say.
    base_repo_id: int | None = None
    #: Who is asked for a review, and as of when; None where the answer does not say.
    review_requests: Json | None = None
    #: What a delivery reports besides: the newest event of each kind, and when.
    review_events: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What GitHub last said of a token's requests, or of its points of GraphQL."""

    limit: int
    remaining: int
    resets_at: datetime


def limit_reserve(reserve: int, limit: int | None) -> int:
    """Return how much of a limit is left for merges: a fifth where the limit is small."""
    return reserve if limit is None else min(reserve, limit // 5)


@dataclass(frozen=True, slots=True)
class RepositoryItem:
    """A repository as GitHub names it today."""

    github_repo_id: int
    full_name: RepositoryName
    is_private: bool = field(default=False)


#: The fields that identify an item of a section. A file whose type changes (into a symbolic link,
#: say) is listed twice under one name, as `removed` and as `added`.
KEYS: dict[Section, tuple[str, ...]] = {
    Section.COMMITS: ("github_sha",),
    Section.FILES: ("filename", "status"),
    Section.CHECK_RUNS: ("github_check_run_id",),
    Section.ISSUE_COMMENTS: ("github_comment_id",),
    Section.REVIEW_COMMENTS: ("github_comment_id",),
    Section.REVIEWS: ("github_review_id",),
    Section.TIMELINE: ("github_event_id",),
    Section.COMMIT_STATUSES: ("github_status_id",),
}

#: The counter of the pull request that states how many items a section has.
COUNTERS: dict[Section, str] = {
    Section.COMMITS: "commits",
    Section.FILES: "changed_files",
    Section.ISSUE_COMMENTS: "comments",
    Section.REVIEW_COMMENTS: "review_comments",
}


def get_key(section: Section, item: Item) -> tuple[Any, ...]:
    """Return what identifies an item in its section."""
    return tuple(getattr(item, name) for name in KEYS[section])
