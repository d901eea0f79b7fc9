from django.db import migrations, models

from metrics_sync.migrations._operations import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0028_team_goals"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="pullrequest",
            index=models.Index(
                condition=models.Q(("state", "merged")),
                fields=["merged_at"],
                include=(
                    *("id", "team", "github_repo", "is_by_bot"),
                    *("sync_status", "completed_at", "merged_without_review"),
                    *("review_wait_hours", "avg_fix_response_hours", "review_rounds"),
                    *("cycle_time_hours", "ci_duration_hours"),
                ),
                name="pull_request_figures",
            ),
        ),
    ]
