from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("metrics_sync", "0023_metrics_version_3"),
    ]

    operations = [
        migrations.AddField(
            model_name="integrationcredential",
            name="set_aside",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                editable=False,
                help_text="Requests that fetches may still send.",
            ),
        ),
        migrations.AddField(
            model_name="integrationcredential",
            name="set_aside_before",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                editable=False,
                help_text="The same, of the period before.",
            ),
        ),
        migrations.AddField(
            model_name="integrationcredential",
            name="set_aside_period",
            field=models.DateTimeField(
                editable=False,
                help_text="When the period began in which they were set aside.",
                null=True,
            ),
        ),
        migrations.DeleteModel(name="RequestLease"),
    ]
