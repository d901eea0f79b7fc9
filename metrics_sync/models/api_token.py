"""Tokens with which other programs read the data of one team."""

import secrets
from datetime import timedelta
from hashlib import sha256
from typing import Self

from django.db import models
from django.utils import timezone

from metrics_sync.models.team import Team

#: Every token begins with this, so that people and secret scanners recognize it.
PREFIX = "msync_"
#: How many characters are stored readable, to tell the tokens of a team apart.
SHOWN = len(PREFIX) + 6

#: The shortest time between two writes of `last_used_at`.
LAST_USE_PRECISION = timedelta(minutes=1)


def hash_token(token: str) -> str:
    """Return what is stored of a token: its SHA-256.

    A slow hash or a salt would add nothing: a token is 256 random bits, which cannot be guessed.
    """
    return sha256(token.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def of(self, token: str) -> Self:
        """Keep the row of this token, revoked or not.

        The database compares hashes, so the time that it takes reveals nothing about the token.
        """
        return self.filter(token_hash=hash_token(token))

    def revoke(self) -> int:
        """Revoke these; returns how many were valid until now."""
        return self.filter(revoked_at=None).update(revoked_at=timezone.now())


class ApiToken(models.Model):
    """Lets a program read the data of one team; only the hash of the token is stored."""

    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=200, help_text="What it is for, e.g. “charts”.")
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField("token", max_length=SHOWN, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Accurate to the minute."
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    #: The token itself; only on the object that made it.
    token: str | None = None

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering = ["team", "name", "pk"]
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def draw_token(self) -> str:
        """Set the token of this new, unsaved row and return it; it cannot be read later."""
        token = PREFIX + secrets.token_urlsafe(32)
        self.token, self.token_hash, self.prefix = token, hash_token(token), token[:SHOWN]
        return token

    @property
    def state(self) -> str:
        """Return `usable`, `revoked` or `expired`."""
        if self.revoked_at is not None:
            return "revoked"
        is_over = self.expires_at is not None and self.expires_at <= timezone.now()
        return "expired" if is_over else "usable"

    def note_use(self) -> None:
        """Store the time of use, once a minute at most; one UPDATE."""
        now = timezone.now()
        if self.last_used_at is None or self.last_used_at < now - LAST_USE_PRECISION:
            type(self).objects.filter(pk=self.pk).update(last_used_at=now)
