"""What the page of a pull request shows, and under which headings."""

from typing import Any

from metrics_sync.admin.columns import SECONDS, name_fields

#: The fields of a pull request's page, each line of them a tuple.
FIELDSETS: list[Any] = [
    (
        "Completeness",
        {
            "fields": [
                name_fields("status", "sync_error"),
                "receipt_table",
                name_fields("cut_off", "disagreements", "sync_attempts"),
                (*name_fields("completed_at"), SECONDS),
                name_fields("retry_at", "refetch_at"),
            ]
        },
    ),
    (
        "Metrics",
        {
            "fields": [
                name_fields("review_rounds", "avg_fix_response_hours"),
                name_fields("commits_after_first_review", "total_comments"),
                name_fields("changes_requested_count", "reviewer_count"),
                name_fields("first_approval_hours", "approval_to_merge_hours"),
                name_fields("merged_without_review", "merged_without_approval"),
                name_fields("merged_by_login", "merged_by_author"),
                name_fields("ready_at", "review_wait_hours"),
                name_fields("first_response_at", "first_response_hours"),
                name_fields("early_feedback_at", "draft_hours"),
                name_fields("first_review_at", "review_time_hours"),
                name_fields("cycle_time_hours", "metrics_version"),
                name_fields("coding_hours", "last_commit_to_merge_hours"),
                name_fields("changed_lines", "size_band", "human_comments"),
                name_fields("ci_at_merge", "ci_duration_hours"),
                "provenance_table",
            ]
        },
    ),
    (
        "Change",
        {
            "fields": [
                name_fields("base_ref", "head_ref"),
                name_fields("additions", "deletions", "changed_files"),
                name_fields("pr_created_at", "merged_at", "closed_at"),
            ]
        },
    ),
]
