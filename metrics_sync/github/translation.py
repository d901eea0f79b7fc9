"""Reads a pull request of GitHub's GraphQL API as the snapshot that REST would have brought.

Objects become REST's JSON first, so that the same readers make the same rows of both. What
GraphQL does not tell, or tells in a way that may not be REST's, is left to REST; and an answer
whose counts do not agree is not believed at all.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from metrics_sync.exceptions import RetrySoonError
from metrics_sync.github.queries import PAGE, SUITES, THREADS
from metrics_sync.snapshot import (
    VERIFIED,
    Json,
    PullRequestItem,
    Section,
    SectionResult,
    Snapshot,
    read_items,
    read_pull_request,
)

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, OverflowError)

#: Sections whose length REST states nowhere: their receipt has no number.
UNCOUNTED = {Section.REVIEWS, Section.TIMELINE}

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


class OnlyInRestError(RetrySoonError):
    """GraphQL does not tell this, or not for certain; REST does."""


class DisagreementError(RetrySoonError):
    """The answer's counts do not agree: GitHub leaves out lists of queries that are too heavy."""


def read_listed(node: Json, *, github_repo: str) -> PullRequestItem:
    """Read a pull request without its lists; an author that is not sure is left out.

    Raises what `read_pull_request` raises.
    """
    try:
        author = _translate_account(node["author"])
    except OnlyInRestError:
        author = None
    return read_pull_request(_translate_pull_request(node, author), github_repo=github_repo)


def read_snapshot(node: Json, *, github_repo: str, is_alone: bool = False) -> Snapshot:
    """Read a pull request with its lists; those that are left to REST have an OnlyInRestError.

    A timeline that is not as long as it says is among these when the query asked for nothing
    else: then it was not too heavy, and GitHub counts events that it does not show.
    Raises OnlyInRestError when that is the pull request itself, and DisagreementError when what
    came is not all of it.
    """
    try:
        _translate_account(node["author"])
        pull_request = read_listed(node, github_repo=github_repo)
        lists = _Lists(node)
        lists.check(with_timeline=not is_alone)
    except UNREADABLE as error:
        raise OnlyInRestError(f"not as GraphQL writes it ({error!r})") from error
    sections = {section: _read_section(section, lists) for section in Section}
    return Snapshot(pull_request, sections, etags={})


def _read_section(section: Section, lists: "_Lists") -> SectionResult:
    try:
        values = lists.read(section)
        items = read_items(section, values)
    except OnlyInRestError as error:
        return SectionResult(error=error)
    except UNREADABLE as error:
        return SectionResult(error=OnlyInRestError(f"not as GraphQL writes it ({error!r})"))
    stated = None if section in UNCOUNTED else len(values)
    return SectionResult(items, stated, VERIFIED)


class _Lists:
    """The lists of one pull request, each read as REST's JSON."""

    def __init__(self, node: Json) -> None:
        self._node = node
        self._ids = NodeIds(node)
        self._readers: dict[Section, Callable[[], list[Json]]] = {
            Section.COMMITS: self._read_commits,
            Section.FILES: self._read_files,
            Section.CHECK_RUNS: self._read_check_runs,
            Section.ISSUE_COMMENTS: self._read_issue_comments,
            Section.REVIEW_COMMENTS: self._read_review_comments,
            Section.REVIEWS: self._read_reviews,
            Section.TIMELINE: self._read_timeline,
            Section.COMMIT_STATUSES: self._read_statuses,
        }

    def check(self, *, with_timeline: bool) -> None:
        """Raise DisagreementError when a list is not as long as it, or the pull request, says.

        A merged pull request has commits. Of its files it states the number itself.
        """
        node = self._node
        for name, limit in (
            ("commits", PAGE),
            ("files", PAGE),
            ("comments", PAGE),
            ("reviews", PAGE),
            ("reviewThreads", THREADS),
        ):
            _check_length(node[name], limit)
        if with_timeline:
            _check_length(node["timelineItems"], PAGE)
        if node["commits"]["totalCount"] == 0 or not node["head"]["nodes"]:
            raise DisagreementError("GraphQL lists no commits")
        files = node["files"]
        if files is not None and files["totalCount"] != node["changedFiles"]:
            raise DisagreementError("GraphQL states two numbers of changed files")
        for thread in node["reviewThreads"]["nodes"]:
            _check_length(thread["comments"], PAGE)
            if not thread["comments"]["totalCount"]:
                raise DisagreementError("GraphQL lists a thread without comments")
        suites = node["head"]["nodes"][0]["commit"]["checkSuites"]
        _check_length(suites, SUITES)
        for suite in suites["nodes"] if suites else ():
            _check_length(suite["checkRuns"], PAGE)

    def read(self, section: Section) -> list[Json]:
        return self._readers[section]()

    def _read_commits(self) -> list[Json]:
        return [_translate_commit(item["commit"]) for item in _list(self._node["commits"])]

    def _read_files(self) -> list[Json]:
        """Read the files, unless their lines do not add up: REST has ways to count them."""
        node = self._node
        files = [_translate_file(item) for item in _list(node["files"])]
        if any(sum(file[key] for file in files) != node[key] for key in ("additions", "deletions")):
            raise OnlyInRestError("the lines of the files do not add up")
        return files

    def _read_issue_comments(self) -> list[Json]:
        return [_translate_comment(item) for item in _list(self._node["comments"])]

    def _read_review_comments(self) -> list[Json]:
        threads = _list(self._node["reviewThreads"])
        items = [item for thread in threads for item in _list(thread["comments"])]
        return sorted(map(_translate_review_comment, items), key=lambda item: item["id"])

    def _read_reviews(self) -> list[Json]:
        return [_translate_review(item) for item in _list(self._node["reviews"])]

    def _read_timeline(self) -> list[Json]:
        return [self._translate_event(item) for item in _list(self._node["timelineItems"])]

    def _translate_event(self, item: Json) -> Json:
        event: dict[str, Any] = {
            "id": self._ids.read(item["id"]),
            "event": EVENTS[item["__typename"]],
            "actor": _translate_account(item["actor"]),
            "created_at": item["createdAt"],
        }
        if event["event"] == "review_requested":
            asked = item["requestedReviewer"] or {}
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

    def _read_head(self) -> Json:
        head: Json = self._node["head"]["nodes"][0]["commit"]
        if head["oid"] != self._node["headRefOid"]:
            raise OnlyInRestError("the last commit is not the head")
        return head

    def _read_check_runs(self) -> list[Json]:
        suites = _list(self._read_head()["checkSuites"])
        return [
            self._translate_check_run(run, app=suite["app"])
            for suite in suites
            for run in _list(suite["checkRuns"])
        ]

    def _translate_check_run(self, run: Json, *, app: Json | None) -> Json:
        if app is None:
            raise OnlyInRestError("GraphQL does not name an app")
        run_id = self._ids.read(run["id"])
        if run["databaseId"] not in (None, run_id):
            raise OnlyInRestError("a check run has two ids")
        return {
            "id": run_id,
            "name": run["name"],
            "app": {"slug": app["slug"]},
            "status": run["status"],
            "conclusion": run["conclusion"],
            "started_at": run["startedAt"],
            "completed_at": run["completedAt"],
        }

    def _read_statuses(self) -> list[Json]:
        status = self._read_head()["status"] or {"contexts": []}
        return [
            {
                "id": self._ids.read(item["id"]),
                "context": item["context"],
                "state": item["state"],
                "created_at": item["createdAt"],
                "updated_at": item["updatedAt"],
            }
            for item in status["contexts"]
        ]


class NodeIds:
    """Reads REST's id out of the id of a node, for what GraphQL tells no other id of.

    An id is a kind and, packed as MessagePack, a list: 0, the repository's id, and the ids down to
    the thing's own. GitHub does not promise this, so it is believed only while the id of the pull
    request itself reads as the `fullDatabaseId` that stands beside it, and everything is of the
    same repository.
    """

    def __init__(self, pull_request: Json) -> None:
        self._head: Sequence[int] = ()
        numbers = unpack_node_id(pull_request["id"])
        if len(numbers) == 3 and numbers[-1] == int(pull_request["fullDatabaseId"]):
            self._head = numbers[:2]

    def read(self, node_id: str) -> int:
        """Return the id that REST has. Raises OnlyInRestError when it is not sure."""
        numbers = unpack_node_id(node_id)
        if not self._head or numbers[:2] != self._head or len(numbers) < 3:
            raise OnlyInRestError("GraphQL does not tell the id")
        return numbers[-1]


def unpack_node_id(node_id: str) -> list[int]:
    """Return the numbers that are packed in an id; empty when it is packed in some other way.

    https://github.com/msgpack/msgpack/blob/master/spec.md
    """
    _, _, packed = node_id.partition("_")
    try:
        data = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
    except (ValueError, binascii.Error):
        return []
    numbers, at = [], 1
    while at < len(data):
        size = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(data[at], 0)
        if not size and data[at] >= 0x80:
            return []
        number = data[at + 1 : at + 1 + size] if size else data[at : at + 1]
        numbers.append(int.from_bytes(number, "big"))
        at += 1 + size
    return numbers if data[:1] == bytes([0x90 + len(numbers)]) and at == len(data) else []


def _check_length(listing: Json | None, limit: int) -> None:
    """Compare a page with the total; a list that was not given is left to REST later."""
    if listing is None or listing["totalCount"] > limit:
        return
    if len(listing["nodes"] or ()) != listing["totalCount"]:
        raise DisagreementError(
            f"GraphQL states {listing['totalCount']} and lists {len(listing['nodes'] or ())}"
        )


def _list(listing: Json | None) -> list[Any]:
    """Return the items of a list that is all on its page."""
    if listing is None:
        raise OnlyInRestError("GraphQL does not give the list")
    nodes = listing["nodes"]
    if len(nodes) != listing["totalCount"]:
        raise OnlyInRestError(f"GraphQL brings {len(nodes)} of {listing['totalCount']}")
    if None in nodes:
        raise OnlyInRestError("GraphQL does not give an item")
    return list(nodes)


def _translate_account(actor: Json | None) -> Json:
    """Translate an account; a bot's login lacks the `[bot]` that REST writes.

    REST calls some deleted accounts `ghost` and says null of others, and Copilot appears there
    under more than one login: those are left to it.
    """
    if actor is None or actor.get("databaseId") is None:
        raise OnlyInRestError("GraphQL does not name an account")
    kind, login = actor["__typename"], actor["login"]
    if kind == "Bot":
        if login.lower().startswith("copilot"):
            raise OnlyInRestError("Copilot has several logins")
        login = f"{login.removesuffix('[bot]')}[bot]"
    return {"id": actor["databaseId"], "login": login, "type": kind}


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
        "additions": node["additions"],
        "deletions": node["deletions"],
        "changed_files": node["changedFiles"],
    }


def _translate_commit(commit: Json) -> Json:
    """Translate a commit, whose author is an account only if it is a person's.

    Bots are no users, so that theirs is null; GitHub knows whom its own addresses belong to.
    """
    author = commit["author"] or {}
    user, email = author.get("user"), (author.get("email") or "").lower()
    if user is None and ("[bot]@" in email or "@users.noreply." in email):
        raise OnlyInRestError("GraphQL does not name a commit's account")
    if user is not None and user["__typename"] != "User":
        raise OnlyInRestError("a commit's account is not a person's")
    return {
        "sha": commit["oid"],
        "commit": {
            "message": commit["message"],
            "author": {"date": author.get("date")},
            "committer": {"date": (commit["committer"] or {}).get("date")},
        },
        "author": _translate_account(user) if user else None,
    }


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
    if item["state"] != "SUBMITTED" or item["subjectType"] != "LINE":
        raise OnlyInRestError("a comment is not submitted, or not on a line")
    parent = item["replyTo"]
    return {
        **_translate_comment(item),
        "path": item["path"],
        "line": item["line"],
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
