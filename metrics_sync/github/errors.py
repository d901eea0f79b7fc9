"""Translates GitHub's errors, and those of the HTTP library, into ours; pure."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx2

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
    SecondaryLimitError,
)
from metrics_sync.snapshot import Json, RateLimit, read_text

#: How long to wait where GitHub asks to wait and does not say how long.
#: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
UNKNOWN_PAUSE = timedelta(seconds=60)
#: GitHub counts by the hour. A window that ends later than this cannot be GitHub's, and no pause is
#: longer.
LONGEST_WINDOW = timedelta(hours=2)
#: The largest number that the columns for numbers of requests hold.
MOST_REQUESTS = 2**31 - 1

#: How GitHub's own sentences about limits begin, in lower case. Further on in a message the same
#: words may be part of a name. The last one follows several requests with a refused token.
#: https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api#failed-login-limit
LIMITS = (
    "you have exceeded a secondary rate limit",
    "you have triggered an abuse detection mechanism",
    "api rate limit exceeded",
    "api rate limit already exceeded",
    "maximum number of login attempts exceeded",
)
#: How the documentation's addresses end that GitHub adds to such sentences.
LIMIT_PAGES = ("secondary-rate-limits", "abuse-rate-limits")

NO_COMMIT = "No commit found for SHA"


def read_error(error: BaseException | None, *, now: datetime) -> GitHubError:
    """Translate what the HTTP library raised into an error that says what the caller can do.

    The message says what happened in one line and never quotes a token. It names the missing
    permissions, and the address where a token is authorized for single sign-on.
    """
    if isinstance(error, httpx2.HTTPStatusError):
        return read_refusal(error.response, now=now)
    if isinstance(error, httpx2.RequestError):
        return RetrySoonError(f"no answer from GitHub ({str(error) or type(error).__name__})")
    return RetrySoonError(f"unreadable answer from GitHub ({type(error).__name__}: {error})")


def read_refusal(response: httpx2.Response, *, now: datetime) -> GitHubError:
    """Translate an HTTP answer that is neither 2xx nor 304."""
    status, message = response.status_code, _read_message(response)
    said = f"{status} {message}".strip()
    if status in (403, 429):
        return _read_forbidden(response, said=said, message=message, now=now)
    if status == 401:
        return CredentialRejectedError(f"GitHub does not accept the token ({said})")
    # Where the commit is not there, GitHub answers 422 in place of 404.
    if status in (404, 410, 451) or (status == 422 and message.startswith(NO_COMMIT)):
        return GoneError(f"not there, or not visible to this token ({said})")
    if status >= 500 or status in (408, 409, 425):
        return RetrySoonError(f"GitHub answered {said}")
    return GitHubError(f"GitHub answered {said}")


def is_limit(body: Json) -> bool:
    """Whether a refusal says, in GitHub's own words, that we asked too much."""
    page = str(body.get("documentation_url") or "")
    return str(body.get("message") or "").lower().startswith(LIMITS) or page.endswith(LIMIT_PAGES)


def read_rate_limit(response: httpx2.Response, *, now: datetime) -> RateLimit | None:
    """Read the rate limit that an answer states; None if it states none, or an impossible one.

    GitHub Enterprise Server may have no rate limits.
    """
    headers = response.headers
    try:
        limit = min(int(headers["x-ratelimit-limit"]), MOST_REQUESTS)
        remaining = int(headers["x-ratelimit-remaining"])
        resets_at = datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    if limit < 1 or resets_at > now + LONGEST_WINDOW:
        return None
    return RateLimit(limit, max(0, min(remaining, limit)), resets_at)


def read_pause(retry_after: str, *, now: datetime) -> timedelta:
    """Read from the header of that name how long GitHub wants us to wait.

    HTTP allows seconds or a date. Anything else, or a date in the past, is a pause of unknown
    length.
    """
    if re.fullmatch("[0-9]{1,9}", retry_after):
        pause = timedelta(seconds=int(retry_after))
    else:
        try:
            pause = parsedate_to_datetime(retry_after).astimezone(UTC) - now
        except (ValueError, OverflowError):
            return UNKNOWN_PAUSE
    return min(pause, LONGEST_WINDOW) if pause > timedelta(0) else UNKNOWN_PAUSE


def read_sign_on(header: str) -> str:
    """Read the address where a token is authorized for single sign-on; it works for an hour.

    https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api#personal-access-tokens-and-saml-sso
    """
    found = re.search(r"\burl=(https://[!-~]{1,500})", header)
    return f"; do it within the hour at {found[1]}" if found else ""


def _read_forbidden(
    response: httpx2.Response, *, said: str, message: str, now: datetime
) -> GitHubError:
    headers = response.headers
    if sign_on := headers.get("x-github-sso"):
        return PermissionMissingError(
            f"the organization wants the token to be authorized for single sign-on ({said})"
            f"{read_sign_on(sign_on)}"
        )
    if retry_after := headers.get("retry-after", "").strip():
        until = now + read_pause(retry_after, now=now)
        return SecondaryLimitError(f"secondary rate limit ({said})", until=until)
    rate_limit = read_rate_limit(response, now=now)
    if rate_limit is not None and rate_limit.remaining == 0:
        # A reset in the past means that our clock is ahead of GitHub's, by an unknown time.
        is_past = rate_limit.resets_at <= now
        until = now + UNKNOWN_PAUSE if is_past else rate_limit.resets_at
        return RateLimitedError(f"rate limit ({said})", until=until)
    is_used_up = headers.get("x-ratelimit-remaining", "").strip() == "0"
    if response.status_code == 429 or is_used_up or is_limit(_read_body(response)):
        until = now + UNKNOWN_PAUSE
        return SecondaryLimitError(f"rate limit of unknown length ({said})", until=until)
    needed = headers.get("x-accepted-github-permissions")
    hint = f"; the token needs: {needed}" if needed else ""
    return PermissionMissingError(f"the token may not read this ({said}){hint}")


def _read_body(response: httpx2.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _read_message(response: httpx2.Response) -> str:
    """Return GitHub's message; for values that it does not take, with what is wrong with them.

    https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed
    """
    body = _read_body(response)
    message = str(body.get("message") or response.reason_phrase)
    errors = body.get("errors")
    items = [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
    reasons = [str(item["message"]) for item in items if item.get("message")]
    return read_text(": ".join([message, *reasons]))[:300]
