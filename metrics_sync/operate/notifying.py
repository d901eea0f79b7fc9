"""Reports what doctor finds newly wrong, and what is well again, by mail or to a chat's webhook."""

import json
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.models import Notice
from metrics_sync.models.notice import fingerprint
from metrics_sync.operate.doctor import Finding, examine

logger = logging.getLogger(__name__)

#: Seconds to wait for the chat's server.
WEBHOOK_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class Report:
    """What changed since the last report."""

    problems: Sequence[Notice]
    ended: Sequence[Notice]

    @property
    def subject(self) -> str:
        parts = [f"{len(self.problems)} new problems"] if len(self.problems) > 1 else []
        if len(self.problems) == 1:
            parts = [str(self.problems[0])]
        if self.ended:
            parts.append(f"{len(self.ended)} well again")
        return f"metrics_sync: {', '.join(parts)}".replace("\n", " ")[:200]

    @property
    def body(self) -> str:
        lines = [f"WRONG  {notice}\n  {notice.advice}\n" for notice in self.problems]
        lines += [f"WELL AGAIN  {notice}" for notice in self.ended]
        address = f" Dashboard: {app_settings.BASE_URL}/" if app_settings.BASE_URL else ""
        return "\n".join([*lines, "", f"`manage.py doctor` shows everything.{address}"])


def report_changes() -> dict[str, Any]:
    """Run doctor, and report what changed; the clock runs this every ten minutes.

    A problem is reported once, after two rounds in a row have found it, and reported as well
    again after two rounds without it. Without an address in NOTIFY_EMAILS or NOTIFY_WEBHOOK_URL
    nothing is examined. If sending fails, the next round tries again.
    """
    if not (app_settings.NOTIFY_EMAILS or app_settings.NOTIFY_WEBHOOK_URL):
        return {"problems": 0, "ended": 0}
    return report(examine())


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """Compare findings with the last round's, and send what changed. See `report_changes`."""
    now = timezone.now()
    _note(findings)
    with transaction.atomic():
        # Two rounds at the same time must not send the same problem twice.
        rows = Notice.objects.select_for_update().order_by("pk")
        changes = Report(list(rows.unreported()), list(rows.ended_before(now)))
        if changes.problems or changes.ended:
            _send(changes)
            reported = [notice.pk for notice in changes.problems]
            Notice.objects.filter(pk__in=reported).update(reported_at=now)
            Notice.objects.filter(pk__in=[notice.pk for notice in changes.ended]).delete()
    logger.info("Reported %s problems and %s ends", len(changes.problems), len(changes.ended))
    return {"problems": len(changes.problems), "ended": len(changes.ended)}


def _note(findings: Sequence[Finding]) -> None:
    now = timezone.now()
    found = {}
    for finding in findings:
        if not finding.is_ok:
            key = fingerprint(finding.group, finding.subject, finding.advice)
            found[key] = Notice(
                fingerprint=key,
                group=finding.group,
                text=finding.text,
                advice=finding.advice,
                first_seen_at=now,
                last_seen_at=now,
            )
    Notice.objects.bulk_create(
        found.values(),
        update_conflicts=True,
        unique_fields=["fingerprint"],
        update_fields=["group", "text", "advice", "last_seen_at", "missing_since"],
    )
    others = Notice.objects.exclude(fingerprint__in=found)
    others.filter(reported_at=None).delete()
    others.filter(missing_since=None).update(missing_since=now)


def _send(changes: Report) -> None:
    """Send a report by each configured way. Raises OSError if none of them takes it."""
    ways = [
        way
        for way, address in (
            (_send_mail, app_settings.NOTIFY_EMAILS),
            (_post, app_settings.NOTIFY_WEBHOOK_URL),
        )
        if address
    ]
    errors = list[OSError]()
    for way in ways:
        try:
            way(changes)
        except OSError as error:
            # SMTP's errors and those of HTTP are OSErrors, too.
            logger.exception("A report was not sent")
            errors.append(error)
    if len(errors) == len(ways):
        raise errors[0]


def _send_mail(changes: Report) -> None:
    send_mail(changes.subject, changes.body, None, app_settings.NOTIFY_EMAILS)


def _post(changes: Report) -> None:
    content = json.dumps({"text": f"*{changes.subject}*\n{changes.body}"}).encode()
    headers = {"Content-Type": "application/json"}
    # The operator's own setting, which a check holds to http and https.
    request = urllib.request.Request(app_settings.NOTIFY_WEBHOOK_URL, content, headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=WEBHOOK_TIMEOUT):  # noqa: S310  # nosec B310
            pass
    except urllib.error.HTTPError as error:
        # It holds the response, and with it a connection.
        error.close()
        raise
