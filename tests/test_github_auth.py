"""A conversation whose token is refused in the middle."""

import asyncio
from collections.abc import Callable

import pytest

from metrics_sync.exceptions import CredentialRejectedError, RetrySoonError
from metrics_sync.github import GitHub
from metrics_sync.sandbox import DEFAULT_TOKEN, Fault, FaultKind, SandboxServer, Token

QUESTIONS = 7


@pytest.fixture
def renewals() -> list[str]:
    """The new tokens that the conversation gets, newest last."""
    return []


async def ask(url: str, renew: Callable[[], object]) -> list[int]:
    """Send seven requests at once, and then one more, with a token that nobody issued."""
    async with GitHub(api_url=url, token="ghs_revoked", renew=renew) as github:
        question = github.api.repos.get
        pages = await asyncio.gather(
            *(github.call(question, "acme", "anvil") for _ in range(QUESTIONS))
        )
        pages.append(await github.call(question, "acme", "anvil"))
        return [page.body["id"] for page in pages]


def test_requests_that_are_refused_together_make_one_renewal(
    sandbox: SandboxServer, renewals: list[str]
) -> None:
    """A fetch sends seven requests at once, and must lose none of them to an expired token."""
    repository = sandbox.world.add_repository("acme/anvil", private=True)

    async def renew() -> str:
        renewals.append(DEFAULT_TOKEN)
        return DEFAULT_TOKEN

    answers = asyncio.run(ask(sandbox.url, renew))

    assert (answers, renewals) == ([repository.id] * (QUESTIONS + 1), [DEFAULT_TOKEN])


def test_second_refusal_is_believed(sandbox: SandboxServer, renewals: list[str]) -> None:
    """Otherwise the renewals would never end."""

    async def renew() -> str:
        renewals.append(f"ghs_{len(renewals)}")
        return renewals[-1]

    with pytest.raises(CredentialRejectedError):
        asyncio.run(ask(sandbox.url, renew))

    assert renewals == ["ghs_0"]


def test_renewal_that_fails_says_why(sandbox: SandboxServer) -> None:
    """A short outage of GitHub must not look like a revoked token."""

    async def renew() -> str:
        raise RetrySoonError("GitHub answered 502")

    with pytest.raises(RetrySoonError, match="answered 502"):
        asyncio.run(ask(sandbox.url, renew))


REPOSITORY = "/repos/acme/anvil$"


@pytest.fixture
def acme(sandbox: SandboxServer) -> SandboxServer:
    sandbox.world.add_repository("acme/anvil", private=True)
    return sandbox


def refuse(acme: SandboxServer, *, path: str = REPOSITORY, **options: object) -> None:
    """Answer 401, with the budget of those who ask without a token, as GitHub does."""
    budget = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "55"}
    fault = {"kind": "status", "path": path, "status": 401, "headers": budget, **options}
    acme.faults.add(Fault.from_json(fault))


async def converse(url: str, *, times: int = 1, token: str = DEFAULT_TOKEN) -> GitHub:
    """Ask the same several times at once; return the conversation."""
    async with GitHub(api_url=url, token=token) as github:
        question = github.api.repos.get
        await asyncio.gather(*(github.call(question, "acme", "anvil") for _ in range(times)))
        return github


def list_paths(sandbox: SandboxServer) -> list[str]:
    return [request.path for request in sandbox.requests]


def test_good_token_that_is_refused_once_is_asked_with_again(acme: SandboxServer) -> None:
    """GitHub does so sometimes, and once all merges of the team waited for an operator."""
    refuse(acme, times=1)

    github = asyncio.run(converse(acme.url))

    assert list_paths(acme) == ["/repos/acme/anvil", "/rate_limit", "/repos/acme/anvil"]
    assert github.requests_made == 3


def test_budget_beside_a_refusal_is_not_that_of_the_token(acme: SandboxServer) -> None:
    """The limit of 60 in such an answer would stop all bulk work for an hour."""
    refuse(acme, times=1)

    github = asyncio.run(converse(acme.url))

    assert github.budget.rate_limit is not None
    assert github.budget.rate_limit.limit == 5000


def test_requests_that_are_refused_together_ask_once_more_together(acme: SandboxServer) -> None:
    """After several refusals in a short time GitHub also refuses good tokens."""
    refuse(acme, times=QUESTIONS)

    asyncio.run(converse(acme.url, times=QUESTIONS))

    assert list_paths(acme).count("/rate_limit") == 1


def test_careful_conversation_confirms_without_a_free_slot(acme: SandboxServer) -> None:
    """The requests that wait for the answer occupy both slots."""
    refuse(acme, times=QUESTIONS)

    async def ask_carefully() -> None:
        async with GitHub(api_url=acme.url, token=DEFAULT_TOKEN, is_careful=True) as github:
            question = github.api.repos.get
            asked = (github.call(question, "acme", "anvil") for _ in range(QUESTIONS))
            await asyncio.wait_for(asyncio.gather(*asked), 60)

    asyncio.run(ask_carefully())

    assert list_paths(acme).count("/rate_limit") == 1


def test_one_refused_endpoint_is_no_refusal_of_the_token(acme: SandboxServer) -> None:
    """The token still reads everything else of the team."""
    refuse(acme)

    with pytest.raises(RetrySoonError, match="accepts it elsewhere"):
        asyncio.run(converse(acme.url))


def test_refusal_that_cannot_be_confirmed_is_not_believed(acme: SandboxServer) -> None:
    """The error of the confirmation says nothing about the token."""
    refuse(acme)
    acme.faults.add(Fault(FaultKind.STATUS, path="^/rate_limit", status=502))

    with pytest.raises(RetrySoonError, match="is unknown"):
        asyncio.run(converse(acme.url))


@pytest.mark.parametrize(
    ("is_known", "kind"),
    [
        pytest.param(True, RetrySoonError, id="good token"),
        pytest.param(False, CredentialRejectedError, id="revoked token"),
    ],
)
def test_server_without_limits_says_whether_it_accepts_a_token(
    acme: SandboxServer, is_known: bool, kind: type[Exception]
) -> None:
    """GitHub Enterprise answers 404 in place of limits that are switched off."""
    acme.world.add_token(Token("ghp_mine", limit_per_window=None))
    refuse(acme)
    if not is_known:
        refuse(acme, path="^/user$")

    with pytest.raises(kind):
        asyncio.run(converse(acme.url, token="ghp_mine"))

    assert "/user" in list_paths(acme)
