"""What the dashboard measures of pull requests, and of which of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import Aggregate, Count, F, FloatField, Q

from metrics_sync.dashboard.percentiles import Percentile

#: The metrics that always have a trend.
METRICS = (
    "review_wait_hours",
    "avg_fix_response_hours",
    "review_rounds",
    "cycle_time_hours",
)
#: Those that have one when they are asked for.
MORE_METRICS = (
    "first_response_hours",
    "first_approval_hours",
    "approval_to_merge_hours",
    "last_commit_to_merge_hours",
    "coding_hours",
    "draft_hours",
    "ci_duration_hours",
    "changed_lines",
    "reviewer_count",
    "changes_requested_count",
    "commits_after_first_review",
    "human_comments",
)
#: A pull request that nobody reviewed had none of these, which is another thing than 0 of them.
OF_REVIEWED = {
    "review_rounds",
    "reviewer_count",
    "changes_requested_count",
    "commits_after_first_review",
}

BY_BOT = Q(is_by_bot=True)
UNREVIEWED = Q(merged_without_review=True)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and 90th percentile of the known values, and how many they are; None without any."""

    median: Any = None
    p90: Any = None
    count: int = 0


def is_known(metric: str) -> Q:
    """Return the condition for pull requests whose value of a metric counts."""
    known = Q(**{f"{metric}__isnull": False})
    return known & ~UNREVIEWED if metric in OF_REVIEWED else known


def spread_metrics(metrics: Iterable[str], *, at: str = "") -> dict[str, Aggregate]:
    """Return the aggregates of some metrics over rows whose reviews are to be counted.

    `at` is the way from the rows to the pull request, e.g. `pull_request__`.
    """
    reviewed = ~Q(**{f"{at}merged_without_review": True})
    found: dict[str, Aggregate] = {}
    for metric in metrics:
        value, only = F(f"{at}{metric}"), reviewed if metric in OF_REVIEWED else None
        # The database sorts what is stored: to cast each value takes longer.
        found |= spread(metric, value, value, only, FloatField())
    return found


def spread(
    name: str,
    value: Any,
    counted: Any,
    only: Q | None = None,
    output_field: Any = None,
) -> dict[str, Aggregate]:
    """Return the aggregates of a value; `counted` is a cheap expression with the same NULLs."""
    return {
        f"{name}_median": Percentile(value, 0.5, filter=only, output_field=output_field),
        f"{name}_p90": Percentile(value, 0.9, filter=only, output_field=output_field),
        f"{name}_count": Count(counted, filter=only),
    }


def read_spread(name: str, values: Mapping[str, Any]) -> Spread:
    return Spread(values[f"{name}_median"], values[f"{name}_p90"], values[f"{name}_count"])


def read_spreads(metrics: Iterable[str], values: Mapping[str, Any]) -> dict[str, Spread]:
    return {metric: read_spread(metric, values) for metric in metrics}
