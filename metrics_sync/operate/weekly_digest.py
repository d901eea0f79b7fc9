"""Mails the members of a team who asked for it what became of its last week."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.core.mail import EmailMessage, get_connection
from django.db import DatabaseError
from django.db.models import Count, Q
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.dashboard import IN_TROUBLE, UNDER_WAY, Selection, Span
from metrics_sync.dashboard.totals import Totals, read_totals
from metrics_sync.models import PullRequest, Team, WeeklyDigest

logger = logging.getLogger(__name__)

#: How long after the end of a week its digest is sent: late merges are complete by then.
PAUSE = timedelta(hours=6)

#: What is told of a week: the metric, its name, and its unit.
LINES = (
    ("review_wait_hours", "First review after (median)", " h"),
    ("review_rounds", "Review rounds (median)", ""),
    ("cycle_time_hours", "Cycle time (median)", " h"),
)


@dataclass(frozen=True, slots=True)
class TeamWeek:
    """The figures of a team's week and of the one before, and what is not complete now."""

    team: Team
    begins_on: date
    totals: Totals
    before: Totals
    waiting: int
    in_trouble: int


def send_digests() -> dict[str, Any]:
    """Send the digests of the last whole week that are due; the clock runs this every hour.

    Each is sent at most once for a week, whatever is killed meanwhile: it is claimed before it is
    sent. Returns how many were `sent` and how many `failed`: a mail that was not taken is given up,
    and a team whose week cannot be read is tried again at the next call. Nothing is claimed while
    the mail server cannot be reached; then raises OSError.
    """
    week = find_week(timezone.now())
    due = WeeklyDigest.objects.due(week).select_related("team", "user").order_by("team_id", "pk")
    digests = [digest for digest in due if digest.find_address()]
    counts = Counter(sent=0, failed=0)
    if digests:
        with get_connection() as connection:
            for _, group in groupby(digests, key=attrgetter("team_id")):
                counts.update(_send_to_team(list(group), week, connection))
    return dict(counts)


def find_week(now: datetime) -> date:
    """Return the Monday (UTC) of the last week that is over since six hours; pure."""
    today = (now.astimezone(UTC) - PAUSE).date()
    return today - timedelta(days=today.weekday(), weeks=1)


def read_week(team: Team, begins_on: date, *, now: datetime) -> TeamWeek:
    """Read a team's week with four queries."""
    span = Span.of_days(begins_on, begins_on + timedelta(days=6))
    selection = Selection(teams=Team.objects.filter(pk=team.pk), now=now, chosen=span)
    metrics = [name for name, _, _ in LINES]
    state = PullRequest.objects.merged().filter(team=team).order_by()
    counts = state.filter(sync_status__in=[*UNDER_WAY, *IN_TROUBLE]).aggregate(
        waiting=Count("pk", filter=Q(sync_status__in=UNDER_WAY, completed_at=None)),
        in_trouble=Count("pk", filter=Q(sync_status__in=IN_TROUBLE)),
    )
    totals, before = read_totals(selection, metrics)
    return TeamWeek(team=team, begins_on=begins_on, totals=totals, before=before, **counts)


def describe_week(week: TeamWeek) -> str:
    """Return the text of the mail; pure but for the service's own address."""
    ends_on = week.begins_on + timedelta(days=6)
    totals, before = week.totals, week.before
    rows = [
        ("Merged", f"{totals.merged}", f"{before.merged}"),
        *(
            (label, *(_show(one.metrics[name].median, unit) for one in (totals, before)))
            for name, label, unit in LINES
        ),
        ("Merged without review", f"{totals.without_review}", f"{before.without_review}"),
    ]
    lines = [f"{label + ':':30}{new:>10}   (the week before: {old})" for label, new, old in rows]
    return "\n".join(
        [
            f"{week.team}, {week.begins_on} to {ends_on} (UTC), without pull requests by bots:",
            "",
            *lines,
            "",
            f"Not complete now: {week.waiting} waiting, {week.in_trouble} failed or partial.",
            *_list_links(week.team, week.begins_on, ends_on),
        ]
    )


def _show(value: Any, unit: str) -> str:
    if value is None:
        return "unknown"
    return f"{value:.1f}{unit}" if unit else f"{value:g}"


def _list_links(team: Team, first: date, last: date) -> list[str]:
    try:
        paths = reverse("admin:index"), reverse("admin:metrics_sync_weeklydigest_changelist")
    except NoReverseMatch:
        # A host project without the pages.
        return []
    if not app_settings.BASE_URL:
        return []
    dashboard, wishes = (f"{app_settings.BASE_URL}{path}" for path in paths)
    return [
        f"Dashboard: {dashboard}?team={team.slug}&from={first}&to={last}",
        "",
        f"You asked for this mail. To end it, delete your weekly digest: {wishes}",
    ]


def _send_to_team(digests: list[WeeklyDigest], week: date, connection: Any) -> Iterator[str]:
    """Send the digests of one team; yield `sent` or `failed` for each that is not taken already."""
    team = digests[0].team
    try:
        text = describe_week(read_week(team, week, now=timezone.now()))
    except DatabaseError:
        logger.exception("The week of %s cannot be read; digests that wait: %s", team, len(digests))
        yield from ["failed"] * len(digests)
        return
    for digest in digests:
        # Does nothing unless an error has closed it.
        connection.open()
        if digest.claim(week):
            yield "sent" if _send(digest, week, text, connection) else "failed"


def _send(digest: WeeklyDigest, week: date, text: str, connection: Any) -> bool:
    subject = " ".join(f"{digest.team}: the week of {week}".split())
    message = EmailMessage(subject, text, to=[digest.find_address()], connection=connection)
    try:
        message.send()
    except (OSError, ValueError):
        # SMTP's errors are OSErrors, and an address that is none is a ValueError. It may have been
        # taken all the same, so it is not repeated. The server may have ended the connection.
        logger.exception("The digest %s was not sent", digest)
        connection.close()
        return False
    return True
