"""The GraphQL queries: valid by GitHub's schema as ghapi ships it, and their cost."""

from pathlib import Path

import pytest
from ghapi.gql_spec import gqlspec
from graphql import GraphQLSchema, build_schema, parse, validate

from metrics_sync.github.queries import (
    FETCHED,
    LISTED,
    LISTING,
    build_fetch,
    build_next,
    count_next_points,
    count_points,
    estimate_points,
)
from metrics_sync.sandbox import graphql_route
from metrics_sync.sandbox.costs import count_cost
from metrics_sync.sandbox.graphql_route import read_schema
from tests.contract.graphql import (
    PAGES,
    QUERIES,
    USED,
    list_changes,
    list_differences,
    list_refusals,
    load_used,
    read_tables,
)

SANDBOX_SCHEMA = Path(graphql_route.__file__).with_name("schema.graphql")
EACH_QUERY = [pytest.param(query, id=name) for name, query in QUERIES.items()]


@pytest.fixture(scope="module")
def schema() -> GraphQLSchema:
    """GitHub's schema without what is deprecated, made of ghapi's tables."""
    return read_tables(gqlspec)


@pytest.mark.parametrize("query", EACH_QUERY)
def test_query_is_one_that_github_takes(schema: GraphQLSchema, query: str) -> None:
    """A removed field fails the whole query, and the tables have no deprecated ones."""
    assert validate(schema, parse(query)) == []


def test_query_with_an_unknown_field_would_be_noticed(schema: GraphQLSchema) -> None:
    """A check that accepts everything proves nothing."""
    query = LISTING.replace("headRefOid", "headRefSha")

    assert [error.message for error in validate(schema, parse(query))] != []


@pytest.mark.parametrize("query", EACH_QUERY)
def test_query_is_one_that_the_published_schema_takes(query: str) -> None:
    """ghapi's tables are ahead of it, and Enterprise servers are behind."""
    assert validate(load_used(), parse(query)) == []


def test_sandbox_has_nothing_that_github_has_not() -> None:
    """Otherwise users would be the first to notice the difference."""
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
    """A check that accepts everything proves nothing."""
    text = SANDBOX_SCHEMA.read_text()
    assert ours in text

    assert told in list_differences(load_used(), build_schema(text.replace(ours, other)))


def test_field_that_github_takes_away_is_told() -> None:
    """`make contract` prints this when GitHub changes something that we use."""
    text = USED.read_text()
    line = "  headRefOid: GitObjectID!\n"
    assert line in text
    newer = build_schema(text.replace(line, ""))

    [refusal] = list_refusals(newer)
    assert refusal.startswith("Cannot query field 'headRefOid' on type 'PullRequest'.")
    assert list_changes(load_used(), newer) == ["gone: PullRequest.headRefOid: GitObjectID!"]


def test_lists_of_each_pull_request_cost_what_is_said() -> None:
    """The operator decides by the number that `--dry-run` prints."""
    for count in (1, 5, 13, FETCHED):
        counted = count_cost(parse(build_fetch(count)), read_schema(), {})
        assert counted.points == count_points(count)
        assert counted.nodes < 500_000


def test_further_pages_cost_what_is_said() -> None:
    """The points are checked before a query is sent."""
    many = PAGES * 12

    counted = count_cost(parse(build_next(many)), read_schema(), {})

    assert counted.points == count_next_points(many) == 15


def test_hundred_listed_cost_one_point() -> None:
    """A restart lists everything again, so it has to be cheap."""
    counted = count_cost(parse(LISTING), read_schema(), {"first": LISTED})

    assert (counted.points, counted.nodes) == (1, LISTED)


def test_ten_thousand_fit_one_hour_of_a_token() -> None:
    """Connecting an old repository must not take days; 1,000 of 5,000 points are kept."""
    assert estimate_points(10_000) + 10_000 // LISTED <= 4_000
    assert estimate_points(26) == count_points(25) + count_points(1)
