"""The queries, against the schema of GitHub that ghapi ships, and what they cost."""

from collections.abc import Iterable
from typing import Any

import pytest
from ghapi.gql_spec import gqlspec
from graphql import GraphQLSchema, build_schema, parse, validate

from metrics_sync.github.queries import (
    FETCHED,
    LISTED,
    LISTING,
    build_fetch,
    count_points,
    estimate_points,
)
from metrics_sync.sandbox.costs import count_cost
from metrics_sync.sandbox.graphql import read_schema

BUILT_IN = {"Boolean", "Float", "ID", "Int", "String"}
QUERIES = [pytest.param(LISTING, id="list"), pytest.param(build_fetch(FETCHED), id="fetch")]


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    """GitHub's schema without what is deprecated, made of ghapi's tables."""
    types: dict[str, Any] = gqlspec["types"]
    interfaces = {name: spec for name, spec in types.items() if spec["kind"] == "INTERFACE"}
    parts = [
        write_type(name, spec, interfaces)
        for name, spec in types.items()
        if name not in BUILT_IN and name != gqlspec["mutation"]
    ]
    return build_schema("\n".join(parts), assume_valid=True)


def write_type(name: str, spec: dict[str, Any], interfaces: dict[str, Any]) -> str:
    """Write a type in GraphQL's own language; the tables do not say what implements what."""
    match spec["kind"]:
        case "SCALAR":
            return f"scalar {name}"
        case "ENUM":
            return f"enum {name} {{ {' '.join(spec['values']) or 'GONE'} }}"
        case "UNION":
            return f"union {name} = {' | '.join(spec['of'])}"
        case "INPUT_OBJECT":
            fields = (f"{key}: {field['type']}" for key, field in spec["fields"].items())
            return f"input {name} {{ {' '.join(fields)} }}"
    kind = "interface" if spec["kind"] == "INTERFACE" else "type"
    is_like = [
        other
        for other, fields in interfaces.items()
        if kind == "type" and set() < fields["fields"].keys() <= spec["fields"].keys()
    ]
    implements = f" implements {' & '.join(is_like)}" if is_like else ""
    fields = write_fields(spec["fields"].items())
    return f"{kind} {name}{implements} {f'{{ {fields} }}' if fields else ''}"


def write_fields(fields: Iterable[tuple[str, dict[str, Any]]]) -> str:
    written = []
    for name, field in fields:
        arguments = " ".join(f"{key}: {kind}" for key, (kind, *_) in field["args"].items())
        written.append(f"{name}{f'({arguments})' if arguments else ''}: {field['type']}")
    return " ".join(written)


@pytest.mark.parametrize("query", QUERIES)
def test_query_is_one_that_github_takes(schema: GraphQLSchema, query: str) -> None:
    """A field that is gone fails the whole query, and the tables have no deprecated ones."""
    assert validate(schema, parse(query)) == []


def test_query_with_an_unknown_field_would_be_noticed(schema: GraphQLSchema) -> None:
    """A check that takes everything checks nothing."""
    query = LISTING.replace("headRefOid", "headRefSha")

    assert [error.message for error in validate(schema, parse(query))] != []


def test_sandbox_has_the_schema_of_github() -> None:
    """What the sandbox takes and GitHub does not would be found out by users."""
    differing = []
    for name, kind in read_schema().type_map.items():
        for field, definition in getattr(kind, "fields", {}).items():
            github = gqlspec["types"].get(name, {"fields": {}})["fields"].get(field)
            wide = str(definition.type).replace("WideInt", "Int")
            if not name.startswith("__") and (github or {}).get("type") != wide:
                differing.append(f"{name}.{field}")

    assert differing == []


def test_lists_of_each_pull_request_cost_what_is_said() -> None:
    """The operator decides by the number that `--dry-run` says."""
    for count in (1, 5, 13, FETCHED):
        counted = count_cost(parse(build_fetch(count)), read_schema(), {})
        assert counted.points == count_points(count)
        assert counted.nodes < 500_000


def test_hundred_listed_cost_one_point() -> None:
    """A restart lists everything again, so it has to be cheap."""
    counted = count_cost(parse(LISTING), read_schema(), {"first": LISTED})

    assert (counted.points, counted.nodes) == (1, LISTED)


def test_ten_thousand_fit_one_hour_of_a_token() -> None:
    """Connecting an old repository must not take days; 1,000 of 5,000 points are kept."""
    assert estimate_points(10_000) + 10_000 // LISTED <= 4_000
    assert estimate_points(26) == count_points(25) + count_points(1)
