from django.db import migrations

from metrics_sync.migrations._operations import AddIndexOfPostgreSQL


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0038_superseded_index"),
    ]

    operations = [
        # Takes the place of that of 0035, with the tracked repository as well. Going back leaves
        # none, which costs time alone.
        AddIndexOfPostgreSQL(
            "pullrequest",
            name="pull_request_figures",
            definition=(
                "(merged_at) INCLUDE (id, team_id, repository_id, github_repo, is_by_bot,"
                " sync_status, completed_at, merged_without_review, review_wait_hours,"
                " avg_fix_response_hours, review_rounds, cycle_time_hours, ci_duration_hours,"
                " author_id, author_login, ready_at)"
                " WHERE state = 'merged'"
            ),
        ),
    ]
