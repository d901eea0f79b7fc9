"""Decides which lists are left to REST: one table of reasons for each list."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from metrics_sync.exceptions import RetrySoonError
from metrics_sync.github.actors import has_unknown_author, is_copilot, is_unnamed
from metrics_sync.github.node_ids import NodeIds
from metrics_sync.snapshot import Json, Section

#: GraphQL's words for changes of a file, with REST's. A renamed or copied file is none of them.
CHANGES = {"ADDED": "added", "DELETED": "removed", "MODIFIED": "modified", "CHANGED": "changed"}

#: Says of a pull request and the items of one of its lists whether REST is needed for the list.
Condition = Callable[[Json, Sequence[Any]], bool]


class OnlyInRestError(RetrySoonError):
    """GraphQL does not give this, or not for certain; REST does."""


def find_reason(section: Section, node: Json, items: Sequence[Any]) -> str:
    """Return why a list that GraphQL gave is left to REST; empty if it is not."""
    reasons = {**OF_EVERY_LIST, **REASONS[section]}
    return next((text for text, applies in reasons.items() if applies(node, items)), "")


def hides_earlier_name(file: Any) -> bool:
    """Whether a file was renamed or copied: GraphQL has no earlier name."""
    return file["changeType"] not in CHANGES


def _some(applies: Callable[[Any], bool]) -> Condition:
    """Make a condition of one that says it of an item."""
    return lambda node, items: any(applies(item) for item in items)


def _some_account(applies: Callable[[Any], bool]) -> Condition:
    return lambda node, items: any(
        applies(account) for item in items for account in _list_accounts(item)
    )


def _list_accounts(item: Any) -> Iterator[Any]:
    """Yield the accounts of an item; a git author has one as its `user`, and a team is none."""
    for role in ("author", "actor", "requestedReviewer"):
        account = item.get(role) or {}
        if "email" in account:
            yield account.get("user")
        elif account and "slug" not in account:
            yield account


def _has_further_parents(commit: Any) -> bool:
    parents = commit["parents"]
    return len(parents["nodes"]) != parents["totalCount"] or None in parents["nodes"]


def _is_of_another_commit(section: Section) -> Condition:
    return lambda node, items: node[section]["nodes"][0]["commit"]["oid"] != node["headRefOid"]


def _has_other_line_counts(node: Json, items: Sequence[Any]) -> bool:
    sums = [sum(file[name] for file in items) for name in ("additions", "deletions")]
    return sums != [node["additions"], node["deletions"]]


def _has_unreadable_id(node: Json, items: Sequence[Any]) -> bool:
    ids = NodeIds(node)
    return any(not item.get("databaseId") and ids.read(item["id"]) is None for item in items)


OF_EVERY_LIST: dict[str, Condition] = {
    "an item is missing": lambda node, items: None in items,
    "an account has no id": _some_account(is_unnamed),
    "Copilot has several logins": _some_account(is_copilot),
}

#: Why a list that is all here is left to REST. docs/backfill.md has the same reasons.
REASONS: dict[Section, dict[str, Condition]] = {
    Section.COMMITS: {
        "a bot's commit has no account": _some(has_unknown_author),
        "a commit has more parents than are given": _some(_has_further_parents),
    },
    Section.FILES: {
        "a file was renamed or copied": _some(hides_earlier_name),
        "the lines of the files do not add up": _has_other_line_counts,
    },
    Section.CHECK_RUNS: {
        "the last commit is not the head": _is_of_another_commit(Section.CHECK_RUNS),
        "a check run has no app": _some(lambda run: run["app"] is None),
        "an id cannot be read": _has_unreadable_id,
    },
    Section.ISSUE_COMMENTS: {},
    Section.REVIEW_COMMENTS: {
        "a comment is not submitted": _some(lambda comment: comment["state"] != "SUBMITTED"),
    },
    Section.REVIEWS: {
        "a review has no commit": _some(lambda review: review["commit"] is None),
    },
    Section.TIMELINE: {
        "a requested reviewer is missing": _some(
            lambda event: event.get("requestedReviewer", event) is None
        ),
        "an id cannot be read": _has_unreadable_id,
    },
    Section.COMMIT_STATUSES: {
        "the last commit is not the head": _is_of_another_commit(Section.COMMIT_STATUSES),
        "an id cannot be read": _has_unreadable_id,
    },
}
