"""The operations that depend on the token: user, rate limit, repository, installation tokens."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jwt

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.answers import Answer, Document, Listing, refuse
from metrics_sync.sandbox.payloads import MADE_AT, build_installation
from metrics_sync.sandbox.routing import Ask, repository_routes, root_routes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import HOUR, Installation, Token

INTEGRATION = "Resource not accessible by integration"
UNDECODABLE = "A JSON web token could not be decoded"
LONGEST_APP_TOKEN = 600
PERMISSIONS = {
    "checks": "read",
    "contents": "read",
    "issues": "read",
    "metadata": "read",
    "pull_requests": "read",
    "statuses": "read",
}


@root_routes.get(r"/user")
def get_user(ask: Ask) -> Answer:
    """Return the user of the token; an installation's token has none."""
    if not ask.token.value:
        return refuse(401, "Requires authentication")
    if ask.token.value.startswith("ghs_"):
        return refuse(403, INTEGRATION)
    unknown = ("name", "company", "blog", "location", "email", "hireable", "bio")
    counts = ("public_repos", "public_gists", "followers", "following")
    profile = {**dict.fromkeys(unknown), **dict.fromkeys(counts, 0)}
    times = dict.fromkeys(("created_at", "updated_at"), MADE_AT)
    return Document({**shapes.user(ask.token.login), **profile, **times})


@root_routes.get(r"/rate_limit")
def get_rate_limit(ask: Ask) -> Answer:
    """Return the budgets, at no cost; an Enterprise server without limits answers 404."""
    if ask.budget is None or ask.points is None:
        return refuse(404, "Rate limiting is not enabled.")
    core = ask.budget.to_json()
    other = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
    resources = {"core": core, "search": other, "graphql": ask.points.to_json()}
    return Document({"resources": resources, "rate": core}, cost=0)


@repository_routes.get("")
def get_repository(ask: Ask) -> Answer:
    permissions = {"admin": False, "maintain": False, "push": False, "triage": False, "pull": True}
    counts = {"subscribers_count": 0, "network_count": 0}
    return Document({**ask.repo.to_json(), **counts, "permissions": permissions})


@root_routes.get(r"/app/installations/(?P<id>\d+)")
def get_installation(ask: Ask) -> Answer:
    return _show_installation(ask, ask.world.installations.get(int(ask.params["id"])))


@root_routes.get(r"/(orgs|users)/(?P<account>[^/]+)/installation")
def get_installation_of_account(ask: Ask) -> Answer:
    """Find the installation on an account; the sandbox does not ask which kind it is."""
    account = ask.params["account"].lower()
    found = (one for one in ask.world.installations.values() if one.account.lower() == account)
    return _show_installation(ask, next(found, None))


@repository_routes.get(r"/installation")
def get_installation_of_repository(ask: Ask) -> Answer:
    found = (one for one in ask.world.installations.values() if one.serves(ask.repo.full_name))
    return _show_installation(ask, next(found, None))


def _show_installation(ask: Ask, installation: Installation | None) -> Answer:
    if not ask.token.app_id:
        return refuse(401, UNDECODABLE)
    if installation is None:
        return refuse(404)
    body = build_installation(installation.id, installation.account, app_id=ask.token.app_id)
    body["suspended_at"] = "2026-03-02T12:00:00Z" if installation.is_suspended else None
    return Document(body)


@root_routes.post(r"/app/installations/(?P<id>\d+)/access_tokens")
def create_installation_token(ask: Ask) -> Answer:
    """Issue a token for an hour; a body may limit it to some `repositories`, by their short names.

    It has the form that GitHub gives it since 2026:
    https://github.blog/changelog/2026-05-15-github-app-installation-tokens-per-request-override-header/
    """
    installation = ask.world.installations.get(int(ask.params["id"]))
    if not ask.token.app_id:
        return refuse(401, UNDECODABLE)
    if installation is None:
        return refuse(404)
    if installation.is_suspended:
        return refuse(403, "This installation has been suspended")
    expires_at = ask.now + HOUR
    sha = shapes.make_sha(installation.id, ask.world.take_id())
    token = Token(
        f"ghs_{ask.token.app_id}_eyJ{sha}.eyJ{sha * 8}.{sha[:20]}-_{sha * 2}",
        login=f"{installation.account}[bot]",
        repositories=_choose_repositories(ask, installation),
        expires_at=expires_at,
        installation_id=installation.id,
    )
    ask.world.add_token(token)
    expires = datetime.fromtimestamp(expires_at, tz=UTC)
    body = {
        "token": token.value,
        "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "permissions": PERMISSIONS,
        "repository_selection": "all" if installation.repositories is None else "selected",
    }
    return Document(body, 201)


@root_routes.get(r"/installation/repositories")
def list_repositories_of_installation(ask: Ask) -> Answer:
    if ask.token.installation_id is None:
        return refuse(403, "You must authenticate with an installation access token")
    every = sorted(ask.world.repositories.values(), key=lambda one: one.id)
    items = [one.to_json() for one in every if ask.token.sees(one)]
    return Listing(items, render=_render_repositories)


def _render_repositories(items: Sequence[Json], _page: int, total: int) -> Json:
    return {"total_count": total, "repository_selection": "selected", "repositories": list(items)}


def _choose_repositories(ask: Ask, installation: Installation) -> frozenset[str]:
    names = (repository.full_name for repository in ask.world.repositories.values())
    chosen = {name for name in names if installation.serves(name)}
    wanted = ask.body.get("repositories") if isinstance(ask.body, dict) else None
    if wanted:
        chosen = {name for name in chosen if name.partition("/")[2] in wanted}
    return frozenset(chosen)


def read_app_token(
    value: str, *, apps: Mapping[str, str], now: float
) -> tuple[Token, Document | None]:
    """Find the App that signed a JSON Web Token with its key, or answer with GitHub's error.

    https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app
    """
    unknown = Token(value)
    try:
        app_id = str(jwt.decode(value, options={"verify_signature": False})["iss"])
        options: Any = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(value, apps[app_id], algorithms=["RS256"], options=options)
        issued_at, expires_at = float(claims["iat"]), float(claims["exp"])
    except (jwt.PyJWTError, KeyError, TypeError, ValueError):
        return unknown, refuse(401, UNDECODABLE)
    if issued_at > now:
        return unknown, refuse(401, "'Issued at' claim ('iat') must be an Integer in the past")
    if expires_at <= now:
        return unknown, refuse(401, "'Expiration time' claim ('exp') is in the past")
    if expires_at > now + LONGEST_APP_TOKEN:
        return unknown, refuse(401, "'Expiration time' claim ('exp') is too far in the future")
    return Token(value, app_id=app_id), None
