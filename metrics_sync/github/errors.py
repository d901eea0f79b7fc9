"""What to do about an answer that is not the one asked for; pure."""

import re
from datetime import UTC, datetime, timedelta

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
from metrics_sync.snapshot import RateLimit, read_text

#: How long to wait where GitHub asks to wait and does not say how long.
#: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
UNKNOWN_PAUSE = timedelta(seconds=60)

NO_COMMIT = "No commit found for SHA"


def read_error(error: BaseException | None, *, now: datetime) -> GitHubError:
    """Translate what the HTTP library raised into what the caller can do about it.

    The message says what happened in one line and never quotes a header or a token.
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


def read_rate_limit(response: httpx2.Response) -> RateLimit | None:
    """Read the budget that an answer states; GitHub Enterprise may state none."""
    headers = response.headers
    try:
        return RateLimit(
            limit=int(headers["x-ratelimit-limit"]),
            remaining=int(headers["x-ratelimit-remaining"]),
            resets_at=datetime.fromtimestamp(int(headers["x-ratelimit-reset"]), UTC),
        )
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def read_pause(retry_after: str) -> timedelta:
    """Read for how long GitHub wants us to wait, of the header of that name."""
    # Anything but seconds of a day or so is not GitHub's, and means nothing.
    seconds = int(retry_after) if re.fullmatch("[0-9]{1,5}", retry_after) else 0
    return timedelta(seconds=seconds) or UNKNOWN_PAUSE


def _read_forbidden(
    response: httpx2.Response, *, said: str, message: str, now: datetime
) -> GitHubError:
    headers = response.headers
    if retry_after := headers.get("retry-after", "").strip():
        until = now + read_pause(retry_after)
        return SecondaryLimitError(f"secondary rate limit ({said})", until=until)
    rate_limit = read_rate_limit(response)
    if rate_limit is not None and rate_limit.remaining == 0:
        # A reset in the past means that our clock is ahead of GitHub's, by we know not how much.
        is_past = rate_limit.resets_at <= now
        until = now + UNKNOWN_PAUSE if is_past else rate_limit.resets_at
        return RateLimitedError(f"rate limit ({said})", until=until)
    lower = message.lower()
    if response.status_code == 429 or "rate limit" in lower or "abuse" in lower:
        until = now + UNKNOWN_PAUSE
        return SecondaryLimitError(f"secondary rate limit ({said})", until=until)
    needed = headers.get("x-accepted-github-permissions")
    hint = f"; the token needs: {needed}" if needed else ""
    return PermissionMissingError(f"the token may not read this ({said}){hint}")


def _read_message(response: httpx2.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return response.reason_phrase
    message = body.get("message") if isinstance(body, dict) else None
    return read_text(str(message or response.reason_phrase))[:300]
