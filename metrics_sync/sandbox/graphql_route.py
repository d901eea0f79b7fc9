"""Answers GitHub's GraphQL API from the same recordings as the REST routes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLScalarType,
    GraphQLSchema,
    build_schema,
    execute_sync,
    parse,
    validate,
)

from metrics_sync.sandbox.answers import Answer, Document, refuse
from metrics_sync.sandbox.costs import Cost, RefusedQueryError, count_cost
from metrics_sync.sandbox.nodes import Heads, list_pull_requests, make_pull_request
from metrics_sync.sandbox.routing import Ask, root_routes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Repository

PATH = "/graphql"
#: Where an Enterprise server has it, beside `/api/v3`.
ENTERPRISE_PATH = "/api/graphql"
RATE_LIMITED = "API rate limit exceeded for user ID 1001."


@root_routes.post(PATH)
def answer_query(ask: Ask) -> Answer:
    """Answer a query with 200, even if it has errors; its cost is taken from the points.

    https://docs.github.com/en/graphql/guides/forming-calls-with-graphql
    """
    if not ask.token.value:
        return refuse(401, "This endpoint requires you to be authenticated.")
    body = ask.body if isinstance(ask.body, dict) else {}
    variables = body.get("variables") or {}
    lacks = frozenset(ask.world.graphql_lacks)
    try:
        document, errors = _read(str(body.get("query") or ""), lacks)
        if errors:
            return Document({"errors": [_describe(error) for error in errors]}, cost=0)
        cost = count_cost(document, read_schema(lacks), variables)
    except GraphQLError as error:
        return Document({"errors": [_describe(error)]}, cost=0)
    except RefusedQueryError as refusal:
        return Document({"errors": [{"type": refusal.kind, "message": str(refusal)}]}, cost=0)
    if ask.budget is not None and ask.budget.remaining < cost.points:
        return refuse_rate_limited()
    answered = execute_sync(
        read_schema(lacks), document, root_value=_Root(ask, cost), variable_values=variables
    )
    result: Json = {"data": answered.data}
    if answered.errors:
        result["errors"] = [_describe(error) for error in answered.errors]
    return Document(result, cost=cost.points)


def refuse_rate_limited() -> Document:
    """Build what GitHub answers, with 200, when the points are used up."""
    return Document({"errors": [{"type": "RATE_LIMITED", "message": RATE_LIMITED}]}, cost=0)


@lru_cache
def read_schema(lacks: frozenset[str] = frozenset()) -> GraphQLSchema:
    """Read the part of GitHub's schema that this server answers, without the fields it lacks."""
    schema = build_schema(Path(__file__).with_name("schema.graphql").read_text())
    # GitHub writes numbers beyond 2^31 although it declares them as Int.
    wide = GraphQLScalarType("WideInt", coerce_output_value=int)
    for kind in schema.type_map.values():
        fields = getattr(kind, "fields", {})
        if "databaseId" in fields:
            fields["databaseId"].type = wide
    for lacked in lacks:
        kind_name, _, field = lacked.partition(".")
        del schema.type_map[kind_name].fields[field]  # type: ignore[attr-defined]
    return schema


@lru_cache
def _read(query: str, lacks: frozenset[str]) -> tuple[DocumentNode, list[GraphQLError]]:
    """Read a query; also return all that GitHub's schema, or that of an older server, lacks."""
    document = parse(query)
    return document, validate(read_schema(lacks), document)


def _describe(error: GraphQLError) -> Json:
    """Write an error as GitHub does: its type beside the message, and its place in the query."""
    described: Json = {"message": error.message}
    if error.path is None and error.locations:
        described["locations"] = [{"line": at.line, "column": at.column} for at in error.locations]
    if error.path is not None:
        described["path"] = list(error.path)
    return described | (error.extensions or {})


@dataclass(frozen=True)
class _Root:
    """The fields of a query."""

    ask: Ask
    cost: Cost

    def rateLimit(self, _info: Any, **_options: Any) -> Json | None:  # noqa: N802  (GitHub's name)
        budget = self.ask.budget
        if budget is None:
            return None
        return {
            "cost": self.cost.points,
            "limit": budget.limit,
            "nodeCount": self.cost.nodes,
            "remaining": budget.remaining - self.cost.points,
            "resetAt": f"{datetime.fromtimestamp(budget.reset, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "used": budget.used + self.cost.points,
        }

    def repository(self, _info: Any, owner: str, name: str, **_options: Any) -> "_Repository":
        full_name = f"{owner}/{name}"
        repository = self.ask.world.find_repository(full_name)
        if repository is None or repository.hidden or not self.ask.token.sees(repository):
            raise _not_found(f"a Repository with the name '{full_name}'")
        return _Repository(self.ask, repository, Heads(self.ask.world, repository))


@dataclass(frozen=True)
class _Repository:
    """The fields of a repository."""

    ask: Ask
    item: Repository
    heads: Heads

    @property
    def databaseId(self) -> int:  # noqa: N802  (GitHub's name)
        return self.item.id

    @property
    def nameWithOwner(self) -> str:  # noqa: N802  (GitHub's name)
        return self.item.full_name

    def pullRequest(self, _info: Any, number: int) -> Json:  # noqa: N802  (GitHub's name)
        recording = self.ask.world.find_visible(self.item, number)
        if recording is None or not recording.pull:
            raise _not_found(f"a PullRequest with the number of {number}")
        return make_pull_request(self.ask, self.item, recording, self.heads)

    def pullRequests(  # noqa: N802  (GitHub's name)
        self,
        _info: Any,
        *,
        states: Sequence[str] | None = None,
        orderBy: Mapping[str, str] | None = None,  # noqa: N803  (GitHub's name)
        **page: Any,
    ) -> Json:
        return list_pull_requests(
            self.ask, self.item, self.heads, states=states, order=orderBy or {}, **page
        )


def _not_found(what: str) -> GraphQLError:
    return GraphQLError(f"Could not resolve to {what}.", extensions={"type": "NOT_FOUND"})
