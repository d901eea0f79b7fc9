"""How each of GitHub's error answers is translated, header by header."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.github.errors import (
    LONGEST_WINDOW,
    read_error,
    read_rate_limit,
    read_refusal,
)
from metrics_sync.snapshot import RateLimit

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
RESET = NOW + timedelta(minutes=20)
MINUTE = timedelta(minutes=1)

USED_UP = {
    "x-ratelimit-limit": "5000",
    "x-ratelimit-remaining": "0",
    "x-ratelimit-reset": str(int(RESET.timestamp())),
}
LEFT = {**USED_UP, "x-ratelimit-remaining": "4000"}


def answer(status: int, message: Any = "", **headers: str) -> httpx2.Response:
    """Build an answer of GitHub; headers are named like `retry_after`."""
    named = {name.replace("_", "-"): value.encode("latin-1") for name, value in headers.items()}
    return httpx2.Response(status, json={"message": message}, headers=named)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, CredentialRejectedError),
        (403, PermissionMissingError),
        (404, GoneError),
        (408, RetrySoonError),
        (409, RetrySoonError),
        (410, GoneError),
        (422, GitHubError),
        (425, RetrySoonError),
        (429, SecondaryLimitError),
        (451, GoneError),
        (500, RetrySoonError),
        (502, RetrySoonError),
        (503, RetrySoonError),
        (504, RetrySoonError),
    ],
)
def test_status_says_what_to_do(status: int, kind: type[GitHubError]) -> None:
    """Retrying a lasting error costs requests; giving up after a passing one costs data."""
    error = read_refusal(answer(status, "Nope"), now=NOW)

    assert type(error) is kind
    assert f"{status} Nope" in str(error)


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("message", ["API rate limit exceeded", ""])
def test_used_up_budget_says_until_when(status: int, message: str) -> None:
    """A request that is too early gets a token banned, and one too late delays every merge."""
    error = read_refusal(answer(status, message, **USED_UP), now=NOW)

    assert type(error) is RateLimitedError
    assert error.until == RESET


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("message", "headers", "until"),
    [
        pytest.param("slow down", {"retry_after": "90"}, NOW + 1.5 * MINUTE, id="retry after"),
        pytest.param(
            "slow down", {**USED_UP, "retry_after": "30"}, NOW + MINUTE / 2, id="retry after first"
        ),
        pytest.param("slow down", {"retry_after": " 5 "}, NOW + MINUTE / 12, id="spaces"),
        pytest.param("slow down", {"retry_after": "0"}, NOW + MINUTE, id="zero is no pause"),
        pytest.param("slow down", {"retry_after": "soon"}, NOW + MINUTE, id="not a number"),
        pytest.param("slow down", {"retry_after": "²"}, NOW + MINUTE, id="no such number"),
        pytest.param("slow down", {"retry_after": "9" * 20}, NOW + MINUTE, id="for ever"),
        pytest.param("slow down", {"retry_after": "86400"}, NOW + 120 * MINUTE, id="a day"),
        pytest.param(
            "slow down",
            {"retry_after": "Mon, 02 Mar 2026 12:05:00 GMT"},
            NOW + 5 * MINUTE,
            id="a date",
        ),
        pytest.param(
            "slow down",
            {"retry_after": "Mon, 02 Mar 2026 13:05:00 +0100"},
            NOW + 5 * MINUTE,
            id="a date elsewhere",
        ),
        pytest.param(
            "slow down",
            {"retry_after": "Mon, 02 Mar 2026 11:05:00 GMT"},
            NOW + MINUTE,
            id="a date that is over",
        ),
        pytest.param(
            "slow down",
            {"retry_after": "Fri, 31 Dec 9999 23:59:59 -2359"},
            NOW + MINUTE,
            id="no date of a calendar",
        ),
        pytest.param("You have exceeded a secondary rate limit", LEFT, NOW + MINUTE, id="said"),
        pytest.param(
            "You have triggered an abuse detection mechanism. Please wait a few minutes",
            {},
            NOW + MINUTE,
            id="said of old",
        ),
        pytest.param(
            "API Rate Limit Exceeded for 192.0.2.7", {}, NOW + MINUTE, id="primary, no headers"
        ),
        pytest.param(
            "API rate limit exceeded for user ID 1",
            {**USED_UP, "x-ratelimit-reset": "4102444800"},
            NOW + MINUTE,
            id="until the year 2100",
        ),
        pytest.param(
            "Forbidden",
            {**USED_UP, "x-ratelimit-reset": "4102444800"},
            NOW + MINUTE,
            id="nothing left until the year 2100",
        ),
        pytest.param(
            "Maximum number of login attempts exceeded. Please try again later.",
            {},
            NOW + MINUTE,
            id="refused too often",
        ),
    ],
)
def test_secondary_limit_says_until_when(
    status: int, message: str, headers: dict[str, str], until: datetime
) -> None:
    """This limit does not end with the hour, and requires less concurrency."""
    error = read_refusal(answer(status, message, **headers), now=NOW)

    assert type(error) is SecondaryLimitError
    assert error.until == until


def test_limit_is_known_by_the_page_that_explains_it() -> None:
    """GitHub changes the words of its messages."""
    page = (
        "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#secondary-rate-limits"
    )
    body = {"message": "Too quick", "documentation_url": page}

    error = read_refusal(httpx2.Response(403, json=body), now=NOW)

    assert type(error) is SecondaryLimitError


SIGN_ON = "https://github.com/orgs/rate-limit-abuse/sso?authorization_request=AZSCKtL4U8yX1H3s"


@pytest.mark.parametrize(
    ("message", "headers", "said"),
    [
        pytest.param(
            "Although you appear to have the correct authorization credentials, the `abuse` "
            "organization has an IP allow list enabled, and your IP address is not permitted to "
            "access this resource.",
            {},
            "IP allow list",
            id="IP allow list",
        ),
        pytest.param(
            "Resource protected by organization SAML enforcement. You must grant your Personal "
            "Access token access to this organization.",
            {"x_github_sso": f"required; url={SIGN_ON}"},
            f"within the hour at {SIGN_ON}",
            id="single sign-on",
        ),
        pytest.param(
            "Resource protected by organization SAML enforcement.",
            {**USED_UP, "x_github_sso": "required; url=javascript:alert(1)"},
            "single sign-on",
            id="single sign-on at no address, with the last request",
        ),
        pytest.param(
            "`rate-limit` forbids access via a personal access token (classic). Please use a "
            "GitHub App. This is no secondary rate limit.",
            {},
            "forbids access",
            id="an organization that is called so",
        ),
    ],
)
def test_refused_access_is_no_limit_whatever_words_it_holds(
    message: str, headers: dict[str, str], said: str
) -> None:
    """Otherwise the fetch would wait for ever, and nobody would learn what to grant."""
    error = read_refusal(answer(403, message, **headers), now=NOW)

    assert type(error) is PermissionMissingError
    assert said in str(error)
    assert "javascript" not in str(error)


def test_reset_in_the_past_means_a_while() -> None:
    """Our clock is ahead of GitHub's, and repeated requests get a token banned."""
    error = read_refusal(answer(403, **USED_UP), now=RESET + MINUTE)

    assert isinstance(error, RateLimitedError)
    assert error.until == RESET + 2 * MINUTE


@pytest.mark.parametrize("headers", [{}, LEFT], ids=["no budget stated", "budget left"])
def test_missing_permission_is_named(headers: dict[str, str]) -> None:
    """The operator must read which permission to grant."""
    error = read_refusal(
        answer(
            403,
            "Resource not accessible by integration",
            x_accepted_github_permissions="checks=read",
            **headers,
        ),
        now=NOW,
    )

    assert isinstance(error, PermissionMissingError)
    assert "checks=read" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>502</html>", id="HTML"),
        pytest.param(b"", id="empty"),
        pytest.param(b'["502"]', id="a list"),
        pytest.param(b'{"message": null}', id="no message"),
        pytest.param(b"\xff", id="not UTF-8"),
    ],
)
def test_answer_without_a_message_is_called_by_its_name(body: bytes) -> None:
    """Proxies in front of GitHub answer with pages of their own."""
    error = read_refusal(httpx2.Response(502, content=body), now=NOW)

    assert str(error) == "GitHub answered 502 Bad Gateway"


def test_message_is_what_the_row_can_hold() -> None:
    """PostgreSQL refuses a NUL, and the row would not show why its fetch failed."""
    response = httpx2.Response(502, content=b'{"message": "a\\u0000b\\ud800"}')

    error = read_refusal(response, now=NOW)

    assert str(error) == "GitHub answered 502 ab?"


def test_long_message_is_cut() -> None:
    """It is shown in a cell of a table."""
    assert len(str(read_refusal(answer(500, "a" * 10_000), now=NOW))) < 350


def refuse(response: httpx2.Response) -> httpx2.HTTPStatusError:
    request = httpx2.Request("GET", "https://api.github.com/", headers={"Authorization": "secret"})
    return httpx2.HTTPStatusError("refused", request=request, response=response)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        pytest.param(httpx2.ConnectError("refused"), "no answer from GitHub (refused)", id="down"),
        pytest.param(httpx2.ReadTimeout(""), "no answer from GitHub (ReadTimeout)", id="timeout"),
        pytest.param(
            httpx2.RemoteProtocolError("cut off"), "no answer from GitHub (cut off)", id="cut off"
        ),
        pytest.param(
            json.JSONDecodeError("Expecting value", "<html>", 0),
            "unreadable answer from GitHub (JSONDecodeError: Expecting value",
            id="not JSON",
        ),
        pytest.param(None, "unreadable answer from GitHub", id="nothing known"),
        pytest.param(refuse(answer(502, "Server Error")), "GitHub answered 502", id="refused"),
    ],
)
def test_passing_faults_may_be_retried(raised: Exception | None, said: str) -> None:
    """The reason on the row must tell a broken connection from a broken proxy."""
    error = read_error(raised, now=NOW)

    assert type(error) is RetrySoonError
    assert str(error).startswith(said)


def test_refusal_is_read_from_its_answer_and_quotes_no_token() -> None:
    """The row keeps the text, and the whole team can read it."""
    error = read_error(refuse(answer(401, "Bad credentials")), now=NOW)

    assert type(error) is CredentialRejectedError
    assert "secret" not in str(error)


def test_budget_is_read_from_the_headers() -> None:
    """Bulk work stops when few requests are left."""
    assert read_rate_limit(answer(200, **LEFT), now=NOW) == RateLimit(
        limit=5000, remaining=4000, resets_at=RESET
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in USED_UP for value in ("", "many", "1e3")),
        pytest.param("x-ratelimit-limit", "0", id="no request in an hour"),
        pytest.param("x-ratelimit-limit", "-1", id="less than none"),
        pytest.param("x-ratelimit-reset", "4102444800", id="reset in the year 2100"),
        pytest.param("x-ratelimit-reset", "9" * 12, id="reset after the year 9999"),
        pytest.param("x-ratelimit-reset", "9" * 30, id="reset beyond all clocks"),
    ],
)
def test_budget_that_cannot_be_read_is_unknown(name: str, value: str) -> None:
    """Unknown is not zero: a zero would stop all work with that token."""
    assert read_rate_limit(answer(200, **{**LEFT, name: value}), now=NOW) is None


@pytest.mark.parametrize(
    ("limit", "remaining", "read"),
    [
        pytest.param("5000", "-7", (5000, 0), id="less than nothing left"),
        pytest.param("5000", "5001", (5000, 5000), id="more left than there was"),
        pytest.param("9" * 12, "9" * 12, (2**31 - 1, 2**31 - 1), id="more than a column holds"),
    ],
)
def test_budget_is_what_the_columns_hold(limit: str, remaining: str, read: tuple[int, int]) -> None:
    """The database once refused the number, and the whole fetch was lost."""
    headers = {**LEFT, "x-ratelimit-limit": limit, "x-ratelimit-remaining": remaining}

    stated = read_rate_limit(answer(200, **headers), now=NOW)

    assert stated is not None
    assert (stated.limit, stated.remaining) == read


@pytest.mark.parametrize("name", USED_UP)
def test_budget_that_is_not_stated_is_unknown(name: str) -> None:
    """GitHub Enterprise may state none."""
    headers = {key: value for key, value in LEFT.items() if key != name}

    assert read_rate_limit(answer(200, **headers), now=NOW) is None


header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
number_values = st.integers(-(10**20), 10**20).map(str)


@settings(deadline=None)
@given(
    st.sampled_from([403, 429]) | st.integers(400, 599),
    st.dictionaries(
        st.sampled_from([*USED_UP, "retry-after", "x-accepted-github-permissions", "x-github-sso"]),
        number_values | header_values,
    ),
    st.binary(max_size=50),
)
def test_every_refusal_is_an_error_with_a_way_out(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    """A proxy may change headers in any way, and the worker must not crash."""
    response = httpx2.Response(status, content=body, headers=headers)

    error = read_refusal(response, now=NOW)

    assert isinstance(error, GitHubError)
    assert not isinstance(error, RateLimitedError) or NOW < error.until <= NOW + LONGEST_WINDOW
