"""The list of pull requests as CSV, under the same filters, search and order."""

from itertools import chain
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from metrics_sync.admin.files import write_lines

COLUMNS = (
    "github_repo", "github_pr_number", "title", "author_login", "is_by_bot", "state", "base_ref",
    "head_ref", "pr_created_at", "merged_at", "sync_status", "completed_at", "review_wait_hours",
    "review_rounds", "avg_fix_response_hours", "cycle_time_hours", "first_approval_hours",
    "ci_at_merge", "merged_without_review", "additions", "deletions", "total_comments",
)  # fmt: skip
#: Rows in memory at once.
CHUNK = 2_000


def stream_csv(rows: QuerySet[Any]) -> StreamingHttpResponse:
    """Return the rows as a file that is sent while it is read; times are in UTC."""
    found = rows.values_list("team__slug", *COLUMNS).iterator(chunk_size=CHUNK)
    lines = write_lines(chain([["team", *COLUMNS]], map(list, found)))
    headers = {"Content-Disposition": 'attachment; filename="pull-requests.csv"'}
    return StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8", headers=headers)
