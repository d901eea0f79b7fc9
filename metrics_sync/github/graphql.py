"""Asks GitHub's GraphQL API, whose points are another budget than REST's requests."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from fastspec.gql import GqlClient, GqlSpec
from ghapi.gql_spec import gqlspec

from metrics_sync.exceptions import (
    BudgetSpentError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.github.client import GitHub, prepare_api
from metrics_sync.github.errors import UNKNOWN_PAUSE, is_limit, read_pause
from metrics_sync.snapshot import Json, RateLimit, read_text

#: Has ids come as `KIND_...`, also those of things that are older than such ids.
#: https://docs.github.com/en/graphql/guides/migrating-graphql-global-node-ids
HEADERS = {"X-Github-Next-Global-ID": "1"}

#: What GitHub says when a query was too much for it, or it just failed.
BREAKDOWNS = ("something went wrong", "timeout", "timed out", "couldn't respond")

#: Its type for a query of which it gave up a part, or the whole.
#: https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
TOO_HEAVY = "RESOURCE_LIMITS_EXCEEDED"


def find_endpoint(api_url: str) -> str:
    """Return where an API root has its GraphQL: Enterprise servers have it beside `/api/v3`."""
    root = api_url.rstrip("/")
    return f"{root.removesuffix('/v3')}/graphql"


@cache
def prepare_client(api_url: str) -> Any:
    """Build ghapi's GraphQL client for an API root, once per process.

    Its `GhGql` asks api.github.com only, with GITHUB_TOKEN of the environment; this is the class
    below it. It sends what it sends as REST's client does, over the pool of the running fetch.
    """
    client = GqlClient(GqlSpec.from_dict(gqlspec), find_endpoint(api_url))
    client.transport = prepare_api(api_url).transport
    return client


class Points:
    """The points of one token, as far as one process knows.

    `reserve` points of each hour are left to others who ask with the same token (of a limit that
    is small a fifth). Nothing is known of the limit before the first answer.
    """

    def __init__(self, *, reserve: int) -> None:
        self.used = 0
        self.rate_limit: RateLimit | None = None
        #: Until when GitHub wants to be asked nothing.
        self.wait_until: datetime | None = None
        self._reserve = reserve

    @property
    def reserve(self) -> int:
        limit = self.rate_limit.limit if self.rate_limit else None
        return self._reserve if limit is None else min(self._reserve, limit // 5)

    def check(self, cost: int) -> None:
        """Raise BudgetSpentError when a query of that cost may not be sent now.

        GitHub wants us to wait, or it would take of the reserve.
        """
        known, now = self.rate_limit, datetime.now(UTC)
        if self.wait_until is not None and self.wait_until > now:
            raise BudgetSpentError("GitHub wants us to wait", until=self.wait_until)
        if known is None or known.resets_at <= now or known.remaining - cost >= self.reserve:
            return
        until = known.resets_at
        message = (
            f"the points of this hour are used up but for the reserve, until {until:%Y-%m-%d %H:%M}"
        )
        raise BudgetSpentError(f"{message} UTC", until=until)

    def note(self, cost: int, stated: RateLimit | None) -> None:
        self.used += cost
        self.rate_limit = stated or self.rate_limit


class GraphQL:
    """Queries about one repository, over a conversation that has no other purpose."""

    def __init__(self, github: GitHub, api_url: str, points: Points) -> None:
        self.points = points
        self._github, self._client = github, prepare_client(api_url)

    async def ask(self, query: str, *, cost: int, **variables: Any) -> Json:
        """Return the `repository` that a query asks for; what GitHub could not give is null in it.

        `cost` is what it will take from the points, at most. Raises GitHubError.
        """
        self.points.check(cost)
        try:
            return await self._ask(query, variables)
        except RateLimitedError as error:
            self.points.wait_until = error.until
            raise

    async def _ask(self, query: str, variables: Mapping[str, Any]) -> Json:
        page = await self._github.call(self._post, query=query, variables=variables)
        stated = self._github.rate_limit
        body = page.body if isinstance(page.body, dict) else {}
        data = body.get("data") or {}
        self.points.note((data.get("rateLimit") or {}).get("cost", 0), stated)
        if repository := data.get("repository"):
            mark_refused(data, body.get("errors"))
            return dict(repository)
        raise read_refusal(body, stated, now=datetime.now(UTC), retry_after=page.retry_after)

    async def _post(self, *, query: str, variables: Mapping[str, Any], raw_: bool) -> Any:
        body = {"query": query, "variables": variables}
        return await self._client.transport.request(
            "POST", self._client.url, json=body, headers=HEADERS, raw=raw_
        )


def mark_refused(data: Any, errors: Any) -> None:
    """Put something unreadable where an error left a null, so that it is not taken for nothing.

    What GitHub broke down over has the RetrySoonError in place of all that was asked of that pull
    request, or list. Raises the GitHubError that does not say what it is about.
    """
    for error in errors if isinstance(errors, list) else ():
        node, path = data, error.get("path")
        refusal = read_refusal({"errors": [error]}, None, now=datetime.now(UTC))
        if not path or len(path) < 2:
            raise refusal
        if isinstance(refusal, RetrySoonError):
            data["repository"][path[1]] = {"refused": refusal}
            continue
        for step in path:
            if node[step] is None:
                node[step] = {"refused": refusal}
                break
            node = node[step]


def read_refusal(
    body: Json, stated: RateLimit | None, *, now: datetime, retry_after: str = ""
) -> GitHubError:
    """Translate an answer with errors in place of what was asked for; its status is 200."""
    errors = body.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else {}
    kind, message = str(error.get("type", "")), read_text(str(error.get("message", "")))[:300]
    said, lower = f"GraphQL: {message or 'an answer without data'}", message.lower()
    if kind in {"RATE_LIMITED", "RATE_LIMIT"}:
        until = stated.resets_at if stated else now + timedelta(hours=1)
        # A reset in the past means that our clock is ahead of GitHub's.
        return RateLimitedError(said, until=until if until > now else now + UNKNOWN_PAUSE)
    if is_limit(error) or is_limit(body):
        return SecondaryLimitError(said, until=now + read_pause(retry_after, now=now))
    if kind == "NOT_FOUND":
        return GoneError(said)
    if kind in {"FORBIDDEN", "INSUFFICIENT_SCOPES"}:
        return PermissionMissingError(said)
    if not message or any(words in lower for words in BREAKDOWNS) or kind == TOO_HEAVY:
        return RetrySoonError(said)
    return GitHubError(said)
