from django.db import migrations

from metrics_sync.migrations._operations import AddIndexOfPostgreSQL


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0034_bulk_pause"),
    ]

    operations = [
        # Takes the place of that of 0029, with authors as well. Going back leaves none, which costs
        # time alone.
        AddIndexOfPostgreSQL(
            "pullrequest",
            name="pull_request_figures",
            definition=(
                "(merged_at) INCLUDE (id, team_id, github_repo, is_by_bot, sync_status,"
                " completed_at, merged_without_review, review_wait_hours,"
                " avg_fix_response_hours, review_rounds, cycle_time_hours, ci_duration_hours,"
                " author_id, author_login, ready_at)"
                " WHERE state = 'merged'"
            ),
        ),
        AddIndexOfPostgreSQL(
            "prreview",
            name="review_by_account",
            definition=(
                "(pull_request_id, reviewer_id) INCLUDE (submitted_at, id)"
                " WHERE reviewer_id IS NOT NULL"
            ),
        ),
        AddIndexOfPostgreSQL(
            "prtimelineevent",
            name="timeline_requests",
            definition=(
                "(pull_request_id, subject_github_id, created_at)"
                " WHERE event = 'review_requested' AND subject_github_id IS NOT NULL"
            ),
        ),
    ]
