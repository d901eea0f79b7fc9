"""Finds the function that answers a request, and the repository that the request is about."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from metrics_sync.sandbox.answers import Answer, Document, refuse
from metrics_sync.sandbox.limits import Budget
from metrics_sync.sandbox.world import Delivery, Hook, Repository, Token, World

_BY_NAME = re.compile(r"/repos/(?P<full_name>[^/]+/[^/]+)(?P<rest>/.*)?$")
_BY_ID = re.compile(r"/repositories/(?P<id>\d+)(?P<rest>/.*)?$")


@dataclass(frozen=True)
class Ask:
    """One request as the routes see it.

    `root` is the API's address as this client wrote it, `path` is without it; `canonical_path`
    names the repository by its present name however it was asked for. `budget` is what the
    request is counted in, `points` that of GraphQL.
    """

    world: World
    method: str
    path: str
    root: str
    token: Token
    now: float
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    budget: Budget | None = None
    points: Budget | None = None
    repository: Repository | None = None
    canonical_path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    #: Deliveries that must be sent again after the route has answered.
    redeliveries: list[tuple[Hook, Delivery]] = field(default_factory=list)

    @property
    def repo(self) -> Repository:
        """The repository of a route below one."""
        if self.repository is None:
            raise LookupError(f"{self.path} is about no repository")
        return self.repository

    @property
    def link_url(self) -> str:
        """The address for `Link`, which never names a repository."""
        rest = self.path
        if self.repository is not None:
            names = f"/repos/{self.repository.full_name}"
            rest = f"/repositories/{self.repository.id}{self.canonical_path.removeprefix(names)}"
        return f"{self.root}{rest}"


Handler = Callable[[Ask], Answer]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    handler: Handler


class Routes:
    """A table of routes, to which a decorator adds functions."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def get(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._keep("GET", pattern)

    def post(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._keep("POST", pattern)

    def patch(self, pattern: str) -> Callable[[Handler], Handler]:
        return self._keep("PATCH", pattern)

    def _keep(self, method: str, pattern: str) -> Callable[[Handler], Handler]:
        def keep(handler: Handler) -> Handler:
            self._routes.append(Route(method, re.compile(f"{pattern}$"), handler))
            return handler

        return keep

    def answer(self, ask: Ask, rest: str) -> Answer:
        """Answer with the first route that matches, else 404."""
        for route in self._routes:
            match = route.pattern.match(rest)
            if match and route.method == ask.method:
                return route.handler(replace(ask, params=match.groupdict()))
        return refuse(404)


#: Routes of the API's root.
root_routes = Routes()
#: Routes below a repository, whether it was named or given by id.
repository_routes = Routes()


def locate(ask: Ask) -> Ask:
    """Return the question with its repository, if it is about one that exists."""
    match = _BY_NAME.match(ask.path)
    if match:
        repository = ask.world.find_repository(match["full_name"])
    else:
        match = _BY_ID.match(ask.path)
        repository = ask.world.repositories.get(int(match["id"])) if match else None
    if match is None or repository is None:
        return replace(ask, canonical_path=ask.path)
    canonical = f"/repos/{repository.full_name}{match['rest'] or ''}"
    return replace(ask, repository=repository, canonical_path=canonical)


def answer(ask: Ask) -> Answer:
    """Answer a located question; call it with the world's lock held."""
    repository = ask.repository
    if repository is None:
        return root_routes.answer(ask, ask.path)
    if repository.hidden or not ask.token.sees(repository):
        return refuse(404)
    by_name = _BY_NAME.match(ask.path)
    if by_name and by_name["full_name"].lower() != repository.full_name.lower():
        return _redirect(ask)
    rest = ask.canonical_path.removeprefix(f"/repos/{repository.full_name}")
    return repository_routes.answer(ask, rest)


def _redirect(ask: Ask) -> Document:
    """https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api"""
    url = ask.link_url + (f"?{urlencode(ask.query)}" if ask.query else "")
    body = {
        "message": "Moved Permanently",
        "url": url,
        "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
    }
    return Document(body, 301, {"Location": url})
