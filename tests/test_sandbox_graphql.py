"""The GraphQL of the pretend GitHub, which must be as strict as the real one."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    make_recording,
)

REPOSITORY = "acme/anvil"


@pytest.fixture
def acme(sandbox: SandboxServer) -> SandboxServer:
    for number in range(1, 6):
        sandbox.world.add(make_recording(REPOSITORY, number))
    return sandbox


def ask(
    sandbox: SandboxServer, selection: str, *, token: str = DEFAULT_TOKEN, **variables: Any
) -> dict[str, Any]:
    """Ask for something of the repository, and for the cost of it."""
    declared = "($first: Int, $after: String)" if variables else ""
    query = f"""
    query{declared} {{
      rateLimit {{ cost nodeCount remaining }}
      repository(owner: "acme", name: "anvil") {{ {selection} }}
    }}
    """
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Authorization": f"bearer {token}", "Content-Type": "application/json"}
    with urlopen(Request(f"{sandbox.url}/graphql", body, headers)) as answer:  # noqa: S310
        read: dict[str, Any] = json.load(answer)
        return read


@pytest.mark.parametrize(
    ("selection", "cost", "nodes"),
    [
        pytest.param("nameWithOwner", 1, 0, id="no list"),
        pytest.param(
            "pullRequests(first: 50) { nodes { comments(first: 10) { totalCount } } }",
            1,
            550,
            id="51 requests",
        ),
        pytest.param(
            """pullRequests(first: 100) { nodes {
                 reviewThreads(first: 20) { nodes { comments(first: 10) { totalCount } } }
                 comments(first: 10) { totalCount }
               } }""",
            22,
            100 + 2000 + 20_000 + 1000,
            id="2,201 requests",
        ),
    ],
)
def test_cost_is_the_one_of_githubs_rule(
    acme: SandboxServer, selection: str, cost: int, nodes: int
) -> None:
    """A list costs a request for each of its parents, and a hundred requests are a point."""
    limit = ask(acme, selection)["data"]["rateLimit"]

    assert (limit["cost"], limit["nodeCount"], limit["remaining"]) == (cost, nodes, 5000 - cost)


@pytest.mark.parametrize(
    ("selection", "kind"),
    [
        pytest.param(
            "pullRequests { totalCount }", "MISSING_PAGINATION_BOUNDARIES", id="no length"
        ),
        pytest.param(
            "pullRequests(first: 101) { totalCount }", "EXCESSIVE_PAGINATION", id="too long"
        ),
        pytest.param(
            """pullRequests(first: 100) { nodes { reviewThreads(first: 100) { nodes {
                 comments(first: 100) { totalCount } } } } }""",
            "MAX_NODE_LIMIT_EXCEEDED",
            id="over 500,000 nodes",
        ),
        pytest.param("nothing", None, id="unknown field"),
    ],
)
def test_query_that_github_would_refuse_is_refused(
    acme: SandboxServer, selection: str, kind: str | None
) -> None:
    """The answer has the status 200, no data, and costs no points."""
    answer = ask(acme, selection)

    assert ("data" in answer, answer["errors"][0].get("type")) == (False, kind)
    assert ask(acme, "nameWithOwner")["data"]["rateLimit"]["remaining"] == 4999


def test_pages_hold_still_while_others_move(acme: SandboxServer) -> None:
    """A cursor is a place in the order, not a number of items."""
    selection = """pullRequests(
        first: $first, after: $after, states: [MERGED],
        orderBy: {field: UPDATED_AT, direction: DESC}
    ) { nodes { number } pageInfo { endCursor hasNextPage } }"""
    first = ask(acme, selection, first=2)["data"]["repository"]["pullRequests"]
    with acme.world.editing(REPOSITORY, 1) as recording:
        recording.pull["updated_at"] = "2026-12-01T00:00:00Z"

    after = first["pageInfo"]["endCursor"]
    rest = ask(acme, selection, first=3, after=after)["data"]["repository"]["pullRequests"]

    assert [node["number"] for node in first["nodes"] + rest["nodes"]] == [5, 4, 3, 2]
    assert (first["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)


def test_used_up_points_are_an_error_with_status_200(acme: SandboxServer) -> None:
    """REST says 403; and REST's budget is not touched."""
    acme.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=2))
    answers = [ask(acme, "nameWithOwner") for _ in range(3)]

    assert [answer.get("errors", [{}])[0].get("type") for answer in answers] == [
        *(None, None, "RATE_LIMITED")
    ]


def test_without_a_token_there_is_no_graphql(acme: SandboxServer) -> None:
    """GitHub's GraphQL requires a token for public data as well."""
    with pytest.raises(HTTPError, match="401"):
        ask(acme, "nameWithOwner", token="")


@pytest.mark.parametrize(("without_totals", "total"), [(False, 3), (True, 0)])
def test_fault_empties_inner_lists_only(
    acme: SandboxServer, without_totals: bool, total: int
) -> None:
    """GitHub's list of pull requests is whole, and the lists inside are empty."""
    acme.faults.add(Fault(FaultKind.EMPTY_LISTS, without_totals=without_totals))

    answer = ask(
        acme,
        """pullRequests(first: 9) {
             pageInfo { hasNextPage }
             nodes { commits(first: 9) { totalCount nodes { commit { oid } } } }
           }""",
    )

    listed = answer["data"]["repository"]["pullRequests"]["nodes"]
    assert [node["commits"] for node in listed] == [{"totalCount": total, "nodes": []}] * 5


def test_total_of_a_timeline_counts_what_was_not_asked_for(acme: SandboxServer) -> None:
    """https://github.com/strands-labs/robots/issues/2146"""
    number = acme.world.recordings()[0].number

    answer = ask(
        acme,
        f"""pullRequest(number: {number}) {{
             timelineItems(first: 9, itemTypes: [CONVERT_TO_DRAFT_EVENT]) {{
               totalCount filteredCount nodes {{ __typename }}
             }}
           }}""",
    )

    timeline = answer["data"]["repository"]["pullRequest"]["timelineItems"]
    assert timeline["totalCount"] > timeline["filteredCount"] == len(timeline["nodes"])
