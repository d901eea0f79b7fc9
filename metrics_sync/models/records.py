"""Records of webhook deliveries, fetches and changes of access."""

from collections.abc import Sequence
from typing import Any, Self

from django.db import models, transaction
from django.utils import timezone

from metrics_sync.models.integration import GitHubIntegration
from metrics_sync.models.prepared import PreparedUpdate, Slot
from metrics_sync.models.pull_request import PullRequest
from metrics_sync.models.team import Team


class WebhookDelivery(models.Model):
    """One webhook delivery to one of our endpoints."""

    class Status(models.TextChoices):
        #: Read and written to rows.
        PROCESSED = "processed"
        #: Understood; needs no action.
        IGNORED = "ignored"
        #: Signed and recorded, but not processed; a redelivery is processed.
        FAILED = "failed"

    SHARED_ENDPOINT = "shared"

    integration = models.ForeignKey(
        GitHubIntegration, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries"
    )
    endpoint = models.CharField(
        max_length=36, help_text="The integration's uuid, or “shared” for the shared endpoint."
    )
    guid = models.CharField("X-GitHub-Delivery", max_length=100)
    body_hash = models.CharField(
        max_length=64,
        blank=True,
        db_default="",
        default="",
        editable=False,
        help_text="SHA-256 of the payload.",
    )
    event = models.CharField(max_length=100)
    action = models.CharField(max_length=100, blank=True)
    github_repo = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.FAILED)
    error = models.TextField(blank=True)
    payload = models.TextField(
        blank=True, help_text="The JSON as it came, cut where it is very long; empty where ignored."
    )
    received_at = models.DateTimeField(auto_now_add=True, db_index=True)
    processed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-received_at", "-pk"]
        verbose_name_plural = "webhook deliveries"
        constraints = [
            # One event sent to several endpoints carries the same GUID.
            models.UniqueConstraint(fields=["endpoint", "guid"], name="unique_delivery"),
            # Only the body is signed: sent again under another id it is the same delivery.
            models.UniqueConstraint(
                fields=["endpoint", "event", "body_hash"],
                condition=~models.Q(body_hash=""),
                name="unique_delivery_body",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.guid}"


class FetchRun(models.Model):
    """One attempt to fetch one pull request, with the receipt of what it brought.

    `receipt` maps each section to `{"stated", "stored", "result"}`: the number that GitHub states
    (null where it states none), the number of stored rows, and `verified`, `capped` or the error.
    There may be a `reason`, the `witness` that confirmed the length, and `looks`: how many
    fetches have met the same fault, and since when.
    """

    class Status(models.TextChoices):
        #: Still under way, or killed.
        RUNNING = "running"
        #: Every section is verified or capped.
        COMPLETE = "complete"
        #: Some sections are missing.
        PARTIAL = "partial"
        #: Nothing useful was fetched.
        FAILED = "failed"

    #: The fields that the end of an attempt sets.
    END = ("status", "finished_at", "receipt", "errors", "requests_made")

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="+")
    pull_request = models.ForeignKey(
        PullRequest, on_delete=models.CASCADE, related_name="fetch_runs"
    )
    job_id = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.RUNNING)
    started_at = models.DateTimeField(auto_now_add=True, db_index=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    requests_made = models.PositiveIntegerField(default=0)
    receipt = models.JSONField(default=dict, blank=True)
    errors = models.JSONField(default=list, blank=True)
    is_superseded = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="A later attempt to fetch the pull request has begun.",
    )

    class Meta:
        ordering = ["-started_at", "-pk"]
        indexes = [
            # The prune of each night must not read the last run of every pull request there is.
            models.Index(
                fields=["started_at"],
                condition=models.Q(is_superseded=True),
                name="superseded_fetch_runs",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pull_request} at {self.started_at:%Y-%m-%d %H:%M:%S}"

    @classmethod
    def start(cls, pull_request: PullRequest, *, job_id: str) -> Self:
        """Begin the record of an attempt, and `supersede` the earlier ones: both or neither."""
        with transaction.atomic(savepoint=False):
            cls.supersede([pull_request])
            return cls.objects.create(
                team=pull_request.team, pull_request=pull_request, job_id=job_id
            )

    @classmethod
    def supersede(cls, pull_requests: Sequence[PullRequest]) -> None:
        """Mark their attempts, which others are to follow; close those that were killed, as failed.

        One UPDATE where there are none, else two.
        """
        attempts = cls.objects.filter(pull_request__in=pull_requests)
        if len(pull_requests) == 1:
            superseded = _supersede_of_one.run(pull_request_id=pull_requests[0].pk)
        else:
            superseded = attempts.filter(is_superseded=False).update(is_superseded=True)
        if superseded:
            attempts.filter(status=cls.Status.RUNNING).update(
                status=cls.Status.FAILED,
                finished_at=timezone.now(),
                errors=["fetch: the process ended without a word"],
            )

    def finish(
        self, *, status: Status, receipt: dict[str, Any], errors: list[str], requests_made: int
    ) -> None:
        """End the record, which stays unsaved: `END` are the fields that are set."""
        self.status, self.finished_at = status, timezone.now()
        self.receipt, self.errors, self.requests_made = receipt, errors, requests_made


_supersede_of_one = PreparedUpdate(
    lambda: FetchRun.objects.filter(
        pull_request=Slot("pull_request_id", models.BigIntegerField()), is_superseded=False
    ),
    is_superseded=True,
)


class AuditEntry(models.Model):
    """One change of a team, a credential or an integration; holds no secret.

    It outlives its subject, so it names it in words.
    """

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.CharField(
        max_length=255, help_text="A user, a command with its user, or a webhook delivery."
    )
    team = models.ForeignKey(
        Team, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    subject = models.CharField(max_length=255)
    change = models.TextField()

    class Meta:
        ordering = ["-at", "-pk"]
        verbose_name_plural = "audit log"

    def __str__(self) -> str:
        return f"{self.subject}: {self.change}"
