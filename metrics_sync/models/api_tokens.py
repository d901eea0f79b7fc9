"""What other programs show to read a team's numbers."""

import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Self

from django.db import models
from django.utils import timezone

from metrics_sync.models.teams import Team

#: What every token begins with, so that people and secret scanners know one when they see it.
PREFIX = "msync_"
#: How much of a token is kept readable, to tell it from the others of the team.
SHOWN = len(PREFIX) + 6

#: `last_used_at` is not written more often than this.
USE_NOTED_EVERY = timedelta(minutes=1)


def hash_token(token: str) -> str:
    """Return what is stored of a token: its SHA-256.

    A slow hash or a salt would add nothing: a token is 256 random bits, which nobody finds by
    trying, and no two are the same.
    """
    return sha256(token.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def of(self, token: str) -> Self:
        """Keep the row, at most one, of this token, whether or not it may still be used.

        The comparison is the database's lookup of the hash: how long it takes tells of the hash
        alone, from which no token can be had.
        """
        return self.filter(token_hash=hash_token(token))

    def revoke(self) -> int:
        """Let these be used no more, from now on; returns how many could be until now."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())


class ApiToken(models.Model):
    """Lets a program read what one team has; the token itself is not stored."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=200, help_text="What it is for, e.g. “charts”.")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField("token", max_length=SHOWN, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="To the minute."
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    #: The token itself, on the object that drew it and nowhere else.
    token: str | None = None

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["team", "name", "pk"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def draw_token(self) -> str:
        """Give this new, unsaved row its token, and return it: it cannot be read again later."""
        token = PREFIX + secrets.token_urlsafe(32)
        self.token, self.token_hash, self.prefix = token, hash_token(token), token[:SHOWN]
        return token

    @property
    def state(self) -> str:
        """Whether the token opens anything now: `usable`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        is_over = self.expires_at is not None and self.expires_at <= timezone.now()
        return "expired" if is_over else "usable"

    def note_use(self) -> None:
        """Write when the token was last used, once a minute at most; one UPDATE."""
        now = timezone.now()
        if self.last_used_at is None or self.last_used_at < now - USE_NOTED_EVERY:
            type(self).objects.filter(pk=self.pk).update(last_used_at=now)
