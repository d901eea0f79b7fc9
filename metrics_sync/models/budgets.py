"""Counts the REST requests that are left of a token's rate limit, for all workers together."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple, Self

from django.db import models
from django.db.models.functions import Coalesce, Greatest, Least
from django.db.models.lookups import GreaterThanOrEqual
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import BudgetSpentError
from metrics_sync.models.prepared import PreparedUpdate, Slot
from metrics_sync.snapshot import RateLimit, limit_reserve

#: After a secondary limit, workers send fewer requests at once for this long.
SECONDARY_LIMIT_MEMORY = timedelta(hours=1)
LONGEST_SECONDARY_PAUSE = timedelta(minutes=15)

#: The requests that a conversation sets aside at a time: an ordinary pull request needs 9.
SHARE = 10
#: A share expires at the end of the period after its own: a worker that still has it by then was
#: killed.
PERIOD = timedelta(minutes=5)
#: While so many more are left, nothing is set aside: 100 workers have no more under way.
PLENTY = 1000
#: How long to wait for others to give back what they do not need.
SET_ASIDE_PAUSE = timedelta(seconds=15)

#: GitHub counts by the hour.
HOUR = timedelta(hours=1)
#: The part of an evenly spent limit that must be left for merges to be fetched one by one. The
#: rest lasts for what GraphQL cannot give of merges that are fetched in bulk.
LEAST_LEFT = 0.5


#: A time at which no token was stored, in place of none; any database and time zone can have it.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

#: The columns of a token that has just been stored.
UNKNOWN_BUDGET = {
    "rate_limit": None,
    "rate_limit_remaining": None,
    "rate_limit_resets_at": None,
    "wait_until": None,
    "secondary_limited_at": None,
    "bulk_wait_until": None,
    "set_aside": 0,
    "set_aside_before": 0,
    "set_aside_period": None,
}


class Share(NamedTuple):
    """The requests that one conversation has set aside, and the start of the period."""

    requests: int
    period: datetime


def find_period(moment: datetime) -> datetime:
    """Return the start of the period of a moment."""
    return moment - (moment - datetime(1970, 1, 1, tzinfo=UTC)) % PERIOD


def _case(*cases: tuple[models.Q, Any], default: Any) -> models.Case:
    """Return the value of the first condition that holds; a text names a column."""
    whens = [models.When(condition, then=value) for condition, value in cases]
    if isinstance(default, str):
        default = models.F(default)
    return models.Case(*whens, default=default, output_field=models.IntegerField())


def _find_later(name: str, moment: datetime) -> Greatest:
    """Return the later of a column's time, if it has one, and the moment."""
    return Greatest(Coalesce(name, moment), models.Value(moment))


class TokenBudget(models.Model):
    """What GitHub stated of a token's rate limit, and what is set aside of it.

    GitHub's statement alone would not do: each of many workers would spend what is left.
    """

    rate_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests per hour, as GitHub last stated."
    )
    rate_limit_remaining = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests left, as GitHub last stated."
    )
    rate_limit_resets_at = models.DateTimeField(null=True, blank=True)
    wait_until = models.DateTimeField(
        null=True, blank=True, help_text="GitHub asked us to send nothing before this time."
    )
    secondary_limits = models.PositiveSmallIntegerField(
        default=0, help_text="How many secondary rate limits GitHub has set in a row."
    )
    secondary_limited_at = models.DateTimeField(null=True, blank=True)
    bulk_wait_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Merges are not fetched through GraphQL before this time: its points are used "
        "up, or it refused.",
    )
    token_stored_at = models.DateTimeField(
        null=True, editable=False, help_text="What GitHub stated of an earlier token is ignored."
    )
    set_aside = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="Requests that fetches may still send."
    )
    set_aside_before = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="The same, for the period before."
    )
    set_aside_period = models.DateTimeField(
        null=True,
        editable=False,
        help_text="When the present period of setting requests aside began.",
    )

    class Meta:
        abstract = True

    @property
    def reserve(self) -> int:
        """The requests that bulk work leaves for merges."""
        return limit_reserve(app_settings.RATE_LIMIT_RESERVE, self.rate_limit)

    @property
    def is_careful(self) -> bool:
        """Whether GitHub complained of too much at once within the last hour."""
        since = timezone.now() - SECONDARY_LIMIT_MEMORY
        return self.secondary_limited_at is not None and self.secondary_limited_at > since

    @property
    def share_size(self) -> int:
        """The requests to set aside at a time; a fifth of the limit where it is small."""
        return SHARE if self.rate_limit is None else max(min(SHARE, self.rate_limit // 5), 1)

    @property
    def left(self) -> int | None:
        """The requests left of this hour; all of them in a new hour; None if no limit is known."""
        is_over = self.rate_limit_resets_at is None or self.rate_limit_resets_at <= timezone.now()
        return self.rate_limit if is_over else self.rate_limit_remaining

    @property
    def may_fetch_in_bulk(self) -> bool:
        """Whether GraphQL may be asked for merges now."""
        waits = (self.find_pause_of_both(), self.bulk_wait_until)
        return all(until is None or until <= timezone.now() for until in waits)

    def is_short(self, merges_an_hour: float) -> bool:
        """Whether too few requests are left to fetch each merge by itself until the reset.

        They are if less than half of an evenly spent limit is left, and merges that go on coming
        need more; and always if too few for one merge are left. What is set aside counts as spent:
        several workers that begin at once would else take the half that must be left.
        """
        stated, resets_at = self.left, self.rate_limit_resets_at
        if self.rate_limit is None or stated is None or resets_at is None:
            return False
        left = stated - self.count_set_aside()
        if left < self.share_size:
            return True
        hours_left = max(resets_at - timezone.now(), timedelta(0)) / HOUR
        needed = merges_an_hour * hours_left * self.share_size
        return left < min(self.rate_limit * hours_left * LEAST_LEFT, needed)

    def find_pause_of_both(self) -> datetime | None:
        """Return until when GitHub wants neither requests nor queries; None for now.

        A used up limit of REST stops requests only.
        """
        until = self.wait_until
        is_pause = until is not None and until > timezone.now()
        return until if is_pause and until != self.rate_limit_resets_at else None

    def count_set_aside(self) -> int:
        """Count the requests that are set aside, by the columns as loaded."""
        started_at, period = self.set_aside_period, find_period(timezone.now())
        if started_at is None or started_at < period - PERIOD:
            return 0
        return self.set_aside + (self.set_aside_before if started_at >= period else 0)

    def has_plenty(self, *, is_bulk: bool) -> bool:
        """Whether nothing needs to be set aside, by the columns as loaded; so without limits."""
        is_paused = self.wait_until is not None and self.wait_until > timezone.now()
        needed = self._count_needed(is_bulk=is_bulk) + PLENTY
        return not is_paused and (self.left is None or self.left >= needed)

    def find_pause(self, *, is_bulk: bool = False) -> datetime | None:
        """Return until when no request may be sent with this token; None for now.

        Bulk work pauses when only the reserve for merges is left. If others have set the rest
        aside, the pause is short: most of them need less.
        """
        now, left = timezone.now(), self.left
        until, needed = self.wait_until or now, self._count_needed(is_bulk=is_bulk)
        if left is not None and left < needed:
            until = max(until, self.rate_limit_resets_at or now)
        elif left is not None and left - self.count_set_aside() < needed:
            until = max(until, now + SET_ASIDE_PAUSE)
        return until if until > now else None

    def _rows(self) -> models.QuerySet[Self]:
        return type(self)._default_manager.filter(pk=self.pk)  # noqa: SLF001  (its own)

    def _count_needed(self, *, is_bulk: bool) -> int:
        return self.share_size + (self.reserve if is_bulk else 0)

    def set_requests_aside(self, *, is_bulk: bool, more: int = 0) -> Share:
        """Set a share and `more` requests aside for one conversation.

        One conditional UPDATE, so that all workers together send no more than is left. Raises
        BudgetSpentError when too few are left, or GitHub has asked us to wait.
        """
        now = timezone.now()
        share = Share(self.share_size + more, find_period(now))
        is_this = models.Q(set_aside_period__gte=share.period)
        is_last = models.Q(set_aside_period=share.period - PERIOD)
        this = _case((is_this, "set_aside"), default=0)
        last = _case((is_this, "set_aside_before"), (is_last, "set_aside"), default=0)
        is_known = models.Q(rate_limit_resets_at__gt=now)
        left = _case((is_known, "rate_limit_remaining"), default="rate_limit")
        needed = self._count_needed(is_bulk=is_bulk) + more
        is_enough = models.Q(rate_limit=None) | models.Q(
            GreaterThanOrEqual(left - this - last, needed)
        )
        may_ask = models.Q(wait_until=None) | models.Q(wait_until__lte=now)
        # The clock of another worker may be ahead, and its period the next one.
        latest = Greatest(Coalesce("set_aside_period", share.period), share.period)
        changes = {
            "set_aside": this + share.requests,
            "set_aside_before": last,
            "set_aside_period": latest,
        }
        if self._rows().filter(is_enough, may_ask).update(**changes):
            return share
        self.refresh_from_db(fields=[field.name for field in TokenBudget._meta.get_fields()])
        is_paused = self.wait_until is not None and self.wait_until > now
        until = self.find_pause(is_bulk=is_bulk) or now + SET_ASIDE_PAUSE
        raise BudgetSpentError.of(until, is_reserve_left=is_bulk and not is_paused)

    def note_rate_limit(self, stated: RateLimit | None, *, returned: Share | None = None) -> None:
        """Store what GitHub stated, for all workers, and give back a share; one UPDATE.

        Of one hour the lowest statement counts, as answers overtake each other. A statement about
        an hour that has ended is ignored.
        """
        if stated is not None and stated.resets_at <= timezone.now():
            stated = None
        if returned is not None:
            self._note_of_token(
                **_free_share(returned), **(_store_statement(stated) if stated else {})
            )
        elif stated is not None:
            # Most fetches end here: nothing was set aside.
            _prepare_note(type(self)).run(
                pk=self.pk,
                token_stored_at=self.token_stored_at or NEVER,
                limit=stated.limit,
                remaining=stated.remaining,
                resets_at=stated.resets_at,
            )
        if stated is not None:
            self.rate_limit, self.rate_limit_remaining = stated.limit, stated.remaining
            self.rate_limit_resets_at = stated.resets_at

    def note_pause(self, *, until: datetime, is_secondary: bool) -> None:
        """Store that no worker may send requests with this token before `until`; one UPDATE.

        Each further secondary limit within an hour doubles the pause. A longer pause that is
        stored already stays.
        """
        now, changes = timezone.now(), dict[str, Any]()
        if is_secondary:
            count = self.secondary_limits + 1 if self.is_careful else 1
            pause = min((until - now) * (1 << min(count - 1, 6)), LONGEST_SECONDARY_PAUSE)
            until = max(until, now + pause)
            changes = {
                "secondary_limits": count,
                "secondary_limited_at": now,
                # GitHub counts queries towards the same limit.
                "bulk_wait_until": _find_later("bulk_wait_until", until),
            }
        self._note_of_token(wait_until=_find_later("wait_until", until), **changes)
        self.wait_until = max(self.wait_until or until, until)

    def note_bulk_pause(self, until: datetime) -> None:
        """Store that merges are not fetched through GraphQL before `until`; one UPDATE.

        A longer pause that is stored already stays.
        """
        self._note_of_token(bulk_wait_until=_find_later("bulk_wait_until", until))

    def _note_of_token(self, **fields: Any) -> None:
        """Write the fields, unless another token has been stored since this object was loaded."""
        self._rows().filter(token_stored_at=self.token_stored_at).update(**fields)
        for name, value in fields.items():
            if not hasattr(value, "resolve_expression"):
                setattr(self, name, value)


def _free_share(share: Share) -> dict[str, Any]:
    """Return the new values of a token's columns when a conversation gives back its share."""
    is_this = models.Q(set_aside_period=share.period)
    is_last = models.Q(set_aside_period=share.period + PERIOD)
    return {
        name: _case((is_mine, Greatest(models.F(name) - share.requests, 0)), default=name)
        for name, is_mine in (("set_aside", is_this), ("set_aside_before", is_last))
    }


def _store_statement(stated: Any) -> dict[str, Any]:
    """Return the new values of a token's columns after a statement of GitHub, or its slots."""
    is_known = models.Q(rate_limit_resets_at=stated.resets_at)
    least = Least(models.F("rate_limit_remaining"), stated.remaining)
    return {
        "rate_limit": stated.limit,
        "rate_limit_remaining": _case((is_known, least), default=stated.remaining),
        "rate_limit_resets_at": stated.resets_at,
    }


class _Stated:
    """Slots in place of a statement."""

    limit = Slot("limit", models.IntegerField())
    remaining = Slot("remaining", models.IntegerField())
    resets_at = Slot("resets_at", models.DateTimeField())


@cache
def _prepare_note(model: type[TokenBudget]) -> PreparedUpdate[Any]:
    """Prepare what `TokenBudget._note_of_token` does with a statement of GitHub."""
    rows = model._default_manager.alias(  # noqa: SLF001  (public in all but name)
        stored_at=Coalesce("token_stored_at", models.Value(NEVER))
    ).filter(
        pk=Slot("pk", models.BigIntegerField()),
        stored_at=Slot("token_stored_at", models.DateTimeField()),
    )
    return PreparedUpdate(lambda: rows, **_store_statement(_Stated))
