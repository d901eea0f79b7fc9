"""One token's conversation with one GitHub API, over one pool of kept-open connections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import httpx2
import stamina
from ghapi.all import APIError, GhApi

from metrics_sync.exceptions import (
    CredentialRejectedError,
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
)
from metrics_sync.github.auth import TokenAuth
from metrics_sync.github.endpoints import name_endpoint
from metrics_sync.github.errors import read_error, read_rate_limit
from metrics_sync.observe import counting
from metrics_sync.snapshot import RateLimit, clean_json

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
TIMEOUT = httpx2.Timeout(20, connect=5)
#: How long one request may take in all, however steadily its answer drips.
REQUEST_SECONDS = 60
HEADERS = {"User-Agent": "metrics_sync", "X-GitHub-Api-Version": "2022-11-28"}

_pool: ContextVar[httpx2.AsyncClient] = ContextVar("_pool")


class _PoolOfThisFetch:
    """Stands where ghapi keeps its one client, and hands requests to the running fetch's pool."""

    async def request(self, method: str, url: str, **options: Any) -> httpx2.Response:
        outcome = "no answer"
        try:
            response = await _pool.get().request(method, url, **options)
            outcome = str(response.status_code)
            return response
        finally:
            counting.count("github_requests", endpoint=name_endpoint(url), outcome=outcome)


@cache
def _tls_context() -> Any:
    return httpx2.create_ssl_context()


def load_http() -> None:
    """Load what httpx2 itself loads only when it connects: a worker calls this before it forks.

    Not to be called while an event loop runs.
    """
    import h2.connection  # noqa: F401  (for HTTP/2)

    anyio.run(anyio.sleep, 0)


@cache
def prepare_api(api_url: str) -> GhApi:
    """Build ghapi's client for an API root, once per process.

    It takes 0.15 s (some 1,200 operations), so workers call this before they fork. It holds no
    token: ghapi would take GITHUB_TOKEN of the environment, which is some other team's.
    """
    _tls_context()
    api = GhApi(gh_host=api_url, authenticate=False)  # type: ignore[no-untyped-call]
    api.transport.client = _PoolOfThisFetch()
    api.transport.retries = 0
    return api


class Page(NamedTuple):
    """One answer: its JSON, where it came from, and what to name to have it again for free.

    An unchanged one (304) has no body: we have had it before.
    """

    url: str
    body: Any = None
    next_url: str | None = None
    last_url: str | None = None
    etag: str = ""
    is_unchanged: bool = False
    #: When GitHub answered, by its own clock and as HTTP writes it.
    date: str = ""
    #: What a classic token may do; empty for others, which do not say.
    scopes: str = ""
    #: For how many seconds GitHub wants us to wait, where it says so in an answer with 200.
    retry_after: str = ""
    #: What an answer with 200 says of single sign-on, such as where a token is authorized.
    sign_on: str = ""

    @property
    def items(self) -> list[Any]:
        """The items of a list. Raises TypeError for what only can be iterated, like an object."""
        if not isinstance(self.body, list):
            raise TypeError(f"{type(self.body).__name__} in place of a list")
        return self.body


class GitHub:
    """The API as one token sees it; use it as an asynchronous context manager.

    An empty token asks without one, which GitHub allows 60 times an hour for public data.
    `take_request` is awaited before each request, is told what GitHub said last of the budget,
    and may raise RateLimitedError instead of letting the request be sent. `renew` gets a
    new token, once, when GitHub refuses it.
    Every method raises a GitHubError that says what can be done.
    """

    def __init__(
        self,
        *,
        api_url: str,
        token: str,
        take_request: Callable[[RateLimit | None], Awaitable[None]] | None = None,
        renew: Callable[[], Awaitable[str]] | None = None,
        is_careful: bool = False,
    ) -> None:
        self.api = prepare_api(api_url)
        self.api_url = api_url.rstrip("/")
        self.requests_made = 0
        self.was_redirected = False
        self.rate_limit: RateLimit | None = None
        self._take_request = take_request
        self._in_flight = 0
        self._has_token = bool(token)
        self._confirmation: asyncio.Future[bool] | None = None
        self._wait_until: datetime | None = None
        self._origin = _read_origin(httpx2.URL(api_url))
        self._auth = TokenAuth(token, renew=renew)
        self._slots = asyncio.Semaphore(CAREFUL_REQUESTS if is_careful else CONCURRENT_REQUESTS)
        # Over HTTP/2, where it is spoken, all requests share one connection and one handshake.
        self._client = httpx2.AsyncClient(
            http2=True,
            headers=HEADERS,
            auth=self._auth,
            timeout=TIMEOUT,
            verify=_tls_context(),
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        self._pool_token = _pool.set(self._client)
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _pool.reset(self._pool_token)
        await self._client.__aexit__(error_type, error, traceback)

    def make_fingerprint(self) -> str:
        """Return what recognizes the token whose ETags these are; it does not tell the token.

        GitHub's ETags belong to the token that asked (`Vary: Authorization`).
        """
        return self._auth.make_fingerprint()

    def recognizes(self, fingerprint: str) -> bool:
        """Whether a fingerprint is of the token that asks now."""
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
        """Ask for an address that we have had; an unchanged one costs no rate limit."""
        self._check_origin(url)
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
            [url] = self._check_unseen([self._move_to_own_root(page.next_url)], seen)
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
        """Return a page and all that follow it; those that it knows of are asked for at once."""
        pages, seen = [first], {first.url}
        while urls := self._list_following(pages[-1]):
            pages += await self._get_pages(self._check_unseen(urls, seen))
        return pages

    def _check_unseen(self, urls: list[str], seen: set[str]) -> list[str]:
        """Return addresses that are new, and remember them; pages may lead in a circle."""
        if not seen.isdisjoint(urls):
            raise RetrySoonError("a page of GitHub's list leads back to an earlier one")
        seen.update(urls)
        return urls

    async def _get_pages(self, urls: list[str]) -> list[Page]:
        """Get pages at once; when one fails, the others are given up with it."""
        tasks = [asyncio.create_task(self._get_page(url)) for url in urls]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _list_following(self, page: Page) -> list[str]:
        """Return where the next pages are: several where `Link` numbers them, else one or none.

        A cursor leads to one page only, whatever number stands beside it.
        """
        if page.next_url is None:
            return []
        urls = (page.next_url, page.last_url or page.next_url)
        first, last = (httpx2.URL(self._move_to_own_root(url)) for url in urls)
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
                if self._take_request is not None:
                    await self._take_request(self.rate_limit)
                self._check_budget()
                self.requests_made += 1
                self._in_flight += 1
                try:
                    async with asyncio.timeout(REQUEST_SECONDS):
                        response = await operation(*route, **query, raw_=True)
                    self._note_budget(response)
                    return _read_page(response)
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
                    self._in_flight -= 1
        raise GitHubError(f"GitHub redirected more than {MAX_REDIRECTS} times")

    def _check_budget(self) -> None:
        """Send nothing that GitHub is known to refuse: going on asking gets a token banned.

        What has no answer yet counts as if it was not in the last answer's remainder.
        """
        now, until, budget = datetime.now(UTC), self._wait_until, self.rate_limit
        if budget is not None and budget.remaining <= self._in_flight and budget.resets_at > now:
            until = max(until or now, budget.resets_at)
        if until is not None and until > now:
            message = f"the rate limit is used up until {until:%Y-%m-%d %H:%M} UTC"
            raise RateLimitedError(message, until=until)

    def _note_budget(self, response: httpx2.Response) -> None:
        """Keep what an answer states; of one window the least, as answers overtake each other.

        With 401 GitHub states the budget of those who ask without a token.
        """
        if response.status_code == 401:
            return
        stated, budget = read_rate_limit(response, now=datetime.now(UTC)), self.rate_limit
        if stated is None:
            return
        if budget is not None and budget.resets_at == stated.resets_at:
            stated = min(stated, budget, key=lambda one: one.remaining)
        self.rate_limit = stated

    def _read_error(self, cause: BaseException | None) -> GitHubError:
        error = read_error(cause, now=datetime.now(UTC))
        if isinstance(error, RateLimitedError):
            self._wait_until = error.until
        return error

    async def is_accepted(self) -> bool:
        """Whether GitHub accepts the token, asked with what costs nothing and needs no permission.

        A server whose limits are switched off answers 404 for them; it is asked whose token this
        is. Raises what leaves it unknown: passing faults and rate limits.
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
        """Return what a refusal of the token comes to after asking once more, in another way.

        GitHub answers 401 to good tokens now and then:
        https://github.com/taskcluster/taskcluster/pull/2731
        Requests that were refused together wait for one answer, and take no slot for it.
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
        """Return where a renamed repository went; ghapi raises on 3xx as on any other status.

        https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
        """
        if not isinstance(error, httpx2.HTTPStatusError):
            return None
        response = error.response
        # A POST that is repeated elsewhere as a GET would look as if it had been taken.
        if not response.has_redirect_location or response.request.method != "GET":
            return None
        return self._check_origin(response.headers["location"], base=response.url)

    def _move_to_own_root(self, url: str) -> str:
        """Return where a page is at the API root that we ask.

        `Link` of an Enterprise Server may name it by an inner host, or by another scheme. The
        token is taken to no other host than its own.
        """
        try:
            target = httpx2.URL(url)
            scheme, host, port = self._origin
            return str(target.copy_with(scheme=scheme, host=host, port=port, userinfo=b""))
        except (httpx2.InvalidURL, ValueError, TypeError) as error:
            raise GitHubError("GitHub points to an address that cannot be read") from error

    def _check_origin(self, url: str, *, base: httpx2.URL | str = "") -> str:
        """Return the address in full; refuse to take the token to any API but its own."""
        try:
            target = httpx2.URL(base).join(url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise GitHubError("GitHub points to an address that cannot be read") from error
        if _read_origin(target) != self._origin:
            raise GitHubError(f"GitHub points to another host ({target.netloc.decode()})")
        return str(target)


def _read_origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port as HTTP compares them: in any case, the usual port left out."""
    return url.scheme, url.host, url.port


def _read_page(response: httpx2.Response) -> Page:
    return Page(
        body=clean_json(response.json(), source=response.content),
        url=str(response.url),
        next_url=response.links.get("next", {}).get("url"),
        last_url=response.links.get("last", {}).get("url"),
        etag=response.headers.get("etag", ""),
        date=response.headers.get("date", ""),
        scopes=response.headers.get("x-oauth-scopes", ""),
        retry_after=response.headers.get("retry-after", "").strip(),
        sign_on=response.headers.get("x-github-sso", ""),
    )
