"""Asks PostgreSQL which rows its plans read."""

from django.db import connection

from metrics_sync.models import PullRequest


def avoid_whole_tables() -> None:
    """Have the planner use indexes until the transaction ends, as of tables with many rows."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")


def count_rows_read() -> int:
    """Return how many pull requests this transaction has read, filtered-out ones included."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = %s",
            [PullRequest._meta.db_table],
        )
        return int(cursor.fetchone()[0])
