"""Reads pull requests and their repositories, as the API and webhooks write them."""

from metrics_sync.names import RepositoryName
from metrics_sync.snapshot.items import COUNTERS, Json, PullRequestItem, RepositoryItem, Section
from metrics_sync.snapshot.requests import read_review_requests
from metrics_sync.snapshot.values import (
    read_account,
    read_count,
    read_login,
    read_text,
    read_time,
    require_time,
)


def read_repository(value: Json) -> RepositoryItem:
    return RepositoryItem(
        github_repo_id=value["id"],
        full_name=RepositoryName(value["full_name"]),
        is_private=bool(value.get("private")),
    )


def _read_name(value: object) -> str:
    """Return the name of a repository; empty if it is not safe to use in an address."""
    try:
        return RepositoryName(value)
    except ValueError:
        return ""


def read_pull_request(value: Json, *, github_repo: str) -> PullRequestItem:
    """Read a pull request from the API or a webhook; the webhooks of reviews have no counters.

    Only `merged_at` says whether it is merged: open pull requests also have a `merge_commit_sha`.
    Raises KeyError, TypeError, ValueError or AttributeError for what is not a pull request.
    """
    merged_at = require_time(value["merged_at"]) if value.get("merged_at") else None
    head, base = value.get("head") or {}, value.get("base") or {}
    repo, merger = base.get("repo") or {}, read_account(value.get("merged_by"))
    return PullRequestItem(
        github_repo=github_repo,
        github_pr_id=value["id"],
        github_pr_number=value["number"],
        title=read_text(value.get("title")),
        author=read_account(value.get("user")),
        author_login=read_login(value.get("user")),
        state="merged" if merged_at else read_text(value["state"]),
        is_draft=bool(value.get("draft")),
        base_ref=read_text(base.get("ref")),
        head_ref=read_text(head.get("ref")),
        head_sha=read_text(head.get("sha")),
        base_sha=read_text(base.get("sha")),
        pr_created_at=read_time(value.get("created_at")),
        pr_updated_at=read_time(value.get("updated_at")),
        closed_at=read_time(value.get("closed_at")),
        merged_at=merged_at,
        merged_by_github_id=merger.github_id if merger else None,
        merged_by_login=_read_merger(value),
        additions=read_count(value.get("additions")),
        deletions=read_count(value.get("deletions")),
        changed_files=read_count(value.get("changed_files")),
        stated=_read_counters(value),
        base_repo=_read_name(repo.get("full_name")),
        base_repo_id=repo.get("id"),
        review_requests=read_review_requests(value),
    )


def _read_merger(value: Json) -> str | None:
    """Return the login of who merged; None where the answer does not say, as in lists."""
    is_named = value.get("merged_at") and "merged_by" in value
    return read_login(value["merged_by"]) if is_named else None


def _read_counters(value: Json) -> dict[Section, int]:
    """Return how many items the pull request states for each section that has a counter."""
    counts = {section: value.get(counter) for section, counter in COUNTERS.items()}
    return {section: count for section, count in counts.items() if isinstance(count, int)}
