from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("metrics_sync", "0035_reviewer_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="fetchrun",
            name="is_superseded",
            field=models.BooleanField(
                db_default=False,
                default=False,
                editable=False,
                help_text="A later attempt to fetch the pull request has begun.",
            ),
        ),
    ]
