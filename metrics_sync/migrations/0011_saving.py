"""Columns that fit what GitHub allows, files told apart by a hash, and failures in a row."""

from hashlib import sha256

from django.db import migrations, models

#: How many files are given their key by one statement.
BATCH = 10_000


def fill_keys(apps, schema_editor):
    """Give every file its key, in statements that each lock some thousand rows only."""
    rows = apps.get_model("metrics_sync", "PRFile").objects
    last = rows.order_by("-pk").values_list("pk", flat=True).first() or 0
    for start in range(0, last + 1, BATCH):
        batch = rows.filter(pk__gt=start - 1, pk__lte=start + BATCH, listing_key="")
        if schema_editor.connection.vendor == "postgresql":
            batch.update(
                listing_key=models.expressions.RawSQL(
                    "encode(sha256(convert_to(filename, 'UTF8') || '\\x00'::bytea"
                    " || convert_to(status, 'UTF8')), 'hex')",
                    [],
                )
            )
            continue
        files = list(batch.only("filename", "status"))
        for file in files:
            file.listing_key = sha256(f"{file.filename}\0{file.status}".encode()).hexdigest()
        rows.bulk_update(files, ["listing_key"], batch_size=400)


class AddIndexInPassing(migrations.AddIndex):
    """Adds an index while rows are written, where the database can do that."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor == "postgresql":
            model = to_state.apps.get_model(app_label, self.model_name)
            schema_editor.add_index(model, self.index, concurrently=True)
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddConstraintInPassing(migrations.AddConstraint):
    """Adds a unique constraint while rows are written, where the database can do that."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        quote, name = schema_editor.quote_name, self.constraint.name
        table = quote(model._meta.db_table)
        columns = [model._meta.get_field(field).column for field in self.constraint.fields]
        schema_editor.execute(
            f"CREATE UNIQUE INDEX CONCURRENTLY {quote(name)} ON {table} "
            f"({', '.join(map(quote, columns))})"
        )
        schema_editor.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT {quote(name)} UNIQUE USING INDEX {quote(name)}"
        )


def make_text(model_name, *names, **options):
    """Let columns hold texts of any length; PostgreSQL rewrites no table for that."""
    return [
        migrations.AlterField(model_name, name, models.TextField(**options)) for name in names
    ]


class Migration(migrations.Migration):
    # Indexes are made while rows are written.
    atomic = False

    dependencies = [("metrics_sync", "0010_metrics_version_index")]

    operations = [
        *make_text("commit", "author_login", blank=True),
        *make_text("prcheckrun", "app_slug", "conclusion", blank=True),
        *make_text("prcheckrun", "status"),
        *make_text("prcomment", "author_login", blank=True),
        *make_text("prcommitstatus", "state"),
        *make_text("prfile", "status"),
        *make_text("prreview", "reviewer_login", blank=True),
        *make_text("prreview", "state"),
        *make_text(
            "prreview",
            "submitted_state",
            blank=True,
            help_text="What it was before it was dismissed; empty: unknown.",
        ),
        *make_text("prtimelineevent", "actor_login", blank=True),
        *make_text(
            "prtimelineevent",
            "dismissed_state",
            blank=True,
            help_text="What the dismissed review was.",
        ),
        *make_text("prtimelineevent", "event"),
        *make_text(
            "prtimelineevent", "subject_login", blank=True, help_text="Who was asked to review."
        ),
        *make_text("pullrequest", "author_login", "base_ref", "head_ref", blank=True),
        *make_text("teammember", "login"),
        migrations.AddField(
            "pullrequest",
            "failures",
            models.PositiveIntegerField(
                default=0,
                db_default=0,
                help_text="How often in a row it was given up; a list that came ends that.",
            ),
        ),
        migrations.AddField(
            "pullrequest",
            "fault_may_pass",
            models.BooleanField(
                default=False,
                db_default=False,
                help_text="It failed because GitHub did not answer; the next answer ends that.",
            ),
        ),
        AddIndexInPassing(
            "pullrequest",
            models.Index(
                fields=["retry_at"],
                condition=models.Q(fault_may_pass=True),
                name="pull_request_passing",
            ),
        ),
        migrations.AddField(
            "prfile",
            "listing_key",
            models.CharField(db_default="", default="", editable=False, max_length=64),
        ),
        migrations.RunPython(fill_keys, migrations.RunPython.noop),
        AddConstraintInPassing(
            "prfile",
            models.UniqueConstraint(
                fields=["pull_request", "listing_key"], name="unique_listing_of_pull_request"
            ),
        ),
        migrations.RemoveConstraint("prfile", "unique_file_of_pull_request"),
    ]
