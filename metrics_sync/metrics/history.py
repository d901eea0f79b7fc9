"""What is known of one pull request, as far as its numbers need it; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class BotRule(StrEnum):
    """By which rule an account is taken for a bot."""

    #: GitHub says so.
    TYPE = "type"
    #: Its login ends in `[bot]`; the same app appears with either.
    SUFFIX = "suffix"
    #: The team says so.
    TEAM = "team"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit; `position` is its place in the order of history, 0 for the first.

    `parents` is None where they are not known; then `is_merge_by_message` says whether the
    message is the one that git writes for a merge.
    """

    sha: str
    committed_at: datetime | None
    position: int
    authored_at: datetime | None = None
    parents: Sequence[str] | None = None
    is_merge_by_message: bool = False
    bot_rule: BotRule | None = None


@dataclass(frozen=True, slots=True)
class Review:
    """A review. `state` is what it was when submitted, as far as that is known.

    `reviewer_id` is None for a deleted account; `commit_sha` is what the reviewer looked at.
    `dismissed_at` is None for a dismissed review whose dismissal nobody reported.
    """

    submitted_at: datetime | None
    state: str
    reviewer_id: int | None = None
    commit_sha: str = ""
    bot_rule: BotRule | None = None
    was_dismissed: bool = False
    dismissed_at: datetime | None = None
    login: str = ""
    has_body: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment in the conversation or on the diff."""

    created_at: datetime
    author_id: int | None = None
    bot_rule: BotRule | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the timeline, by GitHub's name; `subject_login` is who was asked to review."""

    event: str
    created_at: datetime
    subject_login: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check run, or a legacy status, which has no start and ended when it was set.

    `conclusion` is empty until it has ended. `github_id` decides between runs of one second.
    """

    conclusion: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    name: str = ""
    app: str = ""
    github_id: int = 0
    is_status: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one pull request; a list that was not fetched whole is None.

    `has_all_runs` says that `checks` has the runs, too, that later ones have replaced.
    """

    created_at: datetime | None
    merged_at: datetime | None
    author_id: int | None
    commits: Sequence[Commit] | None
    reviews: Sequence[Review] | None
    comments: Sequence[Comment] | None
    events: Sequence[Event] | None
    checks: Sequence[Check] | None
    merged_by_id: int | None = None
    additions: int | None = None
    deletions: int | None = None
    has_all_runs: bool = False
