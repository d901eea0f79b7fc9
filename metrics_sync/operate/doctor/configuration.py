"""Is what is configured fit to run with?"""

from django.conf import settings
from django.core import checks

from metrics_sync.operate.doctor.findings import Finding


def check_settings() -> list[Finding]:
    """Repeat the errors and warnings of `manage.py check`, in production of `check --deploy`."""
    found = checks.run_checks(include_deployment_checks=not settings.DEBUG)
    loud = [message for message in found if message.level >= checks.WARNING]
    wrong = [message for message in loud if not message.is_silenced()]
    advice = "Correct it in the environment; README.md lists every variable."
    return [Finding("settings", message.msg, message.hint or advice) for message in wrong] or [
        Finding("settings", "no errors and no warnings")
    ]
