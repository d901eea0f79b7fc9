"""The answers of routes, before they become bytes: a document, or a list that is not paged yet."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from metrics_sync.sandbox.shapes import Json

DOCS = "https://docs.github.com/rest"

UNICORN = """<!DOCTYPE html>
<html><head><title>Unicorn! &middot; GitHub</title></head>
<body><h1>No server is currently available to service your request.</h1>
<p>Sorry about that. Please try refreshing and contact us if the problem persists.</p></body></html>
"""

_MESSAGES = {
    401: "Bad credentials",
    403: "Forbidden",
    404: "Not Found",
    410: "This resource is gone",
    422: "Validation Failed",
    429: "Too Many Requests",
    451: "Repository access blocked",
    500: "Server Error",
    502: "Server Error",
    504: "We couldn't respond to your request in time. Sorry about that.",
}


@dataclass(frozen=True)
class Document:
    """One answer; a text as body is sent as HTML, anything else as JSON.

    `cost` is what it takes from the token's budget.
    """

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cost: int = 1

    def encode(self) -> bytes:
        if isinstance(self.body, str):
            return self.body.encode()
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def content_type(self) -> str:
        kind = "text/html" if isinstance(self.body, str) else "application/json"
        return f"{kind}; charset=utf-8"


def render_plain(items: Sequence[Json], _page: int, _total: int) -> Any:
    return list(items)


@dataclass(frozen=True)
class Listing:
    """A whole list; `render` makes the body of one page from its items, number and the total.

    `total` is the number of items unless it is given.
    """

    items: Sequence[Json]
    render: Callable[[Sequence[Json], int, int], Any] = render_plain
    total: int | None = None


Answer = Document | Listing


def refuse(status: int, message: str = "", *, headers: dict[str, str] | None = None) -> Document:
    """Build GitHub's JSON for the status of an error, or its HTML page for 503."""
    if status == 503 and not message:
        return Document(UNICORN, 503, headers or {})
    text = message or _MESSAGES.get(status, "Error")
    body: Json = {"message": text, "documentation_url": DOCS, "status": str(status)}
    if status == 451:
        body["block"] = {"reason": "dmca", "created_at": "2026-01-05T10:00:00Z", "html_url": None}
    return Document(body, status, headers or {})
