"""Create a token with which a program reads one team's numbers."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.db import transaction
from django.utils import timezone

from metrics_sync.management.actor import describe_actor
from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import find_team
from metrics_sync.models import ApiToken
from metrics_sync.store import record_change

NOTES = """
Only the token goes to stdout. It cannot be shown again, because only its hash is stored.

  manage.py create_api_token platform charts
  manage.py create_api_token platform "weekly report" --days 90 --json

`manage.py api_tokens` lists the tokens of all teams and revokes them.
"""


def parse_days(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise ArgumentTypeError("write a whole number of days, from 1 to 9999")
    return int(text)


class Command(OperatorCommand):
    help = "Create a token for one team's JSON API, and print it once."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("team", metavar="TEAM", help="the team's slug")
        parser.add_argument("name", metavar="NAME", help="what the token is for")
        parser.add_argument(
            "--days", type=parse_days, metavar="N", help="days until the token expires"
        )

    def handle(self, **options: Any) -> None:
        if find_spec("ninja") is None:
            raise CommandError(
                "The JSON API is not installed: django-ninja is missing. Install it with "
                "pip install 'metrics_sync[api]'. No token was made."
            )
        team = find_team(options["team"])
        days = options["days"]
        expires_at = timezone.now() + timedelta(days=days) if days is not None else None
        row = ApiToken(team=team, name=options["name"], expires_at=expires_at)
        token = row.draw_token()
        try:
            row.full_clean()
        except ValidationError as error:
            raise UsageError("; ".join(error.messages)) from error
        with transaction.atomic():
            row.save()
            record_change(actor=describe_actor("create_api_token"), subject=row, change="made")
        if options["json"]:
            self.print_json({"team": team.slug, "name": row.name, "token": token})
        else:
            self.stdout.write(token)
            self.stderr.write(f"For team {team.slug}. It cannot be shown again.")
