from django.db import migrations, models

from metrics_sync.migrations._operations import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0009_scan_indexes"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="pullrequest",
            index=models.Index(fields=["metrics_version"], name="pull_request_metrics_version"),
        ),
    ]
