"""Reads a pull request of GitHub's GraphQL API as the snapshot that REST would have brought.

Objects become REST's JSON first, so that the same readers make the same rows of both. What
GraphQL does not tell, or tells in a way that may not be REST's, is left to REST; and an answer
whose counts do not agree is not believed at all.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from metrics_sync.exceptions import DisagreementError, RetrySoonError
from metrics_sync.github.graphql import Refused
from metrics_sync.github.queries import LISTS, LONGEST, LONGEST_COMMITS, PAGE
from metrics_sync.snapshot import (
    BOT_ADDRESS,
    COUNTERS,
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

#: Of so many changed files GitHub lists no more.
MOST_FILES = 3000

#: The list that each item of a list has.
INNER = {Section.REVIEW_COMMENTS: "comments", Section.CHECK_RUNS: "checkRuns"}

#: GraphQL's words for changes of a file, where they are not REST's. Of renamed and copied files
#: it does not tell the earlier name.
CHANGES = {"ADDED": "added", "DELETED": "removed", "MODIFIED": "modified", "CHANGED": "changed"}

EVENTS = {
    "ReadyForReviewEvent": "ready_for_review",
    "ConvertToDraftEvent": "convert_to_draft",
    "HeadRefForcePushedEvent": "head_ref_force_pushed",
    "ReviewDismissedEvent": "review_dismissed",
    "ReviewRequestedEvent": "review_requested",
}

#: An id of the older form, as in `011:PullRequest12345`: the length of the kind goes before it.
OLDER_ID = re.compile(rb"0(?P<length>\d{1,2}):(?P<kind>[A-Za-z]+)(?P<id>\d+)")


class OnlyInRestError(RetrySoonError):
    """GraphQL does not tell this, or not for certain; REST does."""


def read_listed(node: Json, *, github_repo: str) -> PullRequestItem:
    """Read a pull request without its lists; an author that is not sure is left out.

    Raises what `read_pull_request` raises.
    """
    try:
        author = _translate_account(node["author"])
    except OnlyInRestError:
        author = None
    return read_pull_request(_translate_pull_request(node, author), github_repo=github_repo)


def check_counts(node: Json, *, is_alone: bool = False) -> None:
    """Raise DisagreementError when a list is not as long as it, or the pull request, says.

    GitHub leaves out lists of queries that are too heavy.
    A list that GitHub did not give is no disagreement, nor is one that goes on behind its page.
    Nor is a timeline when the query asked for nothing else: then it was not too heavy, and GitHub
    counts events that it does not show.
    """
    for section in LISTS:
        if not (is_alone and section is Section.TIMELINE):
            _check(section, node)


def read_snapshot(node: Json, *, github_repo: str) -> Snapshot:
    """Read a pull request with its lists; those that are left to REST have an OnlyInRestError.

    Raises OnlyInRestError when that is the pull request itself.
    """
    for name, value in node.items():
        if isinstance(value, Refused) and name not in LISTS:
            raise OnlyInRestError(str(value.error))
    try:
        _translate_account(node["author"])
        pull_request = read_listed(node, github_repo=github_repo)
    except UNREADABLE as error:
        raise OnlyInRestError(f"not as GraphQL writes it ({error!r})") from error
    sections = {section: _read_section(section, node) for section in Section}
    stated = {section: total for section in Section if (total := _state(section, node)) is not None}
    pull_request = replace(pull_request, stated=stated)
    return Snapshot(pull_request, sections, etags={})


def _read_section(section: Section, node: Json) -> SectionResult:
    try:
        items = find_items(section, node)
        values = TRANSLATORS[section](node, items)
        read = read_items(section, values)
    except OnlyInRestError as error:
        return SectionResult(error=error, stated=_count_reviews(section, node))
    except UNREADABLE as error:
        return SectionResult(error=OnlyInRestError(f"not as GraphQL writes it ({error!r})"))
    if len(read) != len(values):
        return SectionResult(error=OnlyInRestError("GraphQL lists an item twice"))
    stated = None if section in UNCOUNTED else len(values)
    reason = describe_unknown_times(section, values)
    return SectionResult(read, stated, VERIFIED, reason=reason, witness=TOTAL)


def _count_reviews(section: Section, node: Json) -> int | None:
    """Return the total by which a list of REST's is proven that nothing of REST's vouches for."""
    if section is not Section.REVIEWS:
        return None
    try:
        return int(find_connection(section, node)["totalCount"])
    except (OnlyInRestError, *UNREADABLE):
        return None


def find_connection(section: Section, node: Json) -> Any:
    """Return the connection of a section, with its total and its page of items.

    Raises OnlyInRestError for one that GitHub did not give.
    """
    value = node.get(section)
    if isinstance(value, Refused):
        raise OnlyInRestError(str(value.error))
    if section is Section.CHECK_RUNS and value is not None:
        value = value["nodes"][0]["commit"]["checkSuites"]
    if value is None:
        raise OnlyInRestError("GraphQL does not give the list")
    return value


def find_next_page(section: Section, node: Json) -> tuple[str, int] | None:
    """Return the cursor of a list's next page and how many items are left; None if it needs none.

    None, too, if the list is too long, or is REST's in any case.
    """
    connection = find_connection(section, node)
    info, nodes, total = connection["pageInfo"], connection["nodes"], connection["totalCount"]
    longest = LONGEST_COMMITS if section is Section.COMMITS else LONGEST
    if not info["hasNextPage"] or not len(nodes) < total <= longest:
        return None
    if section is Section.FILES and any(item["changeType"] not in CHANGES for item in nodes):
        return None
    return str(info["endCursor"]), total - len(nodes)


def find_items(section: Section, node: Json) -> list[Any]:
    """Return the items of a list that is all here, those of threads and suites in one.

    Raises OnlyInRestError for any other list.
    """
    if section is Section.COMMIT_STATUSES:
        return list((_find_head(section, node)["status"] or {"contexts": []})["contexts"])
    items = _take_all(find_connection(section, node))
    if section is Section.REVIEW_COMMENTS:
        return [item for thread in items for item in _take_all(thread[INNER[section]])]
    if section is Section.CHECK_RUNS:
        _find_head(section, node)
        return [
            {**run, "app": suite["app"]}
            for suite in items
            for run in _take_all(suite[INNER[section]])
        ]
    return items


def _take_all(connection: Json | None) -> list[Any]:
    if connection is None:
        raise OnlyInRestError("GraphQL does not give the list")
    nodes = connection["nodes"]
    if len(nodes) != connection["totalCount"]:
        raise OnlyInRestError(f"GraphQL brings {len(nodes)} of {connection['totalCount']}")
    if None in nodes:
        raise OnlyInRestError("GraphQL does not give an item")
    return list(nodes)


def _find_head(section: Section, node: Json) -> Json:
    value = node.get(section)
    if isinstance(value, Refused):
        raise OnlyInRestError(str(value.error))
    if value is None:
        raise OnlyInRestError("GraphQL does not give the list")
    head: Json = value["nodes"][0]["commit"]
    if head["oid"] != node["headRefOid"]:
        raise OnlyInRestError("the last commit is not the head")
    return head


def _state(section: Section, node: Json) -> int | None:
    """Return the counter that REST states of a section, as far as GraphQL tells it."""
    if section is Section.FILES:
        return int(node["changedFiles"])
    if section not in COUNTERS:
        return None
    try:
        connection = find_connection(section, node)
        if section is not Section.REVIEW_COMMENTS:
            return int(connection["totalCount"])
        return sum(int(thread["comments"]["totalCount"]) for thread in _take_all(connection))
    except (OnlyInRestError, *UNREADABLE):
        return None


def _check(section: Section, node: Json) -> None:
    if section in (Section.CHECK_RUNS, Section.COMMIT_STATUSES):
        _check_head(node.get(section))
    if section is Section.COMMIT_STATUSES:
        return
    try:
        connection = find_connection(section, node)
    except OnlyInRestError:
        return
    if not (connection["pageInfo"]["hasNextPage"] and connection["nodes"]):
        _check_length(connection)
    _check_total(section, connection["totalCount"], node)
    for item in connection["nodes"] if section in INNER else ():
        _check_length(item[INNER[section]], limit=PAGE)
        if section is Section.REVIEW_COMMENTS and not item["comments"]["totalCount"]:
            raise DisagreementError("GraphQL lists a thread without comments")


def _check_head(given: Any) -> None:
    if isinstance(given, dict) and not given["nodes"]:
        raise DisagreementError("GraphQL lists no commits")


def _check_total(section: Section, total: int, node: Json) -> None:
    """A merged pull request has commits; of its files it states the number itself.

    https://docs.github.com/en/rest/pulls/pulls#list-pull-requests-files (3,000 are listed)
    """
    if section is Section.COMMITS and total == 0:
        raise DisagreementError("GraphQL lists no commits")
    if section is Section.FILES and total != node["changedFiles"] <= MOST_FILES:
        raise DisagreementError("GraphQL states two numbers of changed files")


def _check_length(connection: Json | None, *, limit: int | None = None) -> None:
    """Compare a list with its total; one that was not given is left to REST later."""
    if connection is None or (limit is not None and connection["totalCount"] > limit):
        return
    if len(connection["nodes"] or ()) != connection["totalCount"]:
        raise DisagreementError(
            f"GraphQL states {connection['totalCount']} and lists {len(connection['nodes'] or ())}"
        )


class NodeIds:
    """Reads REST's id out of the id of a node, for what GraphQL tells no other id of.

    An id is a kind and, packed as MessagePack, a list: 0, the repository's id, and the ids down to
    the thing's own. Older ones are a kind and the thing's own id. GitHub promises neither, so an
    id is believed only while that of the pull request itself, of the same form and repository,
    reads as the `fullDatabaseId` that stands beside it.
    """

    def __init__(self, pull_request: Json) -> None:
        scope, own_id = unpack_node_id(pull_request["id"])
        is_right = own_id == int(pull_request["fullDatabaseId"])
        self._scope = scope if is_right else None

    def read(self, node_id: str) -> int:
        """Return the id that REST has. Raises OnlyInRestError when it is not sure."""
        scope, own_id = unpack_node_id(node_id)
        if own_id is None or scope != self._scope:
            raise OnlyInRestError("GraphQL does not tell the id")
        return own_id


def unpack_node_id(node_id: str) -> tuple[tuple[int, ...] | None, int | None]:
    """Return whose a thing is (no numbers in an id of the older form), and its own id.

    Both are None when the id is written in some other way.
    https://github.com/msgpack/msgpack/blob/master/spec.md
    """
    _, is_newer, rest = node_id.partition("_")
    packed = rest if is_newer else node_id
    try:
        data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    except (ValueError, binascii.Error):
        return None, None
    older = OLDER_ID.fullmatch(data)
    if older and len(older["kind"]) == int(older["length"]):
        return (), int(older["id"])
    numbers = _unpack_numbers(data)
    return (tuple(numbers[:2]), numbers[-1]) if len(numbers) > 2 else (None, None)


def _unpack_numbers(data: bytes) -> list[int]:
    numbers, at = [], 1
    while at < len(data):
        size = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(data[at], 0)
        if not size and data[at] >= 0x80:
            return []
        number = data[at + 1 : at + 1 + size] if size else data[at : at + 1]
        numbers.append(int.from_bytes(number, "big"))
        at += 1 + size
    return numbers if data[:1] == bytes([0x90 + len(numbers)]) and at == len(data) else []


def _translate_account(actor: Json | Refused | None) -> Json | None:
    """Translate an account; a bot's login lacks the `[bot]` that REST writes.

    None is a deleted one. Copilot appears in REST under more than one login: that is left to it.
    """
    if actor is None:
        return None
    if isinstance(actor, Refused) or actor.get("databaseId") is None:
        raise OnlyInRestError("GraphQL does not name an account")
    kind, login = actor["__typename"], actor["login"]
    if kind == "Bot":
        _refuse_copilot(login)
        login = f"{login.removesuffix('[bot]')}[bot]"
    return {"id": actor["databaseId"], "login": login, "type": kind}


def _refuse_copilot(login: str) -> None:
    if login.lower().startswith("copilot"):
        raise OnlyInRestError("Copilot has several logins")


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


def _translate_merger(actor: Json | Refused | None) -> Json:
    """Translate who merged; one that is not sure is left out, as lists of REST do."""
    try:
        return {"merged_by": _translate_account(actor)}
    except OnlyInRestError:
        return {}


def _translate_commit(commit: Json) -> Json:
    author = commit["author"] or {}
    return {
        "sha": commit["oid"],
        "commit": {
            "message": commit["message"],
            "author": {name: author.get(name) for name in ("date", "email", "name")},
            "committer": {"date": (commit["committer"] or {}).get("date")},
        },
        "author": _translate_committer(author.get("user"), author.get("email") or ""),
        "parents": [{"sha": parent["oid"]} for parent in _take_all(commit["parents"])],
    }


def _translate_committer(user: Json | None, email: str) -> Json | None:
    """Translate the account of a commit, which is null in REST, too, when nobody has the address.

    GraphQL has users there only. A bot, which is none, is told by GitHub's own address for it,
    which the reader of commits knows.
    """
    if user is not None:
        return _translate_account(user)
    if BOT_ADDRESS.match(email):
        return None
    if "[bot]@" in email or "copilot" in email.lower():
        raise OnlyInRestError("GraphQL does not name a commit's account")
    return None


def _translate_file(item: Json) -> Json:
    if item["changeType"] not in CHANGES:
        raise OnlyInRestError("GraphQL does not tell the earlier name of a file")
    return {
        "filename": item["path"],
        "status": CHANGES[item["changeType"]],
        "additions": item["additions"],
        "deletions": item["deletions"],
        "changes": item["additions"] + item["deletions"],
    }


def _translate_comment(item: Json) -> dict[str, Any]:
    return {
        "id": int(item["fullDatabaseId"]),
        "user": _translate_account(item["author"]),
        "body": item["body"],
        "created_at": item["createdAt"],
        "updated_at": item["updatedAt"],
    }


def _translate_review_comment(item: Json) -> dict[str, Any]:
    if item["state"] != "SUBMITTED":
        raise OnlyInRestError("a comment is not submitted")
    parent = item["replyTo"]
    return {
        **_translate_comment(item),
        "path": item["path"],
        "line": item["line"],
        "subject_type": item["subjectType"].lower(),
        "in_reply_to_id": int(parent["fullDatabaseId"]) if parent else None,
    }


def _translate_review(item: Json) -> Json:
    if item["commit"] is None:
        raise OnlyInRestError("GraphQL does not tell the commit of a review")
    return {
        "id": int(item["fullDatabaseId"]),
        "user": _translate_account(item["author"]),
        "state": item["state"],
        "body": item["body"],
        "commit_id": item["commit"]["oid"],
        "submitted_at": item["submittedAt"],
    }


def _translate_commits(node: Json, items: list[Any]) -> list[Json]:
    return [_translate_commit(item["commit"]) for item in items]


def _translate_files(node: Json, items: list[Any]) -> list[Json]:
    """Translate the files, unless their lines do not add up: REST has ways to count them."""
    files = [_translate_file(item) for item in items]
    if any(sum(file[key] for file in files) != node[key] for key in ("additions", "deletions")):
        raise OnlyInRestError("the lines of the files do not add up")
    return files


def _translate_check_runs(node: Json, items: list[Any]) -> list[Json]:
    ids = NodeIds(node)
    return [_translate_check_run(item, ids) for item in items]


def _translate_check_run(run: Json, ids: NodeIds) -> Json:
    if run["app"] is None:
        raise OnlyInRestError("GraphQL does not name an app")
    return {
        "id": run["databaseId"] or ids.read(run["id"]),
        "name": run["name"],
        "app": {"slug": run["app"]["slug"]},
        "status": run["status"],
        "conclusion": run["conclusion"],
        "started_at": run["startedAt"],
        "completed_at": run["completedAt"],
    }


def _translate_issue_comments(node: Json, items: list[Any]) -> list[Json]:
    return list(map(_translate_comment, items))


def _translate_review_comments(node: Json, items: list[Any]) -> list[Json]:
    return sorted(map(_translate_review_comment, items), key=lambda item: item["id"])


def _translate_reviews(node: Json, items: list[Any]) -> list[Json]:
    return list(map(_translate_review, items))


def _translate_timeline(node: Json, items: list[Any]) -> list[Json]:
    ids = NodeIds(node)
    return [_translate_event(item, ids) for item in items]


def _translate_event(item: Json, ids: NodeIds) -> Json:
    event: dict[str, Any] = {
        "id": ids.read(item["id"]),
        "event": EVENTS[item["__typename"]],
        "actor": _translate_account(item["actor"]),
        "created_at": item["createdAt"],
    }
    if event["event"] == "review_requested":
        asked = item["requestedReviewer"]
        if asked is None:
            raise OnlyInRestError("GraphQL does not tell who was asked")
        if "slug" in asked:
            event["requested_team"] = asked
        else:
            event["requested_reviewer"] = _translate_account(asked)
    elif event["event"] == "review_dismissed":
        event["dismissed_review"] = {
            "review_id": int(item["review"]["fullDatabaseId"]),
            "state": item["previousReviewState"],
        }
    return event


def _translate_statuses(node: Json, items: list[Any]) -> list[Json]:
    """Translate statuses, which never change: each was updated when it was created."""
    ids = NodeIds(node)
    return [
        {
            "id": ids.read(item["id"]),
            "context": item["context"],
            "state": item["state"],
            "created_at": item["createdAt"],
            "updated_at": item["createdAt"],
        }
        for item in items
    ]


TRANSLATORS: dict[Section, Callable[[Json, list[Any]], list[Json]]] = {
    Section.COMMITS: _translate_commits,
    Section.FILES: _translate_files,
    Section.CHECK_RUNS: _translate_check_runs,
    Section.ISSUE_COMMENTS: _translate_issue_comments,
    Section.REVIEW_COMMENTS: _translate_review_comments,
    Section.REVIEWS: _translate_reviews,
    Section.TIMELINE: _translate_timeline,
    Section.COMMIT_STATUSES: _translate_statuses,
}
