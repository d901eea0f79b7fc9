"""Connect a team to a GitHub repository."""

import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_slug

from metrics_sync.connecting import Connection, check_access, check_others, save_connection
from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.models.integrations import validate_full_name

EXAMPLES = """
The token is read from GITHUB_TOKEN, or from standard input with --token-stdin; never give it
as an argument, where other users of the machine could read it. It needs read access to pull
requests, contents, issues, checks and commit statuses of the repository.

  manage.py connect acme/anvil --team platform --token-stdin < token.txt
  GITHUB_TOKEN=... manage.py connect acme/anvil --team platform --base-url https://sync.example

Then add a webhook to the repository (Settings, Webhooks) with the printed URL and secret,
content type application/json, and the events: pull requests, pull request reviews, pull
request review comments, issue comments, check runs, repositories.

Run it again to store a new token: whatever waited for one goes on with the next reconcile.
"""


class Command(BaseCommand):
    help = "Connect a team to a GitHub repository: check and store its token, print the webhook."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("repository", metavar="OWNER/NAME")
        parser.add_argument("--team", required=True, metavar="SLUG", help="made if it is new")
        parser.add_argument(
            "--token-stdin", action="store_true", help="read the token from standard input"
        )
        parser.add_argument(
            "--api-url",
            default=settings.GITHUB_API_URL,
            metavar="URL",
            help="GitHub Enterprise: https://HOST/api/v3 (default: %(default)s)",
        )
        parser.add_argument(
            "--base-url",
            default=f"http://localhost:{os.environ.get('PORT', '8000')}",
            metavar="URL",
            help="where GitHub reaches this service (default: %(default)s)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        token = _read_token(from_stdin=options["token_stdin"])
        api_url = options["api_url"].rstrip("/")
        try:
            validate_full_name(options["repository"])
            validate_slug(options["team"])
        except ValidationError as error:
            raise CommandError("; ".join(error.messages), returncode=2) from error
        try:
            item = check_access(options["repository"], token=token, api_url=api_url)
            asked = {"team_slug": options["team"], "token": token, "api_url": api_url}
            check_others(item, **asked)
            connection = save_connection(item, **asked)
        except MetricsSyncError as error:
            raise CommandError(f"{options['repository']}: {error}. Nothing was stored.") from error
        self._print(connection, options)

    def _print(self, connection: Connection, options: dict[str, Any]) -> None:
        integration = connection.integration
        url = options["base_url"].rstrip("/") + integration.get_webhook_path()
        result = {
            "team": integration.team.slug,
            "repository": connection.repository.full_name,
            "webhook_url": url,
            "webhook_secret": integration.webhook_secret,
        }
        if options["json"]:
            self.stdout.write(json.dumps(result))
            return
        done = "Connected" if connection.is_new else "Stored the new token for"
        self.stdout.write(f"{done} {result['repository']} (team {result['team']}).")
        self.stdout.write(f"Webhook URL:    {result['webhook_url']}")
        self.stdout.write(f"Webhook secret: {result['webhook_secret']}")


def _read_token(*, from_stdin: bool) -> str:
    token = (sys.stdin.readline() if from_stdin else os.environ.get("GITHUB_TOKEN", "")).strip()
    if not token:
        source = "Standard input held no token" if from_stdin else "GITHUB_TOKEN is not set"
        raise CommandError(f"{source}. Set GITHUB_TOKEN, or use --token-stdin.", returncode=2)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError(
            "That is not a token: it holds spaces or strange characters.", returncode=2
        )
    return token
