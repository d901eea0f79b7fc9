"""Asks GitHub's GraphQL API, whose points are another budget than REST's requests."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
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
from metrics_sync.github.client import GitHub
from metrics_sync.github.errors import UNKNOWN_PAUSE, is_limit, read_pause, read_sign_on
from metrics_sync.github.transport import prepare_api
from metrics_sync.snapshot import UNREADABLE, Json, RateLimit, read_text

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


#: What a server's schema lacks (the name of a list, or of all there is), and what it said of that.
Lacks = dict[str, str]


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


class UnknownToServerError(GitHubError):
    """A server's schema lacks something that a query asks for, in these lines of it."""

    def __init__(self, message: str, *, lines: Collection[int]) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in an answer for a part of it that GitHub did not give, and said why."""

    error: GitHubError


class GraphQL:
    """Queries about one repository, over a conversation that has no other purpose.

    `lacks` collects what the server's schema is found to lack, and what it said of that; all
    conversations of one run share it.
    """

    def __init__(
        self, github: GitHub, api_url: str, points: Points, *, lacks: Lacks | None = None
    ) -> None:
        self.points = points
        self.lacks: Lacks = {} if lacks is None else lacks
        self._github, self._client = github, prepare_client(api_url)

    async def ask(self, query: str, *, cost: int, **variables: Any) -> dict[str, Any]:
        """Return the `repository` that a query asks for; what GitHub did not give is Refused in it.

        `cost` is what it will take from the points, at most. Raises GitHubError; an answer that
        is none of GitHub's is a RetrySoonError.
        """
        self.points.check(cost)
        try:
            return await self._ask(query, variables)
        except RateLimitedError as error:
            self.points.wait_until = error.until
            raise
        except UNREADABLE as error:
            raise RetrySoonError(f"GraphQL: not an answer of GitHub's ({error!r})") from error

    async def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        page = await self._github.call(self._post, query=query, variables=variables)
        stated, body = self._github.rate_limit, page.body
        data = body.get("data") or {}
        self.points.note(int((data.get("rateLimit") or {}).get("cost", 0)), stated)
        if repository := data.get("repository"):
            mark_refused(repository, body.get("errors") or ())
            return dict(repository)
        raise read_refusal(
            body,
            stated,
            now=datetime.now(UTC),
            retry_after=page.retry_after,
            sign_on=page.sign_on,
        )

    async def _post(self, *, query: str, variables: Mapping[str, Any], raw_: bool) -> Any:
        body = {"query": query, "variables": variables}
        return await self._client.transport.request(
            "POST", self._client.url, json=body, headers=HEADERS, raw=raw_
        )


def mark_refused(repository: dict[str, Any], errors: Iterable[Json]) -> None:
    """Put a Refused where an error is about something, so that no null is taken for nothing.

    Of a pull request that is the field with all that is in it, such as a whole list: half of one
    is of no use. What GitHub broke down over takes all of its pull request with it. Raises the
    GitHubError that does not say what it is about.
    """
    for error in errors:
        refusal = read_refusal({"errors": [error]}, None, now=datetime.now(UTC))
        path = (error.get("path") or [])[1:]
        if not path:
            raise refusal
        is_listed = path[0] == "pullRequests"
        depth = 4 if is_listed else 1 if isinstance(refusal, RetrySoonError) else 2
        *parents, last = path[:depth]
        node: Any = repository
        for step in parents:
            if node[step] is None:
                node[step] = Refused(refusal)
            node = node[step]
            if isinstance(node, Refused):
                break
        else:
            node[last] = Refused(refusal)


def read_refusal(
    body: Json,
    stated: RateLimit | None,
    *,
    now: datetime,
    retry_after: str = "",
    sign_on: str = "",
) -> GitHubError:
    """Translate an answer with errors in place of what was asked for; its status is 200.

    `retry_after` and `sign_on` are headers that it came with.
    """
    errors = body.get("errors") or [{}]
    error = errors[0]
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
        return PermissionMissingError(f"{said}{read_sign_on(sign_on)}")
    if not message or any(words in lower for words in BREAKDOWNS) or kind == TOO_HEAVY:
        return RetrySoonError(said)
    if "data" not in body and not kind and all(each.get("locations") for each in errors):
        # The query was read and refused, each error with the place that it is about.
        places = [place["line"] for each in errors for place in each["locations"]]
        return UnknownToServerError(said, lines=places)
    return GitHubError(said)
