"""Encrypt every stored secret with the first key."""

from typing import Any

from django.core.management.base import CommandError

from metrics_sync.management.actor import describe_actor
from metrics_sync.management.base import OperatorCommand
from metrics_sync.management.progress import show_progress
from metrics_sync.models import AuditEntry
from metrics_sync.operate.key_rotation import Secret, count_secrets, rotate_secrets

NOTES = """
To replace a key without interruption:

  1. Put the new key in front of the old one: TOKEN_ENCRYPTION_KEYS=NEW,OLD. Restart everything.
  2. manage.py rotate_token_keys
  3. When it exits with status 0, remove the old key and restart.

Safe while the service runs, safe to interrupt and to run again.
"""


class Command(OperatorCommand):
    help = "Encrypt every stored secret with the first key of TOKEN_ENCRYPTION_KEYS."
    notes = NOTES

    def handle(self, **options: Any) -> None:
        self._rotated, self._unreadable = 0, list[str]()
        try:
            with show_progress(self.stderr) as meter:
                for secret in meter.track(rotate_secrets(), "Rotating", total=count_secrets()):
                    self._note(secret)
        except KeyboardInterrupt as error:
            self._report_result(options)
            raise CommandError("Stopped. Run the same command again to continue.") from error
        self._report_result(options)
        if self._unreadable:
            raise CommandError(
                "No key decrypts these secrets. Add the key that encrypted them, or store them "
                "again: " + ", ".join(self._unreadable)
            )

    def _note(self, secret: Secret) -> None:
        if secret.is_readable:
            self._rotated += 1
        else:
            self._unreadable.append(str(secret))

    def _report_result(self, options: dict[str, Any]) -> None:
        count = self._rotated + len(self._unreadable)
        result = f"{self._rotated} of {count} secrets rotated."
        AuditEntry.objects.create(
            actor=describe_actor("rotate_token_keys"), subject="all secrets", change=result
        )
        if options["json"]:
            self.print_json({"rotated": self._rotated, "unreadable": self._unreadable})
        else:
            self.stdout.write(result)
