from django.db import migrations

from metrics_sync.migrations._operations import AddIndexOfPostgreSQL


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0028_team_goals"),
    ]

    operations = [
        # SQLite has no covering indexes.
        AddIndexOfPostgreSQL(
            "pullrequest",
            name="pull_request_figures",
            definition=(
                "(merged_at) INCLUDE (id, team_id, github_repo, is_by_bot, sync_status,"
                " completed_at, merged_without_review, review_wait_hours,"
                " avg_fix_response_hours, review_rounds, cycle_time_hours, ci_duration_hours)"
                " WHERE state = 'merged'"
            ),
        ),
    ]
