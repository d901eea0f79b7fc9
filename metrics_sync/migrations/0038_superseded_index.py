"""Marks the fetch runs that have a later one, and gives them an index."""

from django.db import migrations, models

from metrics_sync.migrations._operations import AddIndexWithoutLock

#: Keys of one UPDATE, so that no lock lasts.
BATCH = 5000


def mark(apps, schema_editor):
    runs = apps.get_model("metrics_sync", "FetchRun").objects.using(schema_editor.connection.alias)
    later = runs.filter(pull_request=models.OuterRef("pull_request"), pk__gt=models.OuterRef("pk"))
    last = runs.order_by("pk").values_list("pk", flat=True).last() or 0
    for start in range(0, last, BATCH):
        some = runs.filter(pk__gt=start, pk__lte=start + BATCH, is_superseded=False)
        some.filter(models.Exists(later)).update(is_superseded=True)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("metrics_sync", "0037_superseded_runs"),
    ]

    operations = [
        migrations.RunPython(mark, migrations.RunPython.noop, elidable=True),
        AddIndexWithoutLock(
            model_name="fetchrun",
            index=models.Index(
                condition=models.Q(("is_superseded", True)),
                fields=["started_at"],
                name="superseded_fetch_runs",
            ),
        ),
    ]
