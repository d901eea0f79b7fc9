"""What is left of a token's requests, counted together by all workers that ask with it."""

from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models, transaction
from django.db.models.functions import Coalesce, Greatest, Least
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.snapshot import RateLimit

#: For how long a secondary limit makes us ask less at once, and wait longer for the next.
SECONDARY_LIMIT_MEMORY = timedelta(hours=1)
LONGEST_SECONDARY_PAUSE = timedelta(minutes=15)

#: How many requests a conversation sets aside at a time: what an ordinary pull request needs.
LEASE_SIZE = 10
#: A lease ends by itself after this: whoever has it was killed.
LEASE_LASTS = timedelta(minutes=5)
#: With so many more left nobody has to set any aside: it is what 100 workers have under way.
PLENTY = 1000
#: How long to wait for what others have set aside and may not need.
LEASED_PAUSE = timedelta(seconds=15)


#: What is known of the budget of a token that has just been stored.
NOTHING_SAID = {
    "rate_limit": None,
    "rate_limit_remaining": None,
    "rate_limit_resets_at": None,
    "wait_until": None,
    "secondary_limited_at": None,
}


class TokenBudget(models.Model):
    """The columns of a credential that hold what GitHub said last of its token's budget."""

    rate_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests an hour, as GitHub said last."
    )
    rate_limit_remaining = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests left, as GitHub said last."
    )
    rate_limit_resets_at = models.DateTimeField(null=True, blank=True)
    wait_until = models.DateTimeField(
        null=True, blank=True, help_text="GitHub asked us to send nothing before this."
    )
    secondary_limits = models.PositiveSmallIntegerField(
        default=0, help_text="How often in a row GitHub complained of too much at once."
    )
    secondary_limited_at = models.DateTimeField(null=True, blank=True)
    token_stored_at = models.DateTimeField(
        null=True, editable=False, help_text="What was said of an earlier token counts no more."
    )

    class Meta:
        abstract = True

    @property
    def reserve(self) -> int:
        """How many requests are kept for merges: a fifth of a limit that is small."""
        reserve: int = app_settings.RATE_LIMIT_RESERVE
        return reserve if self.rate_limit is None else min(reserve, self.rate_limit // 5)

    @property
    def is_careful(self) -> bool:
        """Whether GitHub complained of too much at once within the last hour."""
        since = timezone.now() - SECONDARY_LIMIT_MEMORY
        return self.secondary_limited_at is not None and self.secondary_limited_at > since

    @property
    def lease_size(self) -> int:
        """How many requests are set aside at a time: a fifth of a limit that is small."""
        return (
            LEASE_SIZE if self.rate_limit is None else max(min(LEASE_SIZE, self.rate_limit // 5), 1)
        )

    @property
    def left(self) -> int | None:
        """How many requests are left, all of them once the hour is over; None if unknown."""
        is_over = self.rate_limit_resets_at is None or self.rate_limit_resets_at <= timezone.now()
        return self.rate_limit if is_over else self.rate_limit_remaining

    def has_plenty(self, *, is_bulk: bool) -> bool:
        """Whether no request has to be set aside; so it is while no limit is known."""
        return self.left is None or self.left >= self._count_needed(is_bulk=is_bulk) + PLENTY

    def find_pause(self, *, is_bulk: bool = False) -> datetime | None:
        """Return until when nothing may be asked with this token; None if it may be now.

        Bulk work pauses already when only the reserve for merges is left. Asks the database
        what others have set aside when little is left.
        """
        now, left = timezone.now(), self.left
        until, needed = self.wait_until or now, self._count_needed(is_bulk=is_bulk)
        if left is not None and left < needed:
            until = max(until, self.rate_limit_resets_at or now)
        elif left is not None and left < needed + PLENTY and left - self._count_leased() < needed:
            until = max(until, now + LEASED_PAUSE)
        return until if until > now else None

    def _rows(self) -> models.QuerySet[Self]:
        return type(self)._default_manager.filter(pk=self.pk)  # noqa: SLF001  (its own)

    def _count_needed(self, *, is_bulk: bool) -> int:
        return self.lease_size + (self.reserve if is_bulk else 0)

    def _count_leased(self) -> int:
        rows = RequestLease.objects.filter(credential=self.pk, expires_at__gt=timezone.now())
        count: int = rows.aggregate(count=models.Sum("requests", default=0))["count"]
        return count

    @transaction.atomic
    def lease_requests(
        self, *, is_bulk: bool, instead_of: "RequestLease | None" = None
    ) -> "RequestLease | None":
        """Set aside requests for one conversation; None if there is a pause, or plenty is left.

        The credential is locked meanwhile and read anew, so that all workers together send no
        more than GitHub said is left; `find_pause` tells the two cases apart. `instead_of` is
        the conversation's lease before, whose requests are used up.
        """
        self._rows().select_for_update().values("pk").get()
        self.refresh_from_db(fields=[field.name for field in TokenBudget._meta.get_fields()])
        ended = models.Q(expires_at__lte=timezone.now())
        mine = models.Q(pk=instead_of.pk if instead_of else None)
        RequestLease.objects.filter(ended | mine, credential=self.pk).delete()
        if self.find_pause(is_bulk=is_bulk) or self.has_plenty(is_bulk=is_bulk):
            return None
        return RequestLease.objects.create(
            credential_id=self.pk,
            requests=self.lease_size,
            expires_at=timezone.now() + LEASE_LASTS,
        )

    def hear_rate_limit(self, stated: RateLimit) -> None:
        """Go on by what GitHub said, in this process alone."""
        self.rate_limit, self.rate_limit_remaining = stated.limit, stated.remaining
        self.rate_limit_resets_at = stated.resets_at

    def note_rate_limit(self, stated: RateLimit) -> None:
        """Share with all workers what GitHub said of the budget; one UPDATE, at once.

        Of what is stated for one window the least counts, as answers overtake each other; what
        is stated of a window that has ended counts for nothing.
        """
        if stated.resets_at <= timezone.now():
            return
        least = Least(models.F("rate_limit_remaining"), stated.remaining)
        known = models.Q(rate_limit_resets_at=stated.resets_at)
        self._note_of_token(
            rate_limit=stated.limit,
            rate_limit_remaining=models.Case(
                models.When(known, then=least), default=stated.remaining
            ),
            rate_limit_resets_at=stated.resets_at,
        )
        self.hear_rate_limit(stated)

    def note_pause(self, *, until: datetime, is_secondary: bool) -> None:
        """Let nobody ask with this token before then; one UPDATE, at once.

        A secondary limit pauses twice as long each time that it comes again within an hour. A
        pause that lasts longer already stays.
        """
        now, changes = timezone.now(), dict[str, Any]()
        if is_secondary:
            count = self.secondary_limits + 1 if self.is_careful else 1
            pause = min((until - now) * (1 << min(count - 1, 6)), LONGEST_SECONDARY_PAUSE)
            until = max(until, now + pause)
            changes = {"secondary_limits": count, "secondary_limited_at": now}
        latest = Greatest(Coalesce("wait_until", until), models.Value(until))
        self._note_of_token(wait_until=latest, **changes)
        self.wait_until = max(self.wait_until or until, until)

    def _note_of_token(self, **fields: Any) -> None:
        """Write what GitHub said of the token, unless another one has been stored since."""
        self._rows().filter(token_stored_at=self.token_stored_at).update(**fields)
        for name, value in fields.items():
            if not hasattr(value, "resolve_expression"):
                setattr(self, name, value)


class RequestLease(models.Model):
    """Requests of a token's budget that one conversation may send."""

    credential = models.ForeignKey(
        "metrics_sync.IntegrationCredential", on_delete=models.CASCADE, related_name="leases"
    )
    requests = models.PositiveIntegerField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.requests} requests until {self.expires_at:%H:%M:%S}"
