"""Pull requests with their metrics and provenance, as flat records for other programs."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from metrics_sync.metrics import Metrics
from metrics_sync.models import PullRequest
from metrics_sync.models.pull_request import PullRequestQuerySet

#: What identifies a pull request and says how much of it is known.
FACTS = (
    *("team__slug", "github_repo", "github_pr_number", "title", "author_login", "is_by_bot"),
    *("state", "merged_by_login"),
    *("pr_created_at", "merged_at", "additions", "deletions", "changed_files"),
    *("sync_status", "completed_at", "truncated", "disagreeing"),
)
METRICS = (*(name for name in Metrics.__slots__ if name != "provenance"), "metrics_version")
COLUMNS = ("team", *FACTS[1:], *METRICS, "provenance")


def list_exportable(
    *, team: str = "", since: datetime | None = None, by_bots: bool | None = None
) -> PullRequestQuerySet:
    """Return merged pull requests, oldest merge first; of people or of bots only if `by_bots`."""
    rows = PullRequest.objects.merged().order_by("merged_at", "pk")
    if team:
        rows = rows.filter(team__slug=team)
    if by_bots is not None:
        rows = rows.filter(is_by_bot=by_bots)
    return rows.filter(merged_at__gte=since) if since else rows


def export(rows: PullRequestQuerySet) -> Iterator[dict[str, Any]]:
    """Yield a record for each pull request, in the order of COLUMNS; holds 2,000 at a time.

    Times are in UTC, hours are floats with two decimals, unknown is None, provenance and the
    names of truncated and disagreeing sections are JSON values.
    """
    names = (*FACTS, *METRICS, "provenance")
    for values in rows.values_list(*names).iterator(chunk_size=2_000):
        numbers = (float(value) if isinstance(value, Decimal) else value for value in values)
        yield dict(zip(COLUMNS, numbers, strict=True))
