"""Make a token with which a program reads one team's numbers."""

import json
import re
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from metrics_sync.management.actor import describe_actor
from metrics_sync.models import ApiToken, Team
from metrics_sync.store import record_change

NOTES = """
The token alone goes to stdout, and only now: what is stored is its hash.

  manage.py create_api_token platform charts
  manage.py create_api_token platform "weekly report" --days 90 --json

It is revoked in the admin, under API tokens.
"""


def parse_days(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise ArgumentTypeError("write a whole number of days, from 1 to 9999")
    return int(text)


class Command(BaseCommand):
    help = "Make a token for the JSON API of one team, and print it once."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("team", metavar="TEAM", help="the team's slug")
        parser.add_argument("name", metavar="NAME", help="what the token is for")
        parser.add_argument(
            "--days", type=parse_days, metavar="N", help="let it expire after so many days"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        team = Team.objects.filter(slug=options["team"]).first()
        if team is None:
            raise CommandError(f"There is no team {options['team']!r}.", returncode=2)
        days = options["days"]
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        row = ApiToken(team=team, name=options["name"], expires_at=expires_at)
        token = row.draw_token()
        try:
            row.full_clean()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages), returncode=2) from error
        with transaction.atomic():
            row.save()
            record_change(actor=describe_actor("create_api_token"), subject=row, change="made")
        if options["json"]:
            result = {"team": team.slug, "name": row.name, "token": token}
            self.stdout.write(json.dumps(result))
        else:
            self.stdout.write(token)
            self.stderr.write(f"For team {team.slug}. It cannot be shown again.")
