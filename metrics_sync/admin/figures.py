"""The figures of the dashboard, each beside that of the period before, and their trends."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString

from metrics_sync.admin.changes import (
    LONGER,
    MORE_MERGES,
    SHARE_IN_TIME,
    SHARE_UNREVIEWED,
    Words,
    show_change,
)
from metrics_sync.admin.charts import Chart, Trend, draw_trend
from metrics_sync.admin.definitions import DEFINITIONS, show_share
from metrics_sync.admin.drill_down import narrow
from metrics_sync.admin.labels import show_duration
from metrics_sync.admin.leading import Leads, link
from metrics_sync.admin.selecting import SelectionForm
from metrics_sync.dashboard import MORE_METRICS, Selection, Summary, Totals
from metrics_sync.dashboard.narrowing import KNOWN, LATE, WITHIN
from metrics_sync.dashboard.totals import PROMISED
from metrics_sync.models import Team, TeamGoal

#: The share of merges that are to be complete within five minutes.
PROMISE = 0.99

CLASS_NAMES = ("≤ 5 s", "≤ 15 s", "≤ 60 s", "≤ 5 min", "≤ 1 h", "longer", "not yet")


@dataclass(frozen=True, slots=True)
class Figure:
    title: str
    value: SafeString | str
    change: SafeString
    #: What the service promises, and whether it is kept.
    promise: str = ""
    colour: str = ""
    remark: SafeString | str = ""


def describe_period(selection: Selection) -> dict[str, str]:
    """Name the days of the period and of the one before, all in UTC."""
    own, before = selection.span, selection.before.span
    whole = f"from {_show_day(own.since)}"
    if own.until:
        whole = f"{whole} to {_show_day(own.until - timedelta(seconds=1))}"
    name = whole if selection.chosen else f"in the last {selection.weeks} weeks"
    end = (before.until or selection.now) - timedelta(seconds=1)
    return {"name": name, "before": f"{_show_day(before.since)} to {_show_day(end)}"}


def _show_day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def build_figures(now: Totals, before: Totals, leads: Leads) -> list[Figure]:
    """Return how fast and how surely merges became complete, each leading to its merges."""
    promise: dict[str, Any] = {}
    if (within := now.share_within_five_minutes) is not None:
        is_kept = within > PROMISE
        promise = {
            "promise": f"over {PROMISE:.0%}" if is_kept else f"not over {PROMISE:.0%}",
            "colour": "success" if is_kept else "danger",
        }
    minute = (now.share_within_minute, before.share_within_minute)
    five = (within, before.share_within_five_minutes)
    time, earlier = now.time_to_complete, before.time_to_complete
    late = [_lead_to_late(now, limit, leads) for limit in PROMISED]
    rows: list[tuple[str, tuple[str, SafeString], str, dict[str, Any]]] = [
        (
            "Complete within 60 seconds",
            _compare(*minute, SHARE_IN_TIME),
            f"{WITHIN}60",
            {"remark": late[0]},
        ),
        (
            "Complete within 5 minutes",
            _compare(*five, SHARE_IN_TIME),
            f"{WITHIN}300",
            {"remark": late[1], **promise},
        ),
        ("Median time to complete", _compare(time.median, earlier.median, LONGER), KNOWN, {}),
        ("9 of 10 are complete within", _compare(time.p90, earlier.p90, LONGER), KNOWN, {}),
    ]
    return [
        Figure(
            title, link(leads.to_merges(took=times), text) if time.count else text, change, **more
        )
        for title, (text, change), times, more in rows
    ]


def _lead_to_late(totals: Totals, limit: timedelta, leads: Leads) -> SafeString:
    """Lead from the number of merges that missed a promised time to their list."""
    count = totals.late[limit]
    url = leads.to_merges(took=f"{LATE}{int(limit.total_seconds())}")
    return format_html("{} later", link(url, count) if count else "none")


def build_review_figures(now: Totals, before: Totals, leads: Leads) -> list[Figure]:
    """Return how many merges the reviews are of, and how many of them nobody reviewed."""
    merged = link(leads.to_reviews(), now.merged) if now.merged else "0"
    share, change = _compare(
        now.share_without_review, before.share_without_review, SHARE_UNREVIEWED
    )
    return [
        Figure("Merged", merged, show_change(now.merged, before.merged, MORE_MERGES, str)),
        Figure(
            "Merged without review",
            link(leads.to_reviews(review="without"), share) if now.without_review else share,
            change,
            remark=f"{now.without_review} of {now.review_is_known}",
        ),
    ]


def _compare(now: Any, before: Any, words: Words) -> tuple[str, SafeString]:
    show = show_share if words.is_share else show_duration
    return show(now), show_change(now, before, words, show)


def draw_trends(
    form: SelectionForm, selection: Selection, summary: Summary, leads: Leads
) -> list[Chart]:
    """Draw the trend of each metric that was read, with the goal of the team that was chosen."""
    goals = read_goals(leads.team)
    chosen = [metric for metric in summary.totals.metrics if metric in MORE_METRICS]
    charts, lists = [], [leads.to_reviews(span=point.span) for point in summary.points]
    for metric, spread in summary.totals.metrics.items():
        show, words = DEFINITIONS[metric].show, DEFINITIONS[metric].words
        trend = Trend(
            metric,
            summary.points,
            [narrow(url, known=metric) for url in lists],
            is_in_months=selection.is_in_months,
            goal=goals.get(metric),
        )
        rest = [one for one in chosen if one != metric]
        charts.append(
            draw_trend(
                trend,
                headline=link(leads.to_reviews(known=metric), show(spread.median))
                if spread.count
                else show(None),
                change=show_change(
                    spread.median, summary.before.metrics[metric].median, words, show
                ),
                remark=f"9 of 10 within {show(spread.p90)}, of {spread.count}"
                if spread.count
                else "",
                without=f"?{form.change(trend=rest)}" if metric in chosen else "",
            )
        )
    return charts


def read_goals(team: Team | None) -> dict[str, float]:
    """Return a team's goals by metric; none where no team was chosen."""
    if team is None:
        return {}
    return {goal.metric: float(goal.value) for goal in TeamGoal.objects.filter(team=team)}


def list_more_trends(form: SelectionForm) -> list[tuple[str, str]]:
    """Return title and address for each metric whose trend can be shown, too."""
    shown = form.metrics
    chosen = [metric for metric in shown if metric in MORE_METRICS]
    return [
        (DEFINITIONS[metric].title, f"?{form.change(trend=[*chosen, metric])}#trends")
        for metric in MORE_METRICS
        if metric not in shown
    ]
