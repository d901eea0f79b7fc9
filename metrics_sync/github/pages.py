"""One answer of GitHub's REST API, with what its headers say of it."""

from typing import Any, NamedTuple

import httpx2

from metrics_sync.snapshot import clean_json


class Page(NamedTuple):
    """One answer: its JSON, its address, and the ETag with which an unchanged one is free.

    An unchanged page (304) has no body.
    """

    url: str
    body: Any = None
    next_url: str | None = None
    last_url: str | None = None
    etag: str = ""
    is_unchanged: bool = False
    #: When GitHub answered, by its own clock, in HTTP's format.
    date: str = ""
    #: What a classic token may do; GitHub does not say it of other tokens.
    scopes: str = ""
    #: The seconds that GitHub wants us to wait, where an answer with 200 says so.
    retry_after: str = ""
    #: What an answer with 200 says of single sign-on, such as the address to authorize a token.
    sign_on: str = ""

    @property
    def items(self) -> list[Any]:
        """The items of a list. Raises TypeError for other bodies, such as an object."""
        if not isinstance(self.body, list):
            raise TypeError(f"{type(self.body).__name__} in place of a list")
        return self.body


def read_page(response: httpx2.Response) -> Page:
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
