"""Faults that can be switched on: what fails, where and how often; and a count of what failed."""

import math
import random
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Self

from metrics_sync.sandbox.answers import Answer, Document, Listing, refuse
from metrics_sync.sandbox.shapes import Json

SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes and try again."
PRIMARY = "API rate limit exceeded for user ID 1001."
INTEGRATION = "Resource not accessible by integration"
COUNTERS = ("commits", "changed_files", "comments", "review_comments")


class FaultKind(StrEnum):
    """What happens to a request instead of, or in addition to, its answer."""

    #: Answers `status` with `body`, or with what GitHub says with that status.
    STATUS = "status"
    #: 403: the token lacks `permissions`.
    PERMISSION = "permission"
    #: `status` (403 or 429) about a secondary limit; `retry_after` None sends no such header.
    SECONDARY_LIMIT = "secondary_limit"
    #: 403 with nothing remaining until `retry_after` seconds from now (60 if None).
    PRIMARY_LIMIT = "primary_limit"
    #: The right headers and half of the body, then the connection closes.
    TRUNCATED = "truncated"
    #: 200 with `body`, or with a text that is no JSON.
    GARBAGE = "garbage"
    #: 200 with the JSON of `body` (`null` by default) where something else belongs.
    WRONG_TYPE = "wrong_type"
    #: The right answer after `seconds`.
    SLOW = "slow"
    #: The right answer, whose body comes in ten pieces, one every `seconds`.
    DRIP = "drip"
    #: The connection is reset without an answer.
    RESET = "reset"
    #: Replication lag: 404, or with `items` older lists (`items` fewer) and lower counters.
    STALE = "stale"
    #: A list lacks its last `items` (1 by default), and so do its pages and `Link`.
    SHORT_LIST = "short_list"
    #: GraphQL answers with its inner lists empty, without an error; `items` is all that stays.
    EMPTY_LISTS = "empty_lists"
    #: 301 to `location`, which is another host.
    UNKNOWN_REDIRECT = "unknown_redirect"


@dataclass
class Fault:
    """One kind of failure, for the requests that it matches.

    `path` is a regular expression searched in the path, with and without its query, in which the
    repository's name replaces its id: `/repos/octo/hello/pulls/7/files?page=2`. `times` None goes
    on until the faults are cleared. `probability` draws from the seeded generator of `Faults`.
    `unmerged` shows a stale pull request as it was before its merge.
    """

    kind: str
    path: str = ""
    token: str | None = None
    times: int | None = None
    probability: float = 1.0
    status: int | None = None
    body: Any = None
    retry_after: int | None = None
    seconds: float = 0.0
    items: int = 0
    unmerged: bool = False
    without_totals: bool = False
    permissions: str = "pull_requests=read"
    location: str = "https://github.example/elsewhere"
    headers: dict[str, str] = field(default_factory=dict)
    inflicted: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown kinds and broken expressions at once, with ValueError."""
        self.kind = FaultKind(self.kind)
        try:
            self._pattern = re.compile(self.path)
        except re.error as error:
            raise ValueError(f"{self.path!r} is no regular expression: {error}") from error

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read a fault; raises ValueError with a sentence that says what is wrong."""
        if not isinstance(data, Mapping):
            raise ValueError("a fault is a JSON object")
        unknown = set(data) - {item.name for item in fields(cls)}
        if unknown or "kind" not in data:
            raise ValueError(f"unknown keys: {sorted(unknown)}" if unknown else '"kind" is missing')
        try:
            return cls(**data)
        except TypeError as error:
            raise ValueError(str(error)) from error

    def matches(self, path: str, query: str, token: str) -> bool:
        if self.times is not None and self.inflicted >= self.times:
            return False
        if self.token is not None and self.token != token:
            return False
        return any(self._pattern.search(text) for text in (path, f"{path}?{query}"))


class Faults:
    """The faults that are switched on; safe to change while the server runs."""

    def __init__(self, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._faults: list[Fault] = []
        self._counts: Counter[str] = Counter()

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on; its `inflicted` then counts how often it was applied."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Switch all faults off; the counts stay."""
        with self._lock:
            self._faults.clear()

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind was inflicted since the server was made."""
        with self._lock:
            return dict(self._counts)

    def strike(self, path: str, *, query: str = "", token: str = "") -> list[Fault]:
        """Choose what happens to a request, and count it.

        Of the faults that match, every slow one is applied, and the first of the others.
        """
        struck: list[Fault] = []
        with self._lock:
            for fault in self._faults:
                is_slow = fault.kind == FaultKind.SLOW
                taken = any(other.kind != FaultKind.SLOW for other in struck)
                if (taken and not is_slow) or not fault.matches(path, query, token):
                    continue
                if fault.probability < 1 and self._random.random() >= fault.probability:
                    continue
                fault.inflicted += 1
                self._counts[fault.kind] += 1
                struck.append(fault)
        return struck


def replace_answer(fault: Fault, *, now: float) -> Document | None:
    """Return the answer that replaces the right one, or None if the fault only changes it."""
    document = _write_answer(fault, now=now)
    if document is None:
        return None
    return replace(document, headers={**document.headers, **fault.headers})


def _write_answer(fault: Fault, *, now: float) -> Document | None:
    match fault.kind:
        case FaultKind.STATUS:
            status = fault.status or 502
            return refuse(status) if fault.body is None else Document(fault.body, status)
        case FaultKind.PERMISSION:
            headers = {"X-Accepted-GitHub-Permissions": fault.permissions}
            return refuse(fault.status or 403, INTEGRATION, headers=headers)
        case FaultKind.SECONDARY_LIMIT:
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            return refuse(fault.status or 403, SECONDARY, headers=wait)
        case FaultKind.PRIMARY_LIMIT:
            seconds = 60 if fault.retry_after is None else fault.retry_after
            reset = str(math.ceil(now + seconds))
            used_up = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
            return refuse(fault.status or 403, PRIMARY, headers=used_up)
        case FaultKind.WRONG_TYPE:
            return Document(fault.body)
        case FaultKind.UNKNOWN_REDIRECT:
            body = {"message": "Moved Permanently", "url": fault.location}
            return Document(body, fault.status or 301, {"Location": fault.location})
        case FaultKind.STALE if not fault.items and not fault.unmerged:
            return refuse(404)
    return None


def alter_answer(fault: Fault, answer: Answer) -> Answer:
    """Return an older or shorter answer for the kinds that do that, else the same one."""
    if isinstance(answer, Listing):
        if fault.kind == FaultKind.SHORT_LIST:
            # The total is GitHub's own count, which the cut does not change.
            total = len(answer.items)
            return replace(answer, items=answer.items[: -(fault.items or 1)], total=total)
        if fault.kind == FaultKind.STALE and fault.items:
            return replace(answer, items=answer.items[: -fault.items])
    elif fault.kind == FaultKind.STALE and isinstance(answer.body, dict):
        return replace(answer, body=_age_pull(answer.body, fault))
    elif fault.kind == FaultKind.EMPTY_LISTS:
        return replace(answer, body=_empty_lists(answer.body, fault))
    return answer


def _empty_lists(value: Any, fault: Fault) -> Any:
    """Cut every list but that of pull requests; `without_totals` cuts their totals, too."""
    if isinstance(value, list):
        return [_empty_lists(item, fault) for item in value]
    if not isinstance(value, dict):
        return value
    if "pullRequests" in value:
        listing = value["pullRequests"]
        return {
            **value,
            "pullRequests": {**listing, "nodes": _empty_lists(listing["nodes"], fault)},
        }
    emptied = {key: _empty_lists(item, fault) for key, item in value.items()}
    if "totalCount" in emptied:
        emptied["nodes"] = emptied["nodes"][: fault.items]
        if fault.without_totals:
            emptied["totalCount"] = fault.items
    return emptied


def _age_pull(pull: Json, fault: Fault) -> Json:
    aged = dict(pull)
    for counter in COUNTERS:
        if isinstance(aged.get(counter), int):
            aged[counter] = max(0, aged[counter] - fault.items)
    if fault.unmerged and "merged_at" in aged:
        gone = {"merged_at": None, "closed_at": None, "merged_by": None, "merge_commit_sha": None}
        aged |= {"state": "open", "merged": False, **gone}
    return aged
