"""The queries, against the schema of GitHub that ghapi ships, and what they cost."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ghapi.gql_spec import gqlspec
from graphql import GraphQLSchema, build_schema, parse, validate

from metrics_sync.github.queries import (
    FETCHED,
    LISTED,
    LISTING,
    LISTS,
    NextPage,
    build_fetch,
    build_next,
    count_next_points,
    count_points,
    estimate_points,
)
from metrics_sync.sandbox import graphql
from metrics_sync.sandbox.costs import count_cost
from metrics_sync.sandbox.graphql import read_schema
from metrics_sync.snapshot import Section
from tests.contract.graphql import list_differences, load_used

BUILT_IN = {"Boolean", "Float", "ID", "Int", "String"}
SANDBOX_SCHEMA = Path(graphql.__file__).with_name("schema.graphql")
PAGES = [
    NextPage(number, section, 'c"1', 40)
    for number, section in enumerate(LISTS, start=1)
    if section is not Section.COMMIT_STATUSES
]
QUERIES = [
    pytest.param(LISTING, id="list"),
    pytest.param(build_fetch(FETCHED), id="fetch"),
    pytest.param(build_next(PAGES), id="next pages"),
    *(
        pytest.param(build_fetch(1, without=frozenset({section})), id=f"without {section}")
        for section in LISTS
    ),
]


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


@pytest.mark.parametrize("query", QUERIES)
def test_query_is_one_that_the_published_schema_takes(query: str) -> None:
    """ghapi's tables are ahead of it, and Enterprise servers are behind."""
    assert validate(load_used(), parse(query)) == []


def test_sandbox_has_nothing_that_github_has_not() -> None:
    """What the sandbox takes and GitHub does not would be found out by users."""
    assert list_differences(load_used(), read_schema()) == []


@pytest.mark.parametrize(
    ("ours", "other", "told"),
    [
        ("createdAt: DateTime!", "createdAt: DateTime", "IssueComment.createdAt: DateTime"),
        ("  path: String!", "  path: String!\n  size: Int", "PullRequestChangedFile.size: Int"),
        ("ADDED CHANGED", "ADDED TOUCHED CHANGED", "PatchStatus has the value TOUCHED"),
        ("author: Actor", "author(kind: Int): Actor", "PullRequest.author(kind: Int)"),
        ("union RequestedReviewer = Bot", "union RequestedReviewer = Organization | Bot",
         "RequestedReviewer goes with Organization"),
    ],
    ids=["null", "field", "value", "argument", "member"],
)  # fmt: skip
def test_difference_of_the_sandbox_would_be_noticed(ours: str, other: str, told: str) -> None:
    """A check that takes everything checks nothing."""
    text = SANDBOX_SCHEMA.read_text()
    assert ours in text

    assert told in list_differences(load_used(), build_schema(text.replace(ours, other)))


def test_lists_of_each_pull_request_cost_what_is_said() -> None:
    """The operator decides by the number that `--dry-run` says."""
    for count in (1, 5, 13, FETCHED):
        counted = count_cost(parse(build_fetch(count)), read_schema(), {})
        assert counted.points == count_points(count)
        assert counted.nodes < 500_000


def test_further_pages_cost_what_is_said() -> None:
    """The points are checked before a query is sent."""
    many = PAGES * 12

    counted = count_cost(parse(build_next(many)), read_schema(), {})

    assert counted.points == count_next_points(many) == 11


def test_hundred_listed_cost_one_point() -> None:
    """A restart lists everything again, so it has to be cheap."""
    counted = count_cost(parse(LISTING), read_schema(), {"first": LISTED})

    assert (counted.points, counted.nodes) == (1, LISTED)


def test_ten_thousand_fit_one_hour_of_a_token() -> None:
    """Connecting an old repository must not take days; 1,000 of 5,000 points are kept."""
    assert estimate_points(10_000) + 10_000 // LISTED <= 4_000
    assert estimate_points(26) == count_points(25) + count_points(1)
