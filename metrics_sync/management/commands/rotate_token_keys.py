"""Encrypt every stored secret with the first key."""

import sys
from argparse import RawDescriptionHelpFormatter
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import track

from metrics_sync.keys import list_secrets, rotate

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
        secrets = list_secrets()
        console = Console(file=cast(IO[str], self.stderr))
        steps = track(secrets, "Rotating", console=console, disable=not sys.stderr.isatty())
        unreadable = [secret for secret in steps if not rotate(secret)]
        self.stdout.write(f"{len(secrets) - len(unreadable)} of {len(secrets)} secrets rotated.")
        if unreadable:
            raise CommandError(
                "No key decrypts these; add the key that encrypted them, or store them again: "
                + ", ".join(map(str, unreadable))
            )
