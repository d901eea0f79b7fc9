"""Shows states, times, receipts and budgets on a page."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import zip_longest
from typing import Any

from django.template.defaultfilters import date
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator, capfirst, slugify

from metrics_sync.models import IntegrationCredential, PullRequest
from metrics_sync.snapshot import (
    CAPPED,
    DISAGREEING,
    OUTDATED,
    UNAVAILABLE,
    VERIFIED,
    Receipt,
    Section,
    SectionReceipt,
)

UNKNOWN = "\N{EN DASH}"

#: From the longest to the shortest.
UNITS = (
    ("days", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("min", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
)

COLOURS = {
    "complete": "success",
    "partial": "warning",
    "failed": "danger",
    "running": "info",
    "queued": "info",
    "untracked": "warning",
    "processed": "success",
    VERIFIED: "success",
    CAPPED: "warning",
    DISAGREEING: "warning",
    OUTDATED: "info",
    UNAVAILABLE: "warning",
    "approved": "success",
    "changes_requested": "danger",
    "success": "success",
    "failure": "danger",
    "usable": "success",
    "waiting": "warning",
    "expired": "danger",
    "revoked": "danger",
    "delivers": "success",
    "failing": "danger",
    "silent": "warning",
}


def show_label(word: str) -> SafeString:
    """Return a state as a coloured label."""
    if not word:
        return format_html("{}", UNKNOWN)
    return format_html('<span class="label {}">{}</span>', COLOURS.get(word, ""), word)


def show_moment(moment: datetime | None) -> str:
    """Return a time in UTC, short enough for a table."""
    return date(moment.astimezone(UTC), "Y-m-d H:i") if moment else UNKNOWN


def show_on_one_line(moment: datetime | None) -> SafeString | str:
    """Return a time that no table breaks in two; times.js shows how long ago it was."""
    if moment is None:
        return UNKNOWN
    return format_html(
        '<time datetime="{}" class="whitespace-nowrap">{}</time>',
        moment.astimezone(UTC).isoformat(timespec="seconds"),
        show_moment(moment),
    )


def show_long(text: str, *, most: int) -> SafeString:
    """Return a text that is cut after `most` characters and wraps within its column."""
    return format_html('<span class="long">{}</span>', Truncator(text).chars(most))


def show_hours(hours: Decimal | float | None) -> str:
    """Return hours as a duration in a readable unit."""
    return show_duration(to_duration(hours))


def show_duration(duration: timedelta | None) -> str:
    if duration is None:
        return UNKNOWN
    seconds = duration.total_seconds()
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def choose_unit(durations: Iterable[timedelta | None]) -> tuple[str, timedelta]:
    """Return the name and the length of the unit for durations, which their median decides."""
    known = sorted(duration for duration in durations if duration is not None)
    middle = known[len(known) // 2] if known else timedelta()
    return next((one for one in UNITS if middle >= 2 * one[1]), UNITS[-1])


def show_in_one_unit(durations: Sequence[timedelta | None]) -> list[str]:
    """Return the durations of a column in one unit."""
    name, unit = choose_unit(durations)
    return [UNKNOWN if one is None else f"{one / unit:.1f} {name}" for one in durations]


def to_duration(hours: Decimal | float | None) -> timedelta | None:
    return None if hours is None else timedelta(hours=float(hours))


def find_time_to_complete(row: PullRequest) -> timedelta | None:
    """Return how long after the merge the data were complete for the first time."""
    if row.completed_at is None or row.merged_at is None:
        return None
    return row.completed_at - row.merged_at


def show_receipt(receipt: Mapping[str, Any]) -> SafeString:
    """Return the receipt as a table with a row for each section, also those never fetched."""
    headers = ["section", "stated", "stored", "result", "witness"]
    entries = Receipt.from_json(receipt).sections
    rows = [_build_receipt_row(section, entries.get(section)) for section in Section]
    return show_table("Receipt", headers, rows)


def _build_receipt_row(section: Section, entry: SectionReceipt | None) -> list[Any]:
    name = section.replace("_", " ")
    if entry is None:
        return [name, *[UNKNOWN] * 4]
    label = show_label(entry.result) if entry.result in COLOURS else entry.result
    shown = format_html("{} {}", label, entry.reason) if entry.reason else label
    stated = UNKNOWN if entry.stated is None else entry.stated
    return [name, stated, entry.stored, shown, entry.witness or UNKNOWN]


def show_provenance(provenance: Mapping[str, Any]) -> str:
    """Return a table of the basis of the metrics: items excluded, recovered and missing."""
    if not provenance:
        return UNKNOWN
    excluded, dismissed = provenance["excluded"], provenance["dismissed_reviews"]
    rows = [
        ["commits after the first review by", provenance["commits_after_first_review"] or UNKNOWN],
        ["excluded: the author's own reviews", excluded["own_reviews"]],
        ["excluded: pending reviews", excluded["pending_reviews"]],
        ["excluded: reviews by bots", _join(excluded["bot_reviews"])],
        ["excluded: merges of the base", excluded.get("merge_commits", UNKNOWN)],
        ["excluded: commits by bots", _join(excluded.get("bot_commits", {}))],
        ["excluded: after the merge", _describe_later(excluded.get("after_merge", {}))],
        ["answers whose clock was wrong", provenance.get("answers_with_corrected_time", UNKNOWN)],
        ["dismissed reviews known for what they were", dismissed["recovered"]],
        ["dismissed reviews that are not", dismissed["unknown"]],
        ["lists that were missing", ", ".join(provenance["missing"]) or "none"],
    ]
    return show_table("How the metrics were measured", ["basis", "value"], rows)


def _describe_later(counts: Mapping[str, Any]) -> str:
    parts = [f"{n} {name.replace('_', ' ')}" for name, n in counts.items() if isinstance(n, int)]
    unknown = ", ".join(counts.get("unknown_checks", ()))
    told = ", ".join(part for part in parts if not part.startswith("0 ")) or "0"
    return f"{told}; how these checks stood before is unknown: {unknown}" if unknown else told


def _join(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} by {rule}" for rule, count in counts.items()) or "0"


def show_table(
    label: str,
    headers: list[str],
    rows: Iterable[list[Any]],
    *,
    keys: Iterable[Any] = (),
    fills_card: bool = False,
) -> SafeString:
    """Return a table; `label` names the box that it scrolls in to those who cannot see it.

    `keys` identify the rows, so that an update of the page keeps the focus in the same one.
    """
    titles, name = [capfirst(header) for header in headers], slugify(label)
    # A template takes four times as long for the cells, of which a page has thousands.
    cells = [
        format_html_join("", '<td data-label="{}">{}</td>', zip(titles, row, strict=True))
        for row in rows
    ]
    ids = (f"{name}-{key}" for key in keys)
    context = {
        "label": label,
        "headers": titles,
        "rows": list(zip_longest(cells, ids)),
        "fills_card": fills_card,
    }
    return render_to_string("metrics_sync/table.html", context)


def name_credential_state(credential: IntegrationCredential) -> str:
    """Say in one word whether GitHub takes requests of this credential at the moment."""
    now = timezone.now()
    if credential.revoked_at is not None:
        return "revoked"
    # The short-lived token of a GitHub App is renewed when it is needed.
    if credential.kind == credential.Kind.TOKEN and (credential.expires_at or now) < now:
        return "expired"
    # Requests that workers reserved are not subtracted: a list shows many credentials.
    waits = (credential.wait_until or now) > now or credential.left == 0
    return "waiting" if waits else "usable"


def describe_budget(credential: IntegrationCredential) -> SafeString | str:
    """Say how many requests are left until when; unknown once that moment has passed."""
    resets_at = credential.rate_limit_resets_at
    if credential.rate_limit_remaining is None or resets_at is None or resets_at < timezone.now():
        return UNKNOWN
    limit = UNKNOWN if credential.rate_limit is None else credential.rate_limit
    until = show_on_one_line(resets_at)
    return format_html("{} of {} until {}", credential.rate_limit_remaining, limit, until)
