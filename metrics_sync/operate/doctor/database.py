"""Is the database there and up to date, and do its rows move?"""

from datetime import UTC, datetime, timedelta

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from metrics_sync.models import PullRequest
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.operate.doctor.findings import Finding, describe

#: Clocks further apart than this make sense of no time limit: GitHub's and ours are compared.
MOST_SKEW = timedelta(seconds=30)
#: So many rows may have failed without anybody having to look.
FEW = 50
#: GitHub's rate limits have nobody wait for longer than an hour.
LONG = timedelta(hours=2)
#: Counting ends here.
MANY = 10_000


def check_database() -> list[Finding]:
    """Ask the database for its name and time."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_TIMESTAMP")
            (moment,) = cursor.fetchone()
    except (DatabaseError, InterfaceError) as error:
        reason = str(error).strip().partition("\n")[0]
        return [Finding("database", reason, "Start the database, or correct DATABASE_URL.")]
    answers = Finding("database", f"{connection.display_name} answers")
    if connection.vendor == "sqlite":
        # It has no clock of its own.
        return [answers]
    return [answers, judge_clock("the database", moment, now=timezone.now())]


def judge_clock(whose: str, moment: datetime, *, now: datetime) -> Finding:
    """Compare somebody's clock with ours; pure."""
    skew = abs(now - moment.astimezone(UTC))
    text = f"the clocks of {whose} and of this machine are {describe(skew)} apart"
    if skew <= MOST_SKEW:
        return Finding("clock", text)
    return Finding("clock", text, "Run a time service (NTP) on the one that is wrong.")


def check_migrations() -> list[Finding]:
    """Look for migrations that were not run."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return [Finding("migrations", "all applied")]
    names = ", ".join(f"{migration.app_label} {migration.name}" for migration, _ in plan[:3])
    more = f" and {len(plan) - 3} more" if len(plan) > 3 else ""
    return [Finding("migrations", f"not applied: {names}{more}", "Run `manage.py migrate`.")]


def check_rows() -> list[Finding]:
    """Look for pull requests that nobody moves."""
    rows = PullRequest.objects.order_by()
    silent = rows.silent_since(timezone.now() - 2 * STUCK_AFTER)[:MANY].count()
    failed = rows.filter(sync_status__in=[SyncStatus.FAILED, SyncStatus.PARTIAL])[:MANY].count()
    advice = "See the reasons in /admin/; most often it is a token." if failed > FEW else ""
    disagreeing = rows.disagreeing()[:MANY].count()
    findings = [Finding("rows", f"failed or partial: {_count(failed)}; the rows say why", advice)]
    if waiting := rows.waiting_since(timezone.now() - LONG)[:MANY].count():
        text = f"pending or queued for more than 2 hours: {_count(waiting)}"
        advice = "Check clock, workers and tokens; the rows say what they wait for."
        findings.append(Finding("rows", text, advice))
    if disagreeing:
        text = f"with a list that GitHub states another length of: {_count(disagreeing)}"
        findings.append(Finding("rows", f"{text}; their receipts have both numbers"))
    if silent:
        text = f"running without a sign of life for 4 minutes: {_count(silent)}"
        findings.append(Finding("rows", text, "Run `manage.py reconcile`, and see to the clock."))
    return findings


def _count(number: int) -> str:
    return f"{number} or more" if number == MANY else str(number)
