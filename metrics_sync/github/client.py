"""Sends the requests of one token to one GitHub API, and reads the answers page by page."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx2
import stamina
from ghapi.all import APIError

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
)
from metrics_sync.github.addresses import Origin
from metrics_sync.github.auth import TokenAuth
from metrics_sync.github.budget import Budget
from metrics_sync.github.errors import read_error, read_rate_limit
from metrics_sync.github.pages import Page, read_page
from metrics_sync.github.transport import open_pool, prepare_api

#: A fetch has seven things to ask for. GitHub allows 100 at once of a user or an installation, by
#: whatever processes: doctor multiplies this by the workers.
#: https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
CONCURRENT_REQUESTS = 10
#: How many at once after GitHub complained of too many.
CAREFUL_REQUESTS = 2
PER_PAGE = 100
#: How many pages of one list are asked for at once; they wait for a slot like all requests.
PAGES_AT_ONCE = 50
MAX_REDIRECTS = 3
#: How long one request may take in all, however steadily its answer drips.
REQUEST_SECONDS = 60


class GitHub:
    """The API as one token sees it; use it as an asynchronous context manager.

    With an empty token the requests carry none, which GitHub allows 60 times an hour for public
    data.
    Before each request `budget` is asked, which raises BudgetSpentError if GitHub is known to
    refuse. `renew` gets a new token, once, when GitHub refuses it.
    Every method raises a GitHubError that says what can be done.
    """

    def __init__(
        self,
        *,
        api_url: str,
        token: str,
        budget: Budget | None = None,
        renew: Callable[[], Awaitable[str]] | None = None,
        is_careful: bool = False,
    ) -> None:
        self.api = prepare_api(api_url)
        self.api_url = api_url.rstrip("/")
        self.requests_made = 0
        self.was_redirected = False
        self.budget = budget or Budget()
        self._has_token = bool(token)
        self._confirmation: asyncio.Future[bool] | None = None
        self._origin = Origin(api_url)
        self._auth = TokenAuth(token, renew=renew)
        self._slots = asyncio.Semaphore(CAREFUL_REQUESTS if is_careful else CONCURRENT_REQUESTS)
        self._pool = open_pool(self._auth)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._pool.__aexit__(error_type, error, traceback)

    def make_fingerprint(self) -> str:
        """Return a mark by which `recognizes` knows the token again, and nobody else learns it.

        GitHub's ETags belong to the token that asked (`Vary: Authorization`).
        """
        return self._auth.make_fingerprint()

    def recognizes(self, fingerprint: str) -> bool:
        """Whether a fingerprint was made from the present token."""
        return self._auth.recognizes(fingerprint)

    async def call(self, operation: Callable[..., Any], /, *route: Any, **query: Any) -> Page:
        """Call one of ghapi's operations, e.g. `github.api.pulls.get`.

        Asks once, and once more at once if the fault looks like a passing one.
        """
        async for attempt in stamina.retry_context(on=RetrySoonError, attempts=2, wait_max=0):
            with attempt:
                return await self._ask(operation, *route, **query)
        raise AssertionError("retry_context returns or raises")

    async def get(self, path: str) -> Page:
        """Ask for a path below the API root that ghapi has no operation for."""
        return await self.call(self._get_url, f"{self.api_url}{path}")

    async def get_again(self, url: str, *, etag: str) -> Page:
        """Ask for an address again; an unchanged page costs no rate limit."""
        self._origin.resolve(url)
        return await self.call(self._get_url, url, headers_={"If-None-Match": etag})

    async def pages(
        self, operation: Callable[..., Any], /, *route: Any, **query: Any
    ) -> AsyncIterator[Page]:
        """Yield the pages of a list, following GitHub's `Link` to its end."""
        first = await self.call(operation, *route, per_page=PER_PAGE, **query)
        async for page in self.pages_from(first):
            yield page

    async def pages_from(self, page: Page) -> AsyncIterator[Page]:
        """Yield a page and those that follow it, one after the other."""
        yield page
        seen = {page.url}
        while page.next_url:
            [url] = self._check_unseen([self._origin.move(page.next_url)], seen)
            page = await self._get_page(url)
            yield page

    async def all_pages(
        self, operation: Callable[..., Any], /, *route: Any, **query: Any
    ) -> list[Page]:
        """Return the pages of a list in order, all but the first asked for at once."""
        return await self.all_pages_from(
            await self.call(operation, *route, per_page=PER_PAGE, **query)
        )

    async def all_pages_from(self, first: Page) -> list[Page]:
        """Return a page and all that follow it; those whose addresses are known at once."""
        pages, seen = [first], {first.url}
        while urls := self._list_following(pages[-1]):
            pages += await self._get_pages(self._check_unseen(urls, seen))
        return pages

    def _check_unseen(self, urls: list[str], seen: set[str]) -> list[str]:
        """Return the addresses and add them to those seen; raises if pages lead in a circle."""
        if not seen.isdisjoint(urls):
            raise RetrySoonError("a page of GitHub's list leads back to an earlier one")
        seen.update(urls)
        return urls

    async def _get_pages(self, urls: list[str]) -> list[Page]:
        """Get pages at once; when one fails, the others are cancelled."""
        tasks = [asyncio.create_task(self._get_page(url)) for url in urls]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _list_following(self, page: Page) -> list[str]:
        """Return the addresses of the next pages: several if `Link` numbers them, else one or none.

        A cursor leads to one page only, whatever page number stands beside it.
        """
        if page.next_url is None:
            return []
        urls = (page.next_url, page.last_url or page.next_url)
        first, last = (httpx2.URL(self._origin.move(url)) for url in urls)
        numbers = [url.params.get("page", "") for url in (first, last)]
        paths = {url.copy_remove_param("page") for url in (first, last)}
        if len(paths) > 1 or not all(map(str.isdecimal, numbers)):
            return [str(first)]
        low, high = map(int, numbers)
        pages = range(low, max(low, min(high, low + PAGES_AT_ONCE - 1)) + 1)
        return [str(first.copy_set_param("page", number)) for number in pages]

    async def _get_page(self, url: str) -> Page:
        return await self.call(self._get_url, url)

    async def _get_url(
        self, url: str, *, raw_: bool, headers_: dict[str, str] | None = None
    ) -> Any:
        transport: Any = self.api.transport
        return await transport.request("GET", url, headers=headers_ or {}, raw=raw_)

    async def _ask(self, operation: Callable[..., Any], /, *route: Any, **query: Any) -> Page:
        async with self._slots:
            for _ in range(MAX_REDIRECTS + 1):
                await self.budget.begin_request()
                self.requests_made += 1
                try:
                    async with asyncio.timeout(REQUEST_SECONDS):
                        response = await operation(*route, **query, raw_=True)
                    self._note_budget(response)
                    return read_page(response)
                except TimeoutError as error:
                    raise RetrySoonError(
                        f"GitHub's answer was not all there within {REQUEST_SECONDS} s"
                    ) from error
                except (APIError, httpx2.HTTPError, ValueError) as error:
                    # ghapi wraps some of what its HTTP library raises, as `cause`.
                    cause = error.__cause__ if isinstance(error, APIError) else error
                    if isinstance(cause, httpx2.HTTPStatusError):
                        self._note_budget(cause.response)
                        if cause.response.status_code == 304:
                            return Page(str(cause.response.url), is_unchanged=True)
                    location = self._read_redirect(cause)
                    if location is None:
                        raise await self._confirm(self._read_error(cause)) from error
                    self.was_redirected = True
                    operation, route, query = self._get_url, (location,), {}
                finally:
                    self.budget.end_request()
        raise GitHubError(f"GitHub redirected more than {MAX_REDIRECTS} times")

    def _note_budget(self, response: httpx2.Response) -> None:
        """Keep what an answer states; with 401 it is the budget of those who show no token."""
        if response.status_code != 401:
            self.budget.note(read_rate_limit(response, now=datetime.now(UTC)))

    def _read_error(self, cause: BaseException | None) -> GitHubError:
        error = read_error(cause, now=datetime.now(UTC))
        if isinstance(error, RateLimitedError):
            self.budget.wait_until = error.until
        return error

    async def is_accepted(self) -> bool:
        """Whether GitHub accepts the token, by a request that is free and needs no permission.

        A server without rate limits answers 404; it is then asked whose token this is. Raises the
        errors that leave it unknown: passing faults and rate limits.
        https://docs.github.com/en/rest/rate-limit/rate-limit
        """
        for operation in (self.api.rate_limit.get, self.api.users.get_authenticated):
            self.requests_made += 1
            try:
                await operation(raw_=True)
            except (APIError, httpx2.HTTPError, ValueError) as error:
                refusal = self._read_error(
                    error.__cause__ if isinstance(error, APIError) else error
                )
                if isinstance(refusal, CredentialRejectedError):
                    return False
                if isinstance(refusal, GoneError):
                    continue
                if not isinstance(refusal, PermissionMissingError):
                    raise refusal from error
            return True
        return True

    async def _confirm(self, error: GitHubError) -> GitHubError:
        """Return the error of a refused token, after asking once more in another way.

        GitHub answers 401 to good tokens now and then:
        https://github.com/taskcluster/taskcluster/pull/2731
        Requests that were refused together wait for one confirmation, which takes no slot.
        """
        if not self._has_token or not isinstance(error, CredentialRejectedError):
            return error
        if self._confirmation is None:
            self._confirmation = asyncio.ensure_future(self.is_accepted())
        try:
            is_accepted = await asyncio.shield(self._confirmation)
        except GitHubError as unknown:
            return RetrySoonError(f"{error}; whether it really does not is unknown ({unknown})")
        if not is_accepted:
            return error
        return RetrySoonError(f"{error}, but accepts it elsewhere")

    def _read_redirect(self, error: BaseException | None) -> str | None:
        """Return the new address of a renamed repository; ghapi raises on 3xx as on other statuses.

        https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
        """
        if not isinstance(error, httpx2.HTTPStatusError):
            return None
        response = error.response
        # A POST that is repeated elsewhere as a GET would look as if it had worked.
        if not response.has_redirect_location or response.request.method != "GET":
            return None
        return self._origin.resolve(response.headers["location"], base=response.url)
