from django.db import migrations, models

from metrics_sync.migrations._operations import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0026_waiting_reviews"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="pullrequest",
            index=models.Index(
                condition=models.Q(state="open"), fields=["team"], name="pull_request_open"
            ),
        ),
    ]
