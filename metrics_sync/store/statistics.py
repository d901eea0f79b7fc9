"""Keeps PostgreSQL's statistics of the rows fresh, by which it chooses between indexes."""

import logging

from django.db import DatabaseError, connection

from metrics_sync.models import PullRequest

logger = logging.getLogger(__name__)


def refresh_statistics() -> None:
    """Have PostgreSQL look at the pull requests anew, as its manual asks for after a bulk load.

    Autovacuum does so a minute later at the earliest. Until then PostgreSQL takes a team that it
    has not seen for one without rows, and reads all rows of the team to find one by its id. Does
    nothing on other databases, and while another process is at it. A refusal is logged.
    https://www.postgresql.org/docs/current/populate.html#POPULATE-ANALYZE
    """
    if connection.vendor == "postgresql":
        name = PullRequest._meta.db_table  # noqa: SLF001  (public in all but name)
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE (SKIP_LOCKED) {connection.ops.quote_name(name)}")
        except DatabaseError as error:
            logger.warning("PostgreSQL did not look at the pull requests anew: %s", error)
