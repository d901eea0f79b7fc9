"""The schemas of the answers: rows under the names of their fields, unknown as null."""

from datetime import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import Field

from metrics_sync import models
from metrics_sync.models.states import State, SyncStatus
from metrics_sync.snapshot import Section
from metrics_sync.store import count_rows

Hours = Annotated[float | None, Field(description="Hours, with two decimals.")]
Share = Annotated[float | None, Field(ge=0, le=1)]
Seconds = Annotated[float | None, Field(description="Seconds since the merge.")]


class Error(Schema):
    """What is wrong, in a sentence for people."""

    message: str


class Reviewer(Schema):
    """A person who reviewed, and how soon after being asked."""

    login: str
    requested_at: datetime | None
    reviewed_at: datetime
    hours: Hours


class PullRequest(Schema):
    """A merged pull request, how much of it is known, and its metrics."""

    github_repo: str
    github_pr_number: int | None
    github_pr_id: int
    title: str
    author_login: str
    is_by_bot: bool = Field(description="Whether its author is a bot by any of the rules.")
    merged_by_login: str = Field(description="Empty: unknown.")
    base_ref: str
    head_ref: str
    head_sha: str
    state: State
    pr_created_at: datetime | None
    merged_at: datetime | None
    additions: int | None
    deletions: int | None
    changed_files: int | None

    sync_status: SyncStatus
    completed_at: datetime | None = Field(description="When all of it was first verified.")
    truncated: list[str] = Field(description="The lists that GitHub itself cuts off.")
    disagreeing: list[str] = Field(
        description="The lists about which GitHub has contradicted itself for a day."
    )

    first_review_at: datetime | None
    cycle_time_hours: Hours
    review_time_hours: Hours
    review_rounds: int | None
    avg_fix_response_hours: Hours
    commits_after_first_review: int | None
    total_comments: int | None
    ready_at: datetime | None
    review_wait_hours: Hours
    first_response_at: datetime | None
    first_response_hours: Hours
    early_feedback_at: datetime | None
    changes_requested_count: int | None
    first_approval_hours: Hours
    approval_to_merge_hours: Hours
    merged_without_review: bool | None
    merged_without_approval: bool | None
    merged_by_author: bool | None
    reviewer_count: int | None
    reviewers: list[Reviewer] | None
    changed_lines: int | None
    size_band: str = Field(description="XS, S, M, L, XL or XXL; empty: unknown.")
    coding_hours: Hours
    last_commit_to_merge_hours: Hours
    draft_hours: Hours
    human_comments: int | None
    ci_at_merge: str = Field(description="passed, failed, pending or none; empty: unknown.")
    ci_duration_hours: Hours
    metrics_version: int | None = Field(
        description="Which version of the formulas was used; 0: about to be measured again."
    )


class ReceiptEntry(Schema):
    """How one list was proven to be complete."""

    stated: int | None = Field(description="How many items GitHub says there are.")
    stored: int | None = Field(description="How many are stored.")
    result: str = Field(
        description="verified, capped, disagreeing, outdated, unavailable, or what went wrong."
    )
    reason: str = ""
    witness: str = Field("", description="What vouched for its length; empty: nothing did.")


class PullRequestDetail(PullRequest):
    """One pull request with receipt and provenance; its lists have endpoints of their own."""

    sync_error: str
    receipt: dict[str, ReceiptEntry]
    provenance: dict[str, Any] = Field(description="How the metrics were computed.")
    counts: dict[Section, int] = Field(description="How many items of each list are stored.")

    @staticmethod
    def resolve_counts(row: models.PullRequest) -> dict[Section, int]:
        return count_rows(row)


class Commit(Schema):
    github_sha: str
    message: str
    author_login: str
    authored_at: datetime | None
    committed_at: datetime | None
    position: int = Field(description="Its place in the order of history.")
    parents: list[str] | None


class File(Schema):
    filename: str
    previous_filename: str
    status: str
    additions: int
    deletions: int
    changes: int


class CheckRun(Schema):
    github_check_run_id: int
    name: str
    app_slug: str
    status: str
    conclusion: str
    started_at: datetime | None
    completed_at: datetime | None


class Comment(Schema):
    github_comment_id: int
    author_login: str
    body: str
    path: str
    line: int | None
    in_reply_to_id: int | None
    created_at: datetime
    updated_at: datetime


class Review(Schema):
    github_review_id: int
    reviewer_login: str
    state: str
    submitted_state: str = Field(description="What it was before it was dismissed.")
    body: str
    commit_sha: str
    submitted_at: datetime | None


class TimelineEvent(Schema):
    github_event_id: int
    event: str
    actor_login: str
    created_at: datetime
    subject_login: str
    dismissed_review_id: int | None
    dismissed_state: str


class CommitStatus(Schema):
    github_status_id: int
    context: str
    state: str
    created_at: datetime
    updated_at: datetime


class Repository(Schema):
    """A tracked repository, and its merged pull requests counted by sync status."""

    full_name: str
    is_active: bool
    statuses: dict[SyncStatus, int] = Field(
        description="How many merged pull requests have each sync status."
    )
