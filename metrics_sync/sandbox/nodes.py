"""Turns recordings, which are REST's JSON, into the objects of GitHub's GraphQL API."""

import base64
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from metrics_sync.sandbox import pulls, shapes
from metrics_sync.sandbox.answers import Listing
from metrics_sync.sandbox.commit_routes import gather_check_runs, gather_statuses
from metrics_sync.sandbox.routing import Ask
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Recording, Repository, World

#: The account that stands in for deleted ones in REST; GraphQL says null.
GHOST_ID = 10137

Field = Callable[..., Json]

_CHANGES = {"removed": "DELETED"}
_EVENTS = {
    "convert_to_draft": ("ConvertToDraftEvent", "CTDE"),
    "head_ref_force_pushed": ("HeadRefForcePushedEvent", "HRFPE"),
    "ready_for_review": ("ReadyForReviewEvent", "RFRE"),
    "review_dismissed": ("ReviewDismissedEvent", "RDE"),
    "review_requested": ("ReviewRequestedEvent", "RRE"),
}


class Heads:
    """Which recordings of a repository have checks or statuses of a sha."""

    def __init__(self, world: World, repository: Repository) -> None:
        self._world, self._repository = world, repository
        self._by_sha: dict[str, list[Recording]] | None = None

    def find(self, sha: str) -> list[Recording]:
        if self._by_sha is None:
            by_sha = defaultdict(list)
            for recording in self._world.visible(self._repository).values():
                for known in {recording.head_sha, *recording.check_runs_by_sha}:
                    by_sha[known].append(recording)
            self._by_sha = by_sha
        return self._by_sha.get(sha, [])


def list_pull_requests(
    ask: Ask,
    repository: Repository,
    heads: Heads,
    *,
    states: Sequence[str] | None,
    order: Mapping[str, str],
    first: int | None = None,
    last: int | None = None,
    after: str | None = None,
) -> Json:
    """List pull requests in pages whose cursors stay valid while other pull requests move."""
    field = {"UPDATED_AT": "updated_at"}.get(order.get("field", ""), "created_at")
    recordings = [item for item in ask.world.visible(repository).values() if item.pull]
    if states:
        recordings = [item for item in recordings if _read_state(item.pull) in states]
    is_reversed = order.get("direction") == "DESC"

    def place(item: Recording) -> tuple[str, int]:
        return str(item.pull.get(field)), item.number

    recordings.sort(key=place, reverse=is_reversed)
    total, start = len(recordings), 0
    if after:
        mark = tuple(json.loads(base64.b64decode(after)))
        passed = (
            place(item) >= mark if is_reversed else place(item) <= mark for item in recordings
        )
        start = sum(passed)
    shown = recordings[start : start + first] if first else recordings[-(last or 0) :]
    cursor = json.dumps(place(shown[-1])).encode() if shown else b""
    return {
        "totalCount": total,
        "nodes": [make_pull_request(ask, repository, item, heads) for item in shown],
        "pageInfo": {
            "hasNextPage": start + len(shown) < total,
            "endCursor": base64.b64encode(cursor).decode() or None,
        },
    }


def make_pull_request(ask: Ask, repository: Repository, recording: Recording, heads: Heads) -> Json:
    """Build a pull request whose lists are built when they are asked for."""
    pull = recording.pull
    ask = replace(ask, repository=repository, query={})

    def make_id(prefix: str, *ids: int) -> str:
        return shapes.make_global_id(prefix, repository.id, *ids)

    def list_with(list_rest: Callable[[Ask, Recording], Any]) -> list[Json]:
        listing = list_rest(ask, recording)
        return list(listing.items) if isinstance(listing, Listing) else []

    return {
        "id": make_id("PR", pull["id"]),
        "fullDatabaseId": str(pull["id"]),
        "number": recording.number,
        "title": pull.get("title") or "",
        "state": _read_state(pull),
        "isDraft": bool(pull.get("draft")),
        "author": _make_actor(pull.get("user")),
        "mergedBy": _make_actor(pull.get("merged_by")),
        "createdAt": pull["created_at"],
        "updatedAt": pull["updated_at"],
        "closedAt": pull.get("closed_at"),
        "mergedAt": pull.get("merged_at"),
        "additions": pull.get("additions", 0),
        "deletions": pull.get("deletions", 0),
        "changedFiles": pull.get("changed_files", 0),
        "baseRefName": pull["base"]["ref"],
        "baseRefOid": recording.base_sha,
        "headRefName": pull["head"]["ref"],
        "headRefOid": recording.head_sha,
        "commits": _connect(
            lambda: [
                {"commit": _make_commit(item, heads, repository)} for item in recording.commits
            ]
        ),
        "files": _connect(lambda: [_make_file(item) for item in recording.files]),
        "comments": _connect(
            lambda: [
                _make_comment(item, make_id("IC", item["id"])) for item in recording.issue_comments
            ]
        ),
        "reviews": _connect(
            lambda: [
                _make_review(item, make_id("PRR", item["id"]))
                for item in list_with(pulls.select_reviews)
            ]
        ),
        "reviewThreads": _connect(lambda: _make_threads(recording, make_id)),
        "timelineItems": _connect_events(recording, make_id),
    }


def _read_state(pull: Json) -> str:
    return "MERGED" if pull.get("merged_at") else str(pull["state"]).upper()


def _connect(make: Callable[[], Sequence[Json]]) -> Field:
    """Make the field of a list; totals count all of it, and `nodes` has the page."""

    def field(
        _info: Any,
        *,
        first: int | None = None,
        last: int | None = None,
        after: str | None = None,
        **_filters: Any,
    ) -> Json:
        items = make()
        start = int(after or 0)
        shown = items[start : start + first] if first else items[-(last or 0) :]
        return {
            "totalCount": len(items),
            "nodes": shown,
            "pageInfo": {
                "hasNextPage": start + len(shown) < len(items),
                "endCursor": str(start + len(shown)),
            },
        }

    return field


def _make_actor(user: Json | None) -> Json | None:
    """Build an account; a bot's login is that of its app, without `[bot]`, wherever it wrote."""
    if not user or user.get("id") == GHOST_ID:
        return None
    kind, login = str(user.get("type") or "User"), str(user["login"])
    if kind == "Bot" or login.endswith("[bot]"):
        _, _, slug = str(user.get("html_url")).partition("/apps/")
        kind, login = "Bot", slug or login.removesuffix("[bot]")
    node_id = shapes.make_global_id("U", user["id"])
    return {"__typename": kind, "id": node_id, "databaseId": user["id"], "login": login}


def _make_commit(item: Json, heads: Heads, repository: Repository) -> Json:
    commit = item.get("commit") or {}
    user = _make_actor(item.get("author"))
    # A git author's account is declared as a User, so the account of a bot is left out.
    user = user if user and user["__typename"] == "User" else None
    sha = item["sha"]
    return {
        "id": shapes.make_global_id("C", repository.id, int(sha[:12], 16)),
        "oid": sha,
        "message": commit.get("message") or "",
        "author": {**(commit.get("author") or {}), "user": user},
        "committer": {**(commit.get("committer") or {}), "user": None},
        "parents": _connect(lambda: [{"oid": one["sha"]} for one in item.get("parents") or ()]),
        "checkSuites": _connect(lambda: _make_suites(sha, heads, repository)),
        "status": lambda _info: _make_status(sha, heads, repository),
    }


def _make_suites(sha: str, heads: Heads, repository: Repository) -> list[Json]:
    suites: dict[tuple[Any, str], list[Json]] = {}
    for run in gather_check_runs(heads.find(sha), sha):
        app = str((run.get("app") or {}).get("slug") or "")
        suites.setdefault(((run.get("check_suite") or {}).get("id"), app), []).append(run)
    return [_make_suite(number, app, runs, repository) for (number, app), runs in suites.items()]


def _make_suite(number: Any, app: str, runs: list[Json], repository: Repository) -> Json:
    return {
        "id": shapes.make_global_id("CS", repository.id, int(number or 0)),
        "app": {"id": shapes.make_global_id("A", 1), "slug": app} if app else None,
        "checkRuns": _connect(lambda: [_make_check_run(run, repository) for run in runs]),
    }


def _make_check_run(run: Json, repository: Repository) -> Json:
    return {
        "id": shapes.make_global_id("CR", repository.id, run["id"]),
        "databaseId": run["id"],
        "name": run["name"],
        "status": str(run["status"]).upper(),
        "conclusion": str(run["conclusion"]).upper() if run.get("conclusion") else None,
        "startedAt": run.get("started_at"),
        "completedAt": run.get("completed_at"),
    }


def _make_status(sha: str, heads: Heads, repository: Repository) -> Json | None:
    statuses = gather_statuses(heads.find(sha), sha)
    if not statuses:
        return None
    contexts = [
        {
            "id": shapes.make_global_id("SC", repository.id, item["id"]),
            "context": item["context"],
            "state": str(item["state"]).upper(),
            "createdAt": item["created_at"],
        }
        for item in statuses
    ]
    return {"id": shapes.make_global_id("S", repository.id), "contexts": contexts}


def _make_file(item: Json) -> Json:
    """Build a file; GraphQL does not give the former name of a renamed file."""
    status = str(item["status"])
    return {
        "path": item["filename"],
        "changeType": _CHANGES.get(status, status.upper()),
        "additions": item["additions"],
        "deletions": item["deletions"],
    }


def _make_comment(item: Json, node_id: str) -> Json:
    return {
        "id": node_id,
        "fullDatabaseId": str(item["id"]),
        "author": _make_actor(item.get("user")),
        "body": item.get("body") or "",
        "createdAt": item["created_at"],
        "updatedAt": item.get("updated_at") or item["created_at"],
    }


def _make_review(item: Json, node_id: str) -> Json:
    sha = item.get("commit_id")
    return {
        "id": node_id,
        "fullDatabaseId": str(item["id"]),
        "author": _make_actor(item.get("user")),
        "state": str(item["state"]).upper(),
        "body": item.get("body") or "",
        "submittedAt": item.get("submitted_at"),
        "commit": {"oid": sha} if sha else None,
    }


def _make_threads(recording: Recording, make_id: Callable[..., str]) -> list[Json]:
    """Sort comments into threads, each a comment and its answers."""
    threads: dict[int, list[Json]] = {}
    for item in recording.review_comments:
        threads.setdefault(item.get("in_reply_to_id") or item["id"], []).append(item)
    return [
        {"id": make_id("PRRT", first), "comments": _connect_remarks(items, make_id)}
        for first, items in threads.items()
    ]


def _connect_remarks(items: list[Json], make_id: Callable[..., str]) -> Field:
    return _connect(lambda: [_make_remark(item, make_id("PRRC", item["id"])) for item in items])


def _make_remark(item: Json, node_id: str) -> Json:
    parent = item.get("in_reply_to_id")
    return {
        **_make_comment(item, node_id),
        "path": item["path"],
        "line": item.get("line"),
        "state": "SUBMITTED",
        "subjectType": str(item.get("subject_type") or "line").upper(),
        "replyTo": {"fullDatabaseId": str(parent)} if parent else None,
    }


def _connect_events(recording: Recording, make_id: Callable[..., str]) -> Field:
    """Make the field of the timeline, whose total counts events of every type, as GitHub's does.

    https://github.com/strands-labs/robots/issues/2146
    """

    def field(_info: Any, *, itemTypes: Iterable[str] = (), **page: Any) -> Json:  # noqa: N803
        wanted = {name.removesuffix("_EVENT").lower() for name in itemTypes} or set(_EVENTS)
        events = [
            _make_event(item, recording, make_id)
            for item in recording.timeline
            if item.get("event") in wanted & set(_EVENTS)
        ]
        connection = _connect(lambda: events)(_info, **page)
        left = len(events) - int(page.get("after") or 0)
        return {**connection, "totalCount": len(recording.timeline), "filteredCount": left}

    return field


def _make_event(item: Json, recording: Recording, make_id: Callable[..., str]) -> Json:
    kind, prefix = _EVENTS[item["event"]]
    built: Json = {
        "__typename": kind,
        "id": make_id(prefix, recording.pull["id"], item["id"]),
        "actor": _make_actor(item.get("actor")),
        "createdAt": item["created_at"],
    }
    if dismissed := item.get("dismissed_review"):
        built["previousReviewState"] = str(dismissed["state"]).upper()
        built["review"] = {"fullDatabaseId": str(dismissed["review_id"])}
    if team := item.get("requested_team"):
        team_id = shapes.make_global_id("T", team.get("id", 1))
        built["requestedReviewer"] = {"__typename": "Team", "id": team_id, "slug": team["slug"]}
    elif reviewer := item.get("requested_reviewer"):
        built["requestedReviewer"] = _make_actor(reviewer)
    return built
