"""The columns of a pull request's metrics, which `docs/metrics.md` defines."""

from django.db import models


class CIAtMerge(models.TextChoices):
    #: Every check had passed.
    PASSED = "passed"
    #: A check had failed.
    FAILED = "failed"
    #: No check had failed, and one had not ended.
    PENDING = "pending"
    #: There was no check.
    NONE = "none"


class SizeBand(models.TextChoices):
    #: Fewer than 10 changed lines.
    XS = "XS"
    #: Fewer than 30.
    S = "S"
    #: Fewer than 100.
    M = "M"
    #: Fewer than 500.
    L = "L"
    #: Fewer than 1,000.
    XL = "XL"
    #: 1,000 or more.
    XXL = "XXL"


class Measured(models.Model):
    """The metrics of a pull request; null or empty where they are not known."""

    first_review_at = models.DateTimeField(null=True, blank=True)
    cycle_time_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    review_time_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    review_rounds = models.PositiveIntegerField(null=True, blank=True)
    avg_fix_response_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    commits_after_first_review = models.PositiveIntegerField(null=True, blank=True)
    total_comments = models.PositiveIntegerField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)
    review_wait_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    first_response_at = models.DateTimeField(null=True, blank=True)
    first_response_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    early_feedback_at = models.DateTimeField(null=True, blank=True)
    changes_requested_count = models.PositiveIntegerField(null=True, blank=True)
    first_approval_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    approval_to_merge_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    ci_at_merge = models.CharField(max_length=10, choices=CIAtMerge, blank=True)
    ci_duration_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    merged_without_review = models.BooleanField(null=True, blank=True)
    merged_without_approval = models.BooleanField(null=True, blank=True)
    merged_by_author = models.BooleanField(null=True, blank=True)
    reviewer_count = models.PositiveIntegerField(null=True, blank=True)
    reviewers = models.JSONField(null=True, blank=True)
    changed_lines = models.PositiveIntegerField(null=True, blank=True)
    size_band = models.CharField(
        max_length=10, choices=SizeBand, blank=True, default="", db_default=""
    )
    coding_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    last_commit_to_merge_hours = models.DecimalField(
        max_digits=12, decimal_places=2, null=True, blank=True
    )
    draft_hours = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    human_comments = models.PositiveIntegerField(null=True, blank=True)
    metrics_version = models.PositiveSmallIntegerField(null=True, blank=True)
    provenance = models.JSONField(
        default=dict, blank=True, help_text="How the metrics were computed."
    )

    class Meta:
        abstract = True
