"""Lists that GitHub counts otherwise, and an index of legacy statuses that are still pending."""

from django.db import migrations, models


class AddIndexInPassing(migrations.AddIndex):
    """Adds an index while rows are written, where the database can do that."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            model = to_state.apps.get_model(app_label, self.model_name)
            schema_editor.add_index(model, self.index, concurrently=True)
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    # An index is built beside the work only outside of a transaction.
    atomic = False

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
        AddIndexInPassing(
            "prcommitstatus",
            models.Index(
                fields=["pull_request"],
                condition=models.Q(state="pending"),
                name="pending_commit_status",
            ),
        ),
    ]
