"""The fields of a pull request's page, under names that readers know, each in one style."""

from collections.abc import Callable, Container, Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.contrib import admin
from django.db.models import DateTimeField, Model

from metrics_sync.admin.labels import (
    UNKNOWN,
    find_time_to_complete,
    show_duration,
    show_hours,
    show_on_one_line,
    to_duration,
)
from metrics_sync.dashboard.totals import TOOK
from metrics_sync.models import PullRequest

#: What the page calls the fields whose own names are those of columns.
TITLES = {
    "sync_error": "reason",
    "sync_attempts": "attempts",
    "completed_at": "first complete at",
    "retry_at": "next attempt at",
    "refetch_at": "next fetch at",
    "avg_fix_response_hours": "requested changes answered in (mean)",
    "commits_after_first_review": "commits after the first review",
    "total_comments": "comments",
    "changes_requested_count": "reviews that requested changes",
    "reviewer_count": "reviewers",
    "first_approval_hours": "first approval after",
    "approval_to_merge_hours": "from approval to merge",
    "merged_by_login": "merged by",
    "merged_by_author": "merged by its author",
    "ready_at": "ready for review at",
    "review_wait_hours": "first review after being ready",
    "first_response_at": "first response at",
    "first_response_hours": "first response after",
    "early_feedback_at": "first feedback while a draft at",
    "draft_hours": "time as a draft",
    "first_review_at": "first review at",
    "review_time_hours": "first review after the opening",
    "cycle_time_hours": "cycle time",
    "metrics_version": "version of the metrics",
    "coding_hours": "from the first commit to the opening",
    "last_commit_to_merge_hours": "from the last commit to the merge",
    "human_comments": "comments by people",
    "ci_at_merge": "CI at the merge",
    "ci_duration_hours": "duration of CI",
    "base_ref": "into branch",
    "head_ref": "from branch",
    "additions": "lines added",
    "deletions": "lines deleted",
    "pr_created_at": "opened at",
}


def make_column(name: str, title: str, show: Callable[[Any], Any] | None = None) -> Any:
    """Return a sortable column, or a field of a page, for a field of the model."""

    @admin.display(description=title, ordering=name)
    def column(row: PullRequest) -> Any:
        value = getattr(row, name)
        return show(value) if show else value

    column.__name__ = name
    return column


def make_duration(
    name: str, title: str, read: Callable[[Any], timedelta | None], ordering: Any = None
) -> Any:
    """Return a sortable column of durations, which lists show in one unit."""

    @admin.display(description=title, ordering=ordering or name)
    def column(row: PullRequest) -> str:
        return show_duration(read(row))

    column.__name__ = name
    column.read_duration = read  # type: ignore[attr-defined]
    return column


def make_hours(name: str, title: str) -> Any:
    """Return a column of durations for a field that has hours."""
    return make_duration(name, title, lambda row: to_duration(getattr(row, name)))


#: How long after the merge a pull request was complete.
SECONDS = make_duration("seconds", "complete after", find_time_to_complete, TOOK)


@cache
def _make_time(field: Any) -> Any:
    return make_column(field.name, str(field.verbose_name), show_on_one_line)


def show_times(
    model: type[Model], columns: Iterable[Any], *, edited: Container[str] = ()
) -> list[Any]:
    """Give the columns, or fields of a page, that are times the one style that all times have.

    Those that are `edited` stay fields of the form.
    """
    fields = model._meta.concrete_fields  # noqa: SLF001  (public)
    times = {
        field.name: field
        for field in fields
        if isinstance(field, DateTimeField) and field.name not in edited
    }
    return [
        tuple(show_times(model, column, edited=edited))
        if isinstance(column, tuple)
        else _make_time(times[column])
        if column in times
        else column
        for column in columns
    ]


def name_fields(*names: str) -> tuple[Any, ...]:
    """Return one line of a page; names that are no fields of the model stay as they are."""
    fields = {field.name for field in PullRequest._meta.concrete_fields}  # noqa: SLF001  (public)
    return tuple(_make_field(name) if name in fields else name for name in names)


def _make_field(name: str) -> Any:
    show = show_hours if name.endswith("_hours") else show_value
    return make_column(name, TITLES.get(name, name.replace("_", " ")), show)


def show_value(value: Any) -> str:
    """Return a value of the model as readers know it: yes and no, one style of dates, no None."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return show_on_one_line(value)
    return UNKNOWN if value in (None, "") else str(value)
