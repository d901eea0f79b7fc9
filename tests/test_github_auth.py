"""One conversation whose token is refused in the middle."""

import asyncio
from collections.abc import Callable

import pytest

from metrics_sync.exceptions import CredentialRejectedError, RetrySoonError
from metrics_sync.github import GitHub
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer

QUESTIONS = 7


@pytest.fixture
def renewals() -> list[str]:
    """What the new tokens are, newest last."""
    return []


async def ask(url: str, renew: Callable[[], object]) -> list[int]:
    """Ask seven things at once, and then one more, with a token that nobody issued."""
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
    """A fetch asks for seven things at once; none of them may be lost to an expired token."""
    repository = sandbox.world.add_repository("acme/anvil", private=True)

    async def renew() -> str:
        renewals.append(DEFAULT_TOKEN)
        return DEFAULT_TOKEN

    answers = asyncio.run(ask(sandbox.url, renew))

    assert (answers, renewals) == ([repository.id] * (QUESTIONS + 1), [DEFAULT_TOKEN])


def test_second_refusal_is_believed(sandbox: SandboxServer, renewals: list[str]) -> None:
    """Asking for one new token after the other would never end."""

    async def renew() -> str:
        renewals.append(f"ghs_{len(renewals)}")
        return renewals[-1]

    with pytest.raises(CredentialRejectedError):
        asyncio.run(ask(sandbox.url, renew))

    assert renewals == ["ghs_0"]


def test_renewal_that_fails_says_why(sandbox: SandboxServer) -> None:
    """A bad minute of GitHub must not look like a token that was taken away."""

    async def renew() -> str:
        raise RetrySoonError("GitHub answered 502")

    with pytest.raises(RetrySoonError, match="answered 502"):
        asyncio.run(ask(sandbox.url, renew))
