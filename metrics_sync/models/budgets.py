"""What is left of a token's requests, counted together by all workers that ask with it."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

from django.db import models
from django.db.models.functions import Coalesce, Greatest, Least
from django.db.models.lookups import GreaterThanOrEqual
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import BudgetSpentError
from metrics_sync.snapshot import RateLimit, limit_reserve

#: For how long a secondary limit makes us ask less at once, and wait longer for the next.
SECONDARY_LIMIT_MEMORY = timedelta(hours=1)
LONGEST_SECONDARY_PAUSE = timedelta(minutes=15)

#: How many requests are set aside at a time: what an ordinary pull request needs.
SHARE = 10
#: A share that was set aside in one such period counts until the end of the next one: by then
#: whoever has it was killed.
PERIOD = timedelta(minutes=5)
#: While so much more is left, nothing is set aside: it is what 100 workers have under way.
PLENTY = 1000
#: How long to wait for what others have set aside and may not need.
SET_ASIDE_PAUSE = timedelta(seconds=15)


#: What is known of the budget of a token that has just been stored.
UNKNOWN_BUDGET = {
    "rate_limit": None,
    "rate_limit_remaining": None,
    "rate_limit_resets_at": None,
    "wait_until": None,
    "secondary_limited_at": None,
    "set_aside": 0,
    "set_aside_before": 0,
    "set_aside_period": None,
}


class Share(NamedTuple):
    """Requests that one conversation has set aside, and the beginning of the period it did so."""

    requests: int
    period: datetime


def find_period(moment: datetime) -> datetime:
    """Return when the period began that a moment is in."""
    return moment - (moment - datetime(1970, 1, 1, tzinfo=UTC)) % PERIOD


def _case(*cases: tuple[models.Q, Any], default: Any) -> models.Case:
    """Return the value that belongs to the first condition that holds; a text names a column."""
    whens = [models.When(condition, then=value) for condition, value in cases]
    if isinstance(default, str):
        default = models.F(default)
    return models.Case(*whens, default=default, output_field=models.IntegerField())


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
    set_aside = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="Requests that fetches may still send."
    )
    set_aside_before = models.PositiveIntegerField(
        default=0, db_default=0, editable=False, help_text="The same, of the period before."
    )
    set_aside_period = models.DateTimeField(
        null=True, editable=False, help_text="When the period began in which they were set aside."
    )

    class Meta:
        abstract = True

    @property
    def reserve(self) -> int:
        """How many requests are left for merges by bulk work."""
        return limit_reserve(app_settings.RATE_LIMIT_RESERVE, self.rate_limit)

    @property
    def is_careful(self) -> bool:
        """Whether GitHub complained of too much at once within the last hour."""
        since = timezone.now() - SECONDARY_LIMIT_MEMORY
        return self.secondary_limited_at is not None and self.secondary_limited_at > since

    @property
    def share_size(self) -> int:
        """How many requests are set aside at a time: a fifth of a limit that is small."""
        return SHARE if self.rate_limit is None else max(min(SHARE, self.rate_limit // 5), 1)

    @property
    def left(self) -> int | None:
        """How many requests are left, all of them once the hour is over; None if unknown."""
        is_over = self.rate_limit_resets_at is None or self.rate_limit_resets_at <= timezone.now()
        return self.rate_limit if is_over else self.rate_limit_remaining

    def count_set_aside(self) -> int:
        """Count the requests that conversations have set aside, as far as this object knows."""
        started_at, period = self.set_aside_period, find_period(timezone.now())
        if started_at is None or started_at < period - PERIOD:
            return 0
        return self.set_aside + (self.set_aside_before if started_at >= period else 0)

    def has_plenty(self, *, is_bulk: bool) -> bool:
        """Whether nothing has to be set aside, as far as this object knows; so without a limit."""
        is_paused = self.wait_until is not None and self.wait_until > timezone.now()
        needed = self._count_needed(is_bulk=is_bulk) + PLENTY
        return not is_paused and (self.left is None or self.left >= needed)

    def find_pause(self, *, is_bulk: bool = False) -> datetime | None:
        """Return until when nothing may be asked with this token; None if it may be now.

        Bulk work pauses already when only the reserve for merges is left. What others have set
        aside is waited for shortly: most of them need less, and the hour is long.
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
        """Reserve a share of what is left for one conversation, and `more` requests than that.

        One conditional UPDATE, so that all workers together send no more than GitHub said is
        left. Raises BudgetSpentError where too little is, or GitHub has asked us to wait.
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
        if (
            not self._rows()
            .filter(is_enough, may_ask)
            .update(
                set_aside=this + share.requests,
                set_aside_before=last,
                set_aside_period=Greatest(Coalesce("set_aside_period", share.period), share.period),
            )
        ):
            self.refresh_from_db(fields=[field.name for field in TokenBudget._meta.get_fields()])
            until = self.find_pause(is_bulk=is_bulk) or now + SET_ASIDE_PAUSE
            raise BudgetSpentError.of(until, is_reserve_left=is_bulk)
        return share

    def note_rate_limit(self, stated: RateLimit | None, *, settled: Share | None = None) -> None:
        """Share with all workers what GitHub stated, and give back a share; one UPDATE, at once.

        Of what is stated for one hour the least counts, as answers overtake each other; what is
        stated of an hour that has ended counts for nothing.
        """
        changes = dict[str, Any]()
        if settled is not None:
            is_this = models.Q(set_aside_period=settled.period)
            is_last = models.Q(set_aside_period=settled.period + PERIOD)
            for name, is_mine in (("set_aside", is_this), ("set_aside_before", is_last)):
                without = Greatest(models.F(name) - settled.requests, 0)
                changes[name] = _case((is_mine, without), default=name)
        if stated is not None and stated.resets_at > timezone.now():
            is_known = models.Q(rate_limit_resets_at=stated.resets_at)
            least = Least(models.F("rate_limit_remaining"), stated.remaining)
            changes["rate_limit"] = stated.limit
            changes["rate_limit_remaining"] = _case((is_known, least), default=stated.remaining)
            changes["rate_limit_resets_at"] = stated.resets_at
        if changes:
            self._note_of_token(**changes)
        if "rate_limit" in changes and stated is not None:
            self.rate_limit_remaining = stated.remaining

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
