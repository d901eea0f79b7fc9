"""Connect a team to a GitHub repository."""

import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import RegexValidator, validate_slug
from django.urls import reverse

from metrics_sync.conf import app_settings
from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.management.actor import describe_actor
from metrics_sync.models.integrations import validate_api_root, validate_full_name
from metrics_sync.operate.connecting import (
    Connection,
    Found,
    check_access,
    check_installation,
    check_others,
    save_connection,
    save_installation,
)

validate_owner = RegexValidator(
    r"\A[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?\Z", "Write OWNER or OWNER/NAME."
)

EXAMPLES = """
The token is read from GITHUB_TOKEN, or from standard input with --token-stdin; never give it
as an argument, where other users of the machine could read it. It needs read access to pull
requests; docs/permissions.md says what more is good to have. No fine-grained token can be given
access to check runs: CI that reports by them needs the GitHub App, or a classic token.

  manage.py connect acme/anvil --team platform --token-stdin < token.txt
  GITHUB_TOKEN=... manage.py connect acme/anvil --team platform --base-url https://sync.example

Then add a webhook to the repository (Settings, Webhooks) with the printed URL and secret,
content type application/json, and the events: pull requests, pull request reviews, pull
request review comments, issue comments, check runs, repositories.

Run it again to store a new token: whatever waited for one goes on with the next reconcile, and
what waited for the rate limit of the old one at once.

With GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY set and the App installed at GitHub, no token is
needed:

  manage.py connect acme --app --team platform          all that the App is given, now and later
  manage.py connect acme/anvil --app --team platform    this repository only

Only what is linked to a team like this is ever written for it.
"""


class Command(BaseCommand):
    help = "Connect a team to a GitHub repository: check and store its token, print the webhook."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("repository", metavar="OWNER/NAME", help="with --app also OWNER")
        parser.add_argument("--team", required=True, metavar="SLUG", help="made if it is new")
        way = parser.add_mutually_exclusive_group()
        way.add_argument(
            "--token-stdin", action="store_true", help="read the token from standard input"
        )
        way.add_argument(
            "--app", action="store_true", help="link the GitHub App's installation to the team"
        )
        parser.add_argument(
            "--api-url",
            default=app_settings.GITHUB_API_URL,
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
        name, api_url = options["repository"], options["api_url"].rstrip("/")
        _check_usage(options, api_url=api_url)
        try:
            found, connection = _connect(options, api_url=api_url)
        except MetricsSyncError as error:
            raise CommandError(f"{name}: {error}. Nothing was stored.") from error
        for reason in found.unreadable:
            self.stderr.write(f"The token may not read {reason}")
        self._print(connection, options)

    def _print(self, connection: Connection, options: dict[str, Any]) -> None:
        integration, repositories = connection.integration, list(connection.repositories)
        base, is_app = options["base_url"].rstrip("/"), options["app"]
        path = reverse("metrics_sync:webhook") if is_app else integration.get_webhook_path()
        result = {
            "team": integration.team.slug,
            "repository": repositories[0] if "/" in options["repository"] else None,
            "webhook_url": base + path,
            # An App has one webhook for all of its installations, and GITHUB_WEBHOOK_SECRET.
            "webhook_secret": None if is_app else integration.webhook_secret,
            **({"repositories": repositories} if is_app else {}),
        }
        if options["json"]:
            self.stdout.write(json.dumps(result))
            return
        names = ", ".join(repositories) or "nothing yet"
        done = "Connected" if connection.is_new or is_app else "Stored the new token for"
        self.stdout.write(f"{done} {names} (team {result['team']}).")
        self.stdout.write(f"Webhook URL:    {result['webhook_url']}")
        self.stdout.write(
            f"Webhook secret: {result['webhook_secret'] or 'GITHUB_WEBHOOK_SECRET, set at the App'}"
        )


def _check_usage(options: dict[str, Any], *, api_url: str) -> None:
    is_own = api_url != app_settings.GITHUB_API_URL
    try:
        (validate_owner if options["app"] else validate_full_name)(options["repository"])
        validate_slug(options["team"])
        if is_own:
            validate_api_root(api_url)
    except ValidationError as error:
        raise CommandError("; ".join(error.messages), returncode=2) from error
    if options["app"] and is_own:
        raise CommandError(
            f"The GitHub App belongs to {app_settings.GITHUB_API_URL}; "
            f"connect {api_url} with a token.",
            returncode=2,
        )


def _connect(options: dict[str, Any], *, api_url: str) -> tuple[Found, Connection]:
    name, team_slug = options["repository"], options["team"]
    actor = describe_actor("connect")
    if options["app"]:
        of_app = check_installation(name)
        check_others(of_app, team_slug=team_slug)
        return of_app, save_installation(of_app, team_slug=team_slug, actor=actor)
    token = _read_token(from_stdin=options["token_stdin"])
    found = check_access(name, token=token, api_url=api_url)
    check_others(found, team_slug=team_slug)
    return found, save_connection(found, team_slug=team_slug, actor=actor)


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
