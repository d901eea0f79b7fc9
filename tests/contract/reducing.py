"""Reduces GitHub's descriptions to what the service uses of them."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.contract.asking import Reads
from tests.contract.describing import (
    Schema,
    describe_field,
    find_answer,
    find_template,
    reduce_parameters,
)

USED = Path(__file__).with_name("used.json")

#: What pull requests in lists and in reviews' webhooks have not: counters, and who merged.
ONLY_IN_FULL = {
    "additions",
    "deletions",
    "changed_files",
    "comments",
    "commits",
    "merged_by",
    "review_comments",
}
#: Fields that one reader looks for in several places, of which GitHub describes it for some.
OF_ANOTHER_PLACE = {
    # Comments on lines have these, comments in the conversation have not.
    "GET /repos/{owner}/{repo}/issues/{issue_number}/comments": {
        *("path", "line", "in_reply_to_id", "subject_type"),
    },
    "GET /repos/{owner}/{repo}/pulls": ONLY_IN_FULL,
    "pull_request_review.submitted": {f"pull_request.{name}" for name in ONLY_IN_FULL},
    "pull_request_review.dismissed": {f"pull_request.{name}" for name in ONLY_IN_FULL},
}


def leave_out_others(name: str, fields: set[str]) -> set[str]:
    """Leave out what is read of this operation or event only because a reader is shared."""
    others = OF_ANOTHER_PLACE.get(name, set())
    return {field for field in fields if field.removeprefix("*.") not in others}


def load_used() -> dict[str, Any]:
    used: dict[str, Any] = json.loads(USED.read_text())
    return used


def name_operations(paths: Schema, reads: Reads) -> dict[str, set[str]]:
    """Put what was read of each address under the operation that it is of.

    Raises KeyError for an address that GitHub does not describe.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for (method, path), fields in reads.items():
        template = find_template(paths, path)
        if template is None:
            raise KeyError(f"GitHub describes no {method} {path}")
        name = f"{method} {template}"
        found[name] |= leave_out_others(name, fields)
    return dict(found)


def reduce_rest(description: Schema, read: dict[str, set[str]]) -> dict[str, Any]:
    """Describe the operations: all of their parameters, and the fields that are read."""
    reduced = {}
    for name, fields in sorted(read.items()):
        method, _, template = name.partition(" ")
        operation = description["paths"].get(template, {}).get(method.lower())
        if operation is None:
            reduced[name] = None
            continue
        answer = find_answer(description, operation)
        reduced[name] = {
            "parameters": reduce_parameters(description, operation),
            "fields": _describe_all(description, answer, fields),
        }
    return reduced


def reduce_webhooks(description: Schema, read: dict[str, set[str]]) -> dict[str, Any]:
    """Describe the events (`pull_request.closed`): the fields that are read of their payloads."""
    reduced = {}
    for name, fields in sorted(read.items()):
        key = name.replace("_", "-").replace(".", "-")
        event = description["webhooks"].get(key)
        if event is None:
            reduced[name] = None
            continue
        content = event["post"]["requestBody"]["content"]["application/json"]
        reduced[name] = {"fields": _describe_all(description, content["schema"], fields)}
    return reduced


def _describe_all(description: Schema, schema: Schema | None, fields: set[str]) -> dict[str, Any]:
    return {
        field: describe_field(description, schema, field) if schema is not None else None
        for field in sorted(fields)
    }


def list_changes(old: Any, new: Any, path: str = "") -> list[str]:
    """Say in words what differs between two reduced descriptions; no line where nothing does."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted({*old, *new})
        return [
            line
            for key in keys
            for line in list_changes(old.get(key), new.get(key), f"{path} {key}".strip())
        ]
    if new is None:
        return [f"gone: {path} (was {json.dumps(old)})"]
    if old is None:
        return [f"new: {path} {json.dumps(new)}"]
    return [f"changed: {path}: {json.dumps(old)} -> {json.dumps(new)}"]
