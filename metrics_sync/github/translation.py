"""Reads a pull request of GitHub's GraphQL API as the snapshot that REST would have brought.

Objects become REST's JSON first, so that the same readers make the same rows of both.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from metrics_sync.github.actors import is_copilot, is_unnamed, translate_account
from metrics_sync.github.connections import find_items, find_stated, find_total
from metrics_sync.github.graphql import Refused
from metrics_sync.github.node_ids import NodeIds
from metrics_sync.github.only_in_rest import CHANGES, OnlyInRestError, find_reason
from metrics_sync.github.queries import LISTS
from metrics_sync.snapshot import (
    TOTAL,
    UNREADABLE,
    VERIFIED,
    Json,
    PullRequestItem,
    Section,
    SectionResult,
    Snapshot,
    describe_unknown_times,
    read_items,
    read_pull_request,
)

#: Sections whose length REST states nowhere: their receipt has no number.
UNCOUNTED = {Section.REVIEWS, Section.TIMELINE}

EVENTS = {
    "ReadyForReviewEvent": "ready_for_review",
    "ConvertToDraftEvent": "convert_to_draft",
    "HeadRefForcePushedEvent": "head_ref_force_pushed",
    "ReviewDismissedEvent": "review_dismissed",
    "ReviewRequestedEvent": "review_requested",
}


def read_listed(node: Json, *, github_repo: str) -> PullRequestItem:
    """Read a pull request without its lists, and without an author that is not certain.

    Raises what `read_pull_request` raises.
    """
    author = None if _is_uncertain(node["author"]) else translate_account(node["author"])
    return read_pull_request(_translate_pull_request(node, author), github_repo=github_repo)


def read_snapshot(node: Json, *, github_repo: str) -> Snapshot:
    """Read a pull request with its lists; those that are left to REST have an OnlyInRestError.

    Raises OnlyInRestError when the pull request itself is left to REST.
    """
    for name, value in node.items():
        if isinstance(value, Refused) and name not in LISTS:
            raise OnlyInRestError(str(value.error))
    try:
        if _is_uncertain(node["author"]):
            raise OnlyInRestError("the author of the pull request is not certain")
        pull_request = read_listed(node, github_repo=github_repo)
    except UNREADABLE as error:
        raise OnlyInRestError(f"not as GraphQL writes it ({error!r})") from error
    sections = {section: _read_section(section, node) for section in Section}
    pull_request = replace(pull_request, stated=find_stated(node))
    return Snapshot(pull_request, sections, etags={})


def _is_uncertain(account: Json | None) -> bool:
    return is_unnamed(account) or is_copilot(account)


def _read_section(section: Section, node: Json) -> SectionResult:
    try:
        values = _translate_section(section, node)
        read = read_items(section, values)
    except OnlyInRestError as error:
        # REST has no counter of reviews, so this one is what REST's list is compared with.
        stated = find_total(section, node) if section is Section.REVIEWS else None
        return SectionResult(error=error, stated=stated)
    except UNREADABLE as error:
        return SectionResult(error=OnlyInRestError(f"not as GraphQL writes it ({error!r})"))
    if len(read) != len(values):
        return SectionResult(error=OnlyInRestError("GraphQL lists an item twice"))
    stated = None if section in UNCOUNTED else len(values)
    unknown = describe_unknown_times(section, values)
    return SectionResult(read, stated, VERIFIED, reason=unknown, witness=TOTAL)


def _translate_section(section: Section, node: Json) -> list[Json]:
    items = find_items(section, node)
    if reason := find_reason(section, node, items):
        raise OnlyInRestError(reason)
    return TRANSLATORS[section](node, items)


def _translate_pull_request(node: Json, author: Json | None) -> Json:
    return {
        "id": int(node["fullDatabaseId"]),
        "number": node["number"],
        "title": node["title"],
        "user": author,
        "state": "open" if node["state"] == "OPEN" else "closed",
        "draft": node["isDraft"],
        "base": {"ref": node["baseRefName"], "sha": node["baseRefOid"]},
        "head": {"ref": node["headRefName"], "sha": node["headRefOid"]},
        "created_at": node["createdAt"],
        "updated_at": node["updatedAt"],
        "closed_at": node["closedAt"],
        "merged_at": node["mergedAt"],
        **_translate_merger(node["mergedBy"]),
        "additions": node["additions"],
        "deletions": node["deletions"],
        "changed_files": node["changedFiles"],
    }


def _translate_merger(account: Json | None) -> Json:
    """Translate who merged; an account that is not certain is left out, as by lists of REST."""
    return {} if _is_uncertain(account) else {"merged_by": translate_account(account)}


def _translate_commit(node: Json, commit: Json) -> Json:
    author = commit["author"] or {}
    return {
        "sha": commit["oid"],
        "commit": {
            "message": commit["message"],
            "author": {name: author.get(name) for name in ("date", "email", "name")},
            "committer": {"date": (commit["committer"] or {}).get("date")},
        },
        "author": translate_account(author.get("user")),
        "parents": [{"sha": parent["oid"]} for parent in commit["parents"]["nodes"]],
    }


def _translate_file(node: Json, item: Json) -> Json:
    return {
        "filename": item["path"],
        "status": CHANGES[item["changeType"]],
        "additions": item["additions"],
        "deletions": item["deletions"],
        "changes": item["additions"] + item["deletions"],
    }


def _translate_check_run(node: Json, run: Json) -> Json:
    return {
        "id": run["databaseId"] or NodeIds(node).read(run["id"]),
        "name": run["name"],
        "app": {"slug": run["app"]["slug"]},
        "status": run["status"],
        "conclusion": run["conclusion"],
        "started_at": run["startedAt"],
        "completed_at": run["completedAt"],
    }


def _translate_comment(node: Json, item: Json) -> dict[str, Any]:
    return {
        "id": int(item["fullDatabaseId"]),
        "user": translate_account(item["author"]),
        "body": item["body"],
        "created_at": item["createdAt"],
        "updated_at": item["updatedAt"],
    }


def _translate_review_comment(node: Json, item: Json) -> dict[str, Any]:
    parent = item["replyTo"]
    return {
        **_translate_comment(node, item),
        "path": item["path"],
        "line": item["line"],
        "subject_type": item["subjectType"].lower(),
        "in_reply_to_id": int(parent["fullDatabaseId"]) if parent else None,
    }


def _translate_review(node: Json, item: Json) -> Json:
    return {
        "id": int(item["fullDatabaseId"]),
        "user": translate_account(item["author"]),
        "state": item["state"],
        "body": item["body"],
        "commit_id": item["commit"]["oid"],
        "submitted_at": item["submittedAt"],
    }


def _translate_event(node: Json, item: Json) -> Json:
    event: dict[str, Any] = {
        "id": NodeIds(node).read(item["id"]),
        "event": EVENTS[item["__typename"]],
        "actor": translate_account(item["actor"]),
        "created_at": item["createdAt"],
    }
    if event["event"] == "review_requested":
        asked = item["requestedReviewer"]
        if "slug" in asked:
            event["requested_team"] = asked
        else:
            event["requested_reviewer"] = translate_account(asked)
    elif event["event"] == "review_dismissed":
        event["dismissed_review"] = {
            "review_id": int(item["review"]["fullDatabaseId"]),
            "state": item["previousReviewState"],
        }
    return event


def _translate_status(node: Json, item: Json) -> Json:
    """Translate a status, which never changes: it was updated when it was created."""
    return {
        "id": NodeIds(node).read(item["id"]),
        "context": item["context"],
        "state": item["state"],
        "created_at": item["createdAt"],
        "updated_at": item["createdAt"],
    }


Translator = Callable[[Json, Json], Json]


def _each(translate: Translator) -> Callable[[Json, Sequence[Any]], list[Json]]:
    """Make a translator of a list of one that translates an item of a pull request."""
    return lambda node, items: [translate(node, item) for item in items]


def _translate_review_comments(node: Json, items: Sequence[Any]) -> list[Json]:
    """Translate comments, which GraphQL has by threads and REST in the order of their ids."""
    values = [_translate_review_comment(node, item) for item in items]
    return sorted(values, key=lambda value: value["id"])


TRANSLATORS: dict[Section, Callable[[Json, Sequence[Any]], list[Json]]] = {
    Section.COMMITS: _each(_translate_commit),
    Section.FILES: _each(_translate_file),
    Section.CHECK_RUNS: _each(_translate_check_run),
    Section.ISSUE_COMMENTS: _each(_translate_comment),
    Section.REVIEW_COMMENTS: _translate_review_comments,
    Section.REVIEWS: _each(_translate_review),
    Section.TIMELINE: _each(_translate_event),
    Section.COMMIT_STATUSES: _each(_translate_status),
}
