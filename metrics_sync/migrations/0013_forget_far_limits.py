from datetime import timedelta
from typing import Any

from django.db import migrations
from django.utils import timezone

#: What may stand in a row that is younger than the bound on what is read.
LONGEST_WINDOW = timedelta(hours=2)


def forget_far_limits(apps: Any, schema_editor: Any) -> None:
    """Let credentials ask again that a limit without an end had stopped; safe to repeat."""
    credentials = apps.get_model("metrics_sync", "IntegrationCredential").objects
    far = timezone.now() + LONGEST_WINDOW
    credentials.filter(wait_until__gt=far).update(wait_until=None)
    credentials.filter(rate_limit_resets_at__gt=far).update(rate_limit_resets_at=None)


class Migration(migrations.Migration):
    dependencies = [("metrics_sync", "0012_disagreeing")]

    operations = [migrations.RunPython(forget_far_limits, migrations.RunPython.noop)]
