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
    """A commit; `position` is its place in the order of history, 0 for the first."""

    sha: str
    committed_at: datetime | None
    position: int


@dataclass(frozen=True, slots=True)
class Review:
    """A review. `state` is what it was when submitted, as far as that is known.

    `reviewer_id` is None for a deleted account; `commit_sha` is what the reviewer looked at.
    """

    submitted_at: datetime | None
    state: str
    reviewer_id: int | None = None
    commit_sha: str = ""
    bot_rule: BotRule | None = None
    was_dismissed: bool = False


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment in the conversation or on the diff."""

    created_at: datetime
    author_id: int | None = None
    bot_rule: BotRule | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the timeline, by GitHub's name."""

    event: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Check:
    """A check run, or a legacy status; `conclusion` is empty until it has ended."""

    conclusion: str
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What is known of one pull request; a list that was not fetched whole is None."""

    created_at: datetime | None
    merged_at: datetime | None
    author_id: int | None
    commits: Sequence[Commit] | None
    reviews: Sequence[Review] | None
    comments: Sequence[Comment] | None
    events: Sequence[Event] | None
    checks: Sequence[Check] | None
