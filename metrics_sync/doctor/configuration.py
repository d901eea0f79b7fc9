"""Is what is configured fit to run with?"""

from django.conf import settings
from django.core import checks

from metrics_sync.doctor.findings import Finding


def check_settings() -> list[Finding]:
    """Repeat what `manage.py check` calls an error."""
    found = checks.run_checks(include_deployment_checks=not settings.DEBUG)
    errors = [message for message in found if message.level >= checks.ERROR]
    advice = "Correct it in the environment; README.md lists every variable."
    return [Finding("settings", message.msg, message.hint or advice) for message in errors] or [
        Finding("settings", "no errors")
    ]
