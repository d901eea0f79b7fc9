from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("metrics_sync", "0011_saving")]

    operations = [
        migrations.AddField(
            model_name="pullrequest",
            name="disagreeing",
            field=models.JSONField(
                blank=True,
                default=list,
                db_default=models.Value([], output_field=models.JSONField()),
                help_text="Sections of which GitHub has said two different things for a day.",
            ),
        ),
    ]
