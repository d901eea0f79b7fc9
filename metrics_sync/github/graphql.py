"""Asks GitHub's GraphQL API, whose points are another budget than REST's requests."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from fastspec.gql import GqlClient, GqlSpec
from ghapi.gql_spec import gqlspec

from metrics_sync.exceptions import (
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

#: Makes GitHub write all ids as `KIND_...`, also those of older things.
#: https://docs.github.com/en/graphql/guides/migrating-graphql-global-node-ids
HEADERS = {"X-Github-Next-Global-ID": "1"}

#: Messages of GitHub's when a query was too much for it, or failed for no given reason.
BREAKDOWNS = ("something went wrong", "timeout", "timed out", "couldn't respond")

#: The type of an error when GitHub gave up a part of a query, or all of it.
#: https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
TOO_HEAVY = "RESOURCE_LIMITS_EXCEEDED"


def find_endpoint(api_url: str) -> str:
    """Return where an API root has its GraphQL: Enterprise servers have it beside `/api/v3`."""
    root = api_url.rstrip("/")
    return f"{root.removesuffix('/v3')}/graphql"


@cache
def prepare_client(api_url: str) -> Any:
    """Build ghapi's GraphQL client for an API root, once per process.

    ghapi's `GhGql` asks api.github.com only, with GITHUB_TOKEN of the environment; this is its base
    class. Requests go through REST's transport, over the connections of the running fetch.
    """
    client = GqlClient(GqlSpec.from_dict(gqlspec), find_endpoint(api_url))
    client.transport = prepare_api(api_url).transport
    return client


#: What a server's schema lacks (a list's name, or that of the whole), with the server's message.
Lacks = dict[str, str]


class UnknownToServerError(GitHubError):
    """A server's schema lacks something that a query asks for, in these lines of the query."""

    def __init__(self, message: str, *, lines: Collection[int]) -> None:
        super().__init__(message)
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands in an answer for a part that GitHub refused, with the reason."""

    error: GitHubError


class GraphQL:
    """Queries about one repository, over a conversation whose budget is in points of GraphQL.

    `lacks` collects what the server's schema lacks, with the server's messages; the queries of one
    run share it.
    """

    def __init__(self, github: GitHub, *, lacks: Lacks | None = None) -> None:
        self.points = github.budget
        self.lacks: Lacks = {} if lacks is None else lacks
        self._github, self._client = github, prepare_client(github.api_url)

    async def ask(self, query: str, *, cost: int, **variables: Any) -> dict[str, Any]:
        """Return the `repository` that a query asks for; refused parts of it are Refused.

        `cost` is how many points it takes at most. Raises GitHubError; for an answer that is not
        of GitHub's shape RetrySoonError.
        """
        with self.points.hold(cost):
            try:
                return await self._ask(query, variables)
            except RateLimitedError as error:
                self.points.wait_until = error.until
                raise
            except UNREADABLE as error:
                raise RetrySoonError(f"GraphQL: not an answer of GitHub's ({error!r})") from error

    async def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        page = await self._github.call(self._post, query=query, variables=variables)
        stated, body = self.points.rate_limit, page.body
        data = body.get("data") or {}
        self.points.add_used(int((data.get("rateLimit") or {}).get("cost", 0)))
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
    """Put a Refused where an error points to, so that its null is not read as "none".

    In a pull request that is the whole field, such as a list, as half a list is of no use; after
    a breakdown of GitHub's it is the whole pull request. Raises GitHubError for an error without a
    path.
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
    """Translate an answer that has errors in place of data; its status is 200.

    `retry_after` and `sign_on` are headers of that answer.
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
        # GitHub has parsed and refused the query; each error names its place in it.
        places = [place["line"] for each in errors for place in each["locations"]]
        return UnknownToServerError(said, lines=places)
    return GitHubError(said)
