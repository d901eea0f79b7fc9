"""The operations that are about who asks: the user, the rate limit, a repository, app tokens."""

import base64
import json
from datetime import UTC, datetime

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.answers import Answer, Document, refuse
from metrics_sync.sandbox.routing import Ask, repository_routes, root_routes
from metrics_sync.sandbox.world import HOUR, Installation, Token

INTEGRATION = "Resource not accessible by integration"
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
    """Tell whose token this is; an installation's is nobody's."""
    if not ask.token.value:
        return refuse(401, "Requires authentication")
    if ask.token.value.startswith("ghs_"):
        return refuse(403, INTEGRATION)
    return Document(shapes.user(ask.token.login))


@root_routes.get(r"/rate_limit")
def get_rate_limit(ask: Ask) -> Answer:
    """Tell the budgets, at no cost; an Enterprise server without limits answers 404."""
    if ask.budget is None or ask.points is None:
        return refuse(404, "Rate limiting is not enabled.")
    core = ask.budget.to_json()
    other = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
    resources = {"core": core, "search": other, "graphql": ask.points.to_json()}
    return Document({"resources": resources, "rate": core}, cost=0)


@repository_routes.get("")
def get_repository(ask: Ask) -> Answer:
    permissions = {"admin": False, "maintain": False, "push": False, "triage": False, "pull": True}
    return Document({**ask.repo.to_json(), "permissions": permissions})


@root_routes.post(r"/app/installations/(?P<id>\d+)/access_tokens")
def create_installation_token(ask: Ask) -> Answer:
    """Issue a token for an hour; a body may narrow it to some `repositories`, named shortly."""
    installation = ask.world.installations.get(int(ask.params["id"]))
    if installation is None:
        return refuse(404)
    names = _choose_repositories(ask, installation)
    expires_at = ask.now + HOUR
    token = Token(
        f"ghs_{shapes.make_sha(installation.id, ask.world.take_id())[:36]}",
        login=f"{installation.account}[bot]",
        repositories=names,
        expires_at=expires_at,
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


def _choose_repositories(ask: Ask, installation: Installation) -> frozenset[str]:
    owned = {
        repository.full_name
        for repository in ask.world.repositories.values()
        if repository.full_name.lower().startswith(f"{installation.account.lower()}/")
    }
    chosen = owned if installation.repositories is None else installation.repositories
    wanted = ask.body.get("repositories") if isinstance(ask.body, dict) else None
    if wanted:
        chosen = {name for name in chosen if name.partition("/")[2] in wanted}
    return frozenset(chosen)


def check_app_token(value: str, *, now: float) -> Document | None:
    """Refuse what is no JSON Web Token of an app for now; its signature is not checked."""
    parts = value.split(".")
    if len(parts) != 3:
        return refuse(401, "A JSON web token could not be decoded")
    try:
        padded = parts[1] + "=" * (-len(parts[1]) % 4)
        claims = json.loads(base64.urlsafe_b64decode(padded))
        expires = float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return refuse(401, "A JSON web token could not be decoded")
    if expires <= now:
        return refuse(401, "'Expiration time' claim ('exp') is in the past")
    return None
