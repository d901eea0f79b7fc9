"""What belongs to one pull request: its commits, files, check runs, comments and reviews.

States, statuses and conclusions are kept in lower case as GitHub's webhooks write them. They
are plain text, because GitHub adds new ones without notice.
"""

from hashlib import sha256
from typing import Any

from django.db import models

from metrics_sync.models.filters import PENDING_STATUS, RUNNING_CHECK_STATUSES
from metrics_sync.models.pull_request import PullRequest
from metrics_sync.models.team import Team, TeamMember


def _once(what: str, *fields: str) -> models.UniqueConstraint:
    """Let a pull request have one row of these fields, which are GitHub's key of the item."""
    return models.UniqueConstraint(
        fields=["pull_request", *fields], name=f"unique_{what}_of_pull_request"
    )


class PullRequestChild(models.Model):
    """The team that owns each row below."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")

    class Meta:
        abstract = True


class Commit(PullRequestChild):
    """A commit as listed by one pull request; stacked pull requests each have their own row."""

    pull_request = models.ForeignKey(PullRequest, on_delete=models.CASCADE, related_name="commits")
    github_sha = models.CharField(max_length=64)
    message = models.TextField(blank=True)
    author = models.ForeignKey(
        TeamMember, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    author_login = models.TextField(blank=True)
    authored_at = models.DateTimeField(null=True, blank=True)
    committed_at = models.DateTimeField(null=True, blank=True)
    position = models.PositiveIntegerField(
        default=0, help_text="Its place in GitHub's list, which is in the order of history."
    )
    parents = models.JSONField(
        null=True, blank=True, help_text="The shas of its parents; empty: unknown."
    )

    class Meta:
        ordering = ["position", "pk"]
        constraints = [_once("commit", "github_sha")]

    def __str__(self) -> str:
        return self.github_sha[:10]


class PRFile(PullRequestChild):
    """A changed file; if its type changes, it is listed twice, with two statuses."""

    pull_request = models.ForeignKey(PullRequest, on_delete=models.CASCADE, related_name="files")
    filename = models.TextField()
    previous_filename = models.TextField(blank=True)
    status = models.TextField()
    additions = models.IntegerField()
    deletions = models.IntegerField()
    changes = models.IntegerField()
    #: A hash, because a path may have 4,096 bytes and an index row of PostgreSQL 2,704 at most.
    listing_key = models.CharField(max_length=64, default="", db_default="", editable=False)

    class Meta:
        ordering = ["filename"]
        verbose_name = "file"
        constraints = [_once("listing", "listing_key")]

    def __str__(self) -> str:
        return self.filename

    def save(self, **options: Any) -> None:
        """Save with the key; bulk writes set it themselves."""
        self.listing_key = self.make_key(self.filename, self.status)
        super().save(**options)

    @staticmethod
    def make_key(filename: str, status: str) -> str:
        """Return the key of an entry in the list of files."""
        return sha256(f"{filename}\0{status}".encode()).hexdigest()


class PRCheckRun(PullRequestChild):
    """A check run of the head commit; names repeat, so only the id tells two apart."""

    pull_request = models.ForeignKey(
        PullRequest, on_delete=models.CASCADE, related_name="check_runs"
    )
    github_check_run_id = models.BigIntegerField()
    name = models.TextField()
    app_slug = models.TextField(blank=True)
    status = models.TextField()
    conclusion = models.TextField(blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name", "pk"]
        verbose_name = "check run"
        constraints = [_once("check_run", "github_check_run_id")]
        indexes = [
            models.Index(
                fields=["pull_request"],
                condition=models.Q(status__in=RUNNING_CHECK_STATUSES),
                name="running_check_run",
            )
        ]

    def __str__(self) -> str:
        return self.name


class PRComment(PullRequestChild):
    """A comment in the conversation (`issue`) or on a line of the diff (`review`)."""

    class CommentType(models.TextChoices):
        #: Written in the conversation of the pull request.
        ISSUE = "issue"
        #: Written on the diff.
        REVIEW = "review"

    pull_request = models.ForeignKey(PullRequest, on_delete=models.CASCADE, related_name="comments")
    github_comment_id = models.BigIntegerField()
    comment_type = models.CharField(max_length=10, choices=CommentType)
    author = models.ForeignKey(
        TeamMember, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    author_login = models.TextField(blank=True)
    body = models.TextField(blank=True)
    path = models.TextField(blank=True)
    line = models.IntegerField(null=True, blank=True, help_text="Empty when it is outdated.")
    in_reply_to_id = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["created_at", "pk"]
        verbose_name = "comment"
        # Issue comments and review comments are numbered apart from each other.
        constraints = [_once("comment", "comment_type", "github_comment_id")]

    def __str__(self) -> str:
        return f"{self.author_login or 'somebody'}: {self.body[:60]}"


class PRReview(PullRequestChild):
    """A submitted review. `commit_sha` may be gone from the pull request after a force push."""

    pull_request = models.ForeignKey(PullRequest, on_delete=models.CASCADE, related_name="reviews")
    github_review_id = models.BigIntegerField()
    reviewer = models.ForeignKey(
        TeamMember, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    reviewer_login = models.TextField(blank=True)
    state = models.TextField()
    submitted_state = models.TextField(
        blank=True, help_text="What it was before it was dismissed; empty: unknown."
    )
    body = models.TextField(blank=True)
    commit_sha = models.CharField(max_length=64, blank=True)
    submitted_at = models.DateTimeField(null=True, blank=True, help_text="Empty while pending.")

    class Meta:
        ordering = ["submitted_at", "pk"]
        verbose_name = "review"
        constraints = [_once("review", "github_review_id")]

    def __str__(self) -> str:
        return f"{self.reviewer_login or 'somebody'}: {self.state}"


class PRTimelineEvent(PullRequestChild):
    """Something that happened to a pull request and that its review is measured by."""

    pull_request = models.ForeignKey(
        PullRequest, on_delete=models.CASCADE, related_name="timeline_events"
    )
    github_event_id = models.BigIntegerField()
    event = models.TextField()
    actor = models.ForeignKey(
        TeamMember, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    actor_login = models.TextField(blank=True)
    created_at = models.DateTimeField()
    subject_login = models.TextField(blank=True, help_text="Who was asked to review.")
    subject_github_id = models.BigIntegerField(
        null=True, blank=True, help_text="Its id; empty for a team, and in rows of older versions."
    )
    dismissed_review_id = models.BigIntegerField(null=True, blank=True)
    dismissed_state = models.TextField(blank=True, help_text="What the dismissed review was.")

    class Meta:
        ordering = ["created_at", "pk"]
        verbose_name = "timeline event"
        constraints = [_once("timeline_event", "github_event_id")]

    def __str__(self) -> str:
        return self.event


class PRCommitStatus(PullRequestChild):
    """What CI that predates check runs last said of the head commit, for each context."""

    pull_request = models.ForeignKey(
        PullRequest, on_delete=models.CASCADE, related_name="commit_statuses"
    )
    github_status_id = models.BigIntegerField()
    context = models.TextField()
    state = models.TextField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["context", "pk"]
        verbose_name = "commit status"
        verbose_name_plural = "commit statuses"
        constraints = [_once("commit_status", "github_status_id")]
        indexes = [
            models.Index(
                fields=["pull_request"],
                condition=models.Q(state=PENDING_STATUS),
                name="pending_commit_status",
            )
        ]

    def __str__(self) -> str:
        return f"{self.context}: {self.state}"
