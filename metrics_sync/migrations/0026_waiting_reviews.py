from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("metrics_sync", "0025_weekly_digest"),
    ]

    operations = [
        # In the order in which a fetch locks the tables: either would else wait for the other.
        migrations.AddField(
            model_name="pullrequest",
            name="review_events",
            field=models.JSONField(
                blank=True,
                db_default=models.Value({}, output_field=models.JSONField()),
                default=dict,
                editable=False,
                help_text="The newest event of each kind that a webhook reported, and when.",
            ),
        ),
        migrations.AddField(
            model_name="pullrequest",
            name="review_requests",
            field=models.JSONField(
                blank=True,
                editable=False,
                help_text="Who is asked for a review, as GitHub last listed them; empty: unknown.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="prtimelineevent",
            name="subject_github_id",
            field=models.BigIntegerField(
                blank=True,
                help_text="Its id; empty for a team, and in rows of older versions.",
                null=True,
            ),
        ),
    ]
