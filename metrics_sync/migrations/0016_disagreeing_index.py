from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class AddIndexWhileOthersWrite(AddIndexConcurrently):
    """Adds an index; of PostgreSQL without locking the table."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_forwards(
                self, app_label, schema_editor, from_state, to_state
            )

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_backwards(
                self, app_label, schema_editor, from_state, to_state
            )


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0015_credential_api_root"),
    ]

    operations = [
        AddIndexWhileOthersWrite(
            model_name="pullrequest",
            index=models.Index(
                condition=models.Q(("disagreeing", []), _negated=True),
                fields=["merged_at"],
                name="pull_request_disagreeing",
            ),
        ),
    ]
