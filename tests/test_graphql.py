"""GraphQL's answers, and what a token's points allow."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.github import Budget, GitHub, GraphQL
from metrics_sync.github.graphql import find_endpoint, read_refusal
from metrics_sync.github.queries import LISTING
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, make_recording
from metrics_sync.snapshot import Json, RateLimit

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
RESET = NOW + timedelta(minutes=20)


def ask(
    sandbox: SandboxServer, *, root: str = "", token: str = DEFAULT_TOKEN, name: str = "anvil"
) -> tuple[Json, Budget]:
    """Ask for the list of a repository."""
    points, api_url = Budget(reserve=1000), sandbox.url + root

    async def converse() -> Json:
        async with GitHub(api_url=api_url, token=token, budget=points) as github:
            graphql = GraphQL(github)
            return await graphql.ask(LISTING, cost=1, owner="acme", name=name, first=100)

    return asyncio.run(converse()), points


@pytest.fixture
def acme(sandbox: SandboxServer) -> SandboxServer:
    sandbox.world.add(make_recording("acme/anvil", 7))
    return sandbox


def test_points_are_those_of_graphql(acme: SandboxServer) -> None:
    """REST's requests are another budget, which merges need."""
    repository, points = ask(acme)

    assert repository["nameWithOwner"] == "acme/anvil"
    assert points.rate_limit is not None
    assert (points.used, points.rate_limit.remaining) == (1, 4999)


def test_enterprise_server_has_it_beside_its_api(acme: SandboxServer) -> None:
    """Its address is no part of `/api/v3`."""
    repository, _ = ask(acme, root="/api/v3")

    assert find_endpoint("https://github.example/api/v3/") == "https://github.example/api/graphql"
    assert find_endpoint("https://api.github.com") == "https://api.github.com/graphql"
    assert repository["nameWithOwner"] == "acme/anvil"


def test_token_of_the_environment_is_never_used(
    acme: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may belong to another team."""
    monkeypatch.setenv("GITHUB_TOKEN", DEFAULT_TOKEN)

    with pytest.raises(CredentialRejectedError):
        ask(acme, token="")

    assert [request.token for request in acme.requests] == [""]


def test_passing_fault_is_asked_again_once(acme: SandboxServer) -> None:
    """As with REST."""
    acme.faults.add(Fault(FaultKind.STATUS, path="/graphql", status=502, times=1))

    ask(acme)

    assert [request.status for request in acme.requests] == [502, 200]


def test_repository_that_is_not_there_is_gone(acme: SandboxServer) -> None:
    """The answer has the status 200."""
    with pytest.raises(GoneError, match="Could not resolve to a Repository"):
        ask(acme, name="nothing")


@pytest.mark.parametrize(
    ("body", "kind", "until"),
    [
        pytest.param(
            {"errors": [{"type": "RATE_LIMITED", "message": "limit"}]},
            RateLimitedError,
            RESET,
            id="points used up",
        ),
        pytest.param(
            {"errors": [{"type": "RATE_LIMIT", "message": "API rate limit already exceeded"}]},
            RateLimitedError,
            RESET,
            id="points used up, by its other name",
        ),
        pytest.param(
            {"errors": [{"type": "RESOURCE_LIMITS_EXCEEDED", "message": "Too much."}]},
            RetrySoonError,
            None,
            id="beyond the resource limits",
        ),
        pytest.param(
            {"errors": [{"message": "You have exceeded a secondary rate limit."}]},
            SecondaryLimitError,
            NOW + timedelta(minutes=1),
            id="too much at once",
        ),
        pytest.param(
            {"message": "You have exceeded a secondary rate limit.", "documentation_url": "x"},
            SecondaryLimitError,
            NOW + timedelta(minutes=1),
            id="too much at once, as REST says it",
        ),
        pytest.param(
            {"errors": [{"type": "FORBIDDEN", "message": "`secondary rate limit` has SAML"}]},
            PermissionMissingError,
            None,
            id="an organization that is called so",
        ),
        pytest.param(
            {"data": {"repository": None}, "errors": [{"type": "NOT_FOUND", "message": "no"}]},
            GoneError,
            None,
            id="not there",
        ),
        pytest.param(
            {"errors": [{"type": "FORBIDDEN", "message": "Resource not accessible"}]},
            PermissionMissingError,
            None,
            id="not allowed",
        ),
        pytest.param(
            {"errors": [{"message": "Something went wrong while executing your query."}]},
            RetrySoonError,
            None,
            id="too heavy",
        ),
        pytest.param({"data": None}, RetrySoonError, None, id="nothing"),
        pytest.param(
            {"errors": [{"message": "Field 'x' doesn't exist on type 'Query'"}]},
            GitHubError,
            None,
            id="another schema",
        ),
    ],
)
def test_refusal_says_what_can_be_done(
    body: dict[str, Any], kind: type[GitHubError], until: datetime | None
) -> None:
    """All refusals have the status 200."""
    error = read_refusal(body, RateLimit(5000, 0, RESET), now=NOW)

    assert type(error) is kind
    assert getattr(error, "until", None) == until


def test_points_that_were_back_already_are_waited_for_a_while() -> None:
    """Our clock is ahead of GitHub's, and asking on and on gets a token banned."""
    body = {"errors": [{"type": "RATE_LIMITED", "message": "limit"}]}

    error = read_refusal(body, RateLimit(5000, 0, NOW - timedelta(seconds=5)), now=NOW)

    assert isinstance(error, RateLimitedError)
    assert error.until == NOW + timedelta(minutes=1)


def test_pause_that_github_names_is_obeyed(acme: SandboxServer) -> None:
    """GitHub lengthens the pause of a client that asks too soon."""
    body = {"errors": [{"message": "You have exceeded a secondary rate limit."}]}
    headers = {"Retry-After": "300"}
    acme.faults.add(Fault(FaultKind.WRONG_TYPE, path="/graphql", body=body, headers=headers))
    earliest = datetime.now(UTC) + timedelta(seconds=299)

    with pytest.raises(SecondaryLimitError) as raised:
        ask(acme)

    assert raised.value.until > earliest


def test_address_of_single_sign_on_is_shown(acme: SandboxServer) -> None:
    """With that page a refused token is allowed in a minute; without it nobody knows where."""
    body = {
        "data": {"repository": None},
        "errors": [
            {
                "type": "FORBIDDEN",
                "path": ["repository"],
                "message": "Resource protected by organization SAML enforcement.",
            }
        ],
    }
    address = "https://github.com/orgs/acme/sso?authorization_request=AZSCKtL4U8yX1H3s"
    headers = {"X-GitHub-SSO": f"required; url={address}"}
    acme.faults.add(Fault(FaultKind.WRONG_TYPE, path="/graphql", body=body, headers=headers))

    with pytest.raises(PermissionMissingError, match=re.escape(address)):
        ask(acme)
