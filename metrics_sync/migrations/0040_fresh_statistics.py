from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

#: Look at the rows anew after a hundredth of them have changed, not a tenth: in a tenth of a
#: million rows there may be a whole team that PostgreSQL has not seen, whose rows it would all
#: read to find one.
SHARE = "autovacuum_analyze_scale_factor"


def set_share(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    alter(apps, schema_editor, f"SET ({SHARE} = 0.01)")


def reset_share(apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    alter(apps, schema_editor, f"RESET ({SHARE})")


def alter(apps: Any, schema_editor: BaseDatabaseSchemaEditor, change: str) -> None:
    """Alter the table; reading and writing go on meanwhile."""
    if schema_editor.connection.vendor == "postgresql":
        table = apps.get_model("metrics_sync", "PullRequest")._meta.db_table
        schema_editor.execute(f"ALTER TABLE {schema_editor.quote_name(table)} {change}")


class Migration(migrations.Migration):
    dependencies = [
        ("metrics_sync", "0039_figures_of_repositories"),
    ]

    operations = [
        migrations.RunPython(set_share, reset_share),
    ]
