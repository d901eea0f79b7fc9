from django.db import migrations, models

from metrics_sync.migrations._operations import AddIndexWithoutLock


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0015_credential_api_root"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="pullrequest",
            index=models.Index(
                condition=models.Q(("disagreeing", []), _negated=True),
                fields=["merged_at"],
                name="pull_request_disagreeing",
            ),
        ),
    ]
