"""Encrypt every stored secret with the first key."""

import sys
from argparse import RawDescriptionHelpFormatter
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import track

from metrics_sync.management.actor import describe_actor
from metrics_sync.models import AuditEntry
from metrics_sync.operate.key_rotation import count_secrets, rotate_secrets

NOTES = """
To replace a key without interruption:

  1. Put the new key in front of the old one: TOKEN_ENCRYPTION_KEYS=NEW,OLD. Restart everything.
  2. manage.py rotate_token_keys
  3. When it ends with 0, take the old key away and restart.

Safe while the service runs, safe to interrupt and to run again.
"""


class Command(BaseCommand):
    help = "Encrypt every stored secret with the first key of TOKEN_ENCRYPTION_KEYS."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def handle(self, **options: Any) -> None:
        total = count_secrets()
        console = Console(file=cast(IO[str], self.stderr))
        steps = track(
            rotate_secrets(), "Rotating", total, console=console, disable=not sys.stderr.isatty()
        )
        unreadable, count = [], 0
        for secret in steps:
            count += 1
            if not secret.is_readable:
                unreadable.append(secret)
        result = f"{count - len(unreadable)} of {count} secrets rotated."
        AuditEntry.objects.create(
            actor=describe_actor("rotate_token_keys"), subject="all secrets", change=result
        )
        self.stdout.write(result)
        if unreadable:
            raise CommandError(
                "No key decrypts these; add the key that encrypted them, or store them again: "
                + ", ".join(map(str, unreadable))
            )
