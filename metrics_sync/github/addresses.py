"""Keeps every request, and with it the token, at the API's own host."""

import httpx2

from metrics_sync.exceptions import GitHubError


class Origin:
    """The scheme, host and port of an API root, as HTTP compares them."""

    def __init__(self, api_url: str) -> None:
        self._parts = _read_parts(httpx2.URL(api_url))

    def move(self, url: str) -> str:
        """Return an address at this origin, with the path and query of the given one.

        `Link` of an Enterprise Server may name its pages by an inner host, or by another scheme.
        """
        try:
            target = httpx2.URL(url)
            scheme, host, port = self._parts
            return str(target.copy_with(scheme=scheme, host=host, port=port, userinfo=b""))
        except (httpx2.InvalidURL, ValueError, TypeError) as error:
            raise GitHubError("GitHub points to an address that cannot be read") from error

    def resolve(self, url: str, *, base: httpx2.URL | str = "") -> str:
        """Return the address in full. Raises GitHubError if it is at another origin."""
        try:
            target = httpx2.URL(base).join(url)
        except (httpx2.InvalidURL, ValueError) as error:
            raise GitHubError("GitHub points to an address that cannot be read") from error
        if _read_parts(target) != self._parts:
            raise GitHubError(f"GitHub points to another host ({target.netloc.decode()})")
        return str(target)


def _read_parts(url: httpx2.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port; httpx2 lowers their case and drops the usual port."""
    return url.scheme, url.host, url.port
