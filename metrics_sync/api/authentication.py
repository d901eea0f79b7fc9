"""Authenticates requests: a token gives access to its own team's rows, and to no others."""

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from metrics_sync.models import ApiToken, Team

CHALLENGE = 'Bearer realm="metrics_sync"'


class MissingTokenError(Exception):
    """The request has no token."""

    challenge = CHALLENGE


class InvalidTokenError(MissingTokenError):
    """The request has a token that is unknown, or that is no longer accepted."""

    challenge = f'{CHALLENGE}, error="invalid_token"'


class TeamToken(HttpBearer):
    """A team's API token, as `Authorization: Bearer msync_…`."""

    def __call__(self, request: HttpRequest) -> ApiToken:
        token: ApiToken | None = super().__call__(request)
        if token is None:
            raise MissingTokenError("A token is needed: send Authorization: Bearer msync_….")
        return token

    def authenticate(self, request: HttpRequest, token: str) -> ApiToken:
        """Return the token's row, and note its use. Raises InvalidTokenError."""
        row = ApiToken.objects.of(token).select_related("team").first()
        if row is None:
            raise InvalidTokenError("There is no such token here.")
        if row.state != "usable":
            raise InvalidTokenError(f"This token is {row.state}.")
        row.note_use()
        return row


def get_team(request: Any) -> Team:
    """Return the team whose rows the request may read."""
    team: Team = request.auth.team
    return team
