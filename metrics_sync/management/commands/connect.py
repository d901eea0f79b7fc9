"""Connect a team to a GitHub repository."""

import os
import re
import sys
from argparse import ArgumentParser
from contextlib import suppress
from getpass import getpass
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.core.validators import validate_slug
from django.urls import reverse

from metrics_sync.api_roots import is_local, serves_host
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import GitHubError, MetricsSyncError
from metrics_sync.management.actor import describe_actor
from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import add_team, find_team, parse_target
from metrics_sync.models import Team
from metrics_sync.models.credential import validate_api_root
from metrics_sync.names import HOW_TO_WRITE
from metrics_sync.operate.connecting import (
    Connection,
    Found,
    check_access,
    check_installation,
    check_others,
    save_connection,
    save_installation,
)
from metrics_sync.operate.disconnecting import list_connections
from metrics_sync.operate.registering import find_fault, register_webhook

NOTES = """
The token is read from GITHUB_TOKEN, or from standard input with --token-stdin. On a terminal the
command asks for it and shows nothing of it. It is never an argument, where other users of the
machine could read it. It needs read access to pull requests; docs/permissions.md lists further
useful permissions. No fine-grained token can be given access to check runs: CI that reports with
them needs the GitHub App, or a classic token.

  manage.py connect acme/anvil --team platform --token-stdin < token.txt
  manage.py connect https://github.com/acme/anvil --team platform
  GITHUB_TOKEN=... manage.py connect acme/anvil --team platform --base-url https://sync.example

  manage.py connect acme/anvil --team platform --create-webhook --token-stdin < token.txt

registers the webhook, too, or brings the one that is there up to date. For that, a fine-grained
token needs "Webhooks: write", and a classic one write:repo_hook. Otherwise add a webhook to the
repository (Settings, Webhooks) with the printed URL and secret, content type application/json, and
the events: pull requests, pull request reviews, pull request review comments, issue comments, check
runs, statuses, repositories.

Run it again to store a new token. Pull requests that waited for a token are queued again by the
next reconcile; those that waited for the old token's rate limit continue at once.

With GITHUB_APP_ID and GITHUB_APP_PRIVATE_KEY set and the App installed at GitHub, no token is
needed:

  manage.py connect acme --app --team platform          all repositories of the installation, now
                                                        and later
  manage.py connect acme/anvil --app --team platform    this repository only

Only repositories that are linked to a team in this way are ever stored for it.

  manage.py connect --list                              what each team is connected to
  manage.py connect --list --team platform --json

`manage.py disconnect` undoes a connection.
"""


class Command(OperatorCommand):
    help = "Connect a team to a GitHub repository: check and store its token, print the webhook."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "repository",
            type=parse_target,
            nargs="?",
            metavar="OWNER/NAME",
            help="or its address at GitHub; with --app also OWNER",
        )
        add_team(parser, help="the team's slug; created if it does not exist")
        way = parser.add_mutually_exclusive_group()
        way.add_argument(
            "--token-stdin", action="store_true", help="read the token from standard input"
        )
        way.add_argument(
            "--app", action="store_true", help="link the GitHub App's installation to the team"
        )
        way.add_argument(
            "--list", action="store_true", help="show what is connected, and connect nothing"
        )
        parser.add_argument(
            "--create-webhook", action="store_true", help="register the webhook at GitHub, too"
        )
        parser.add_argument(
            "--api-url",
            default=app_settings.GITHUB_API_URL,
            metavar="URL",
            help="GitHub Enterprise: https://HOST/api/v3 (default: %(default)s)",
        )
        parser.add_argument(
            "--base-url",
            default=_find_base_url(),
            metavar="URL",
            help="where GitHub reaches this service (default: BASE_URL, now %(default)s)",
        )

    def handle(self, **options: Any) -> None:
        if options["list"]:
            self._list(options)
            return
        options["api_url"] = options["api_url"].rstrip("/")
        name = _check_usage(options)
        try:
            found, connection = _connect(name, options)
        except MetricsSyncError as error:
            raise CommandError(f"{name}: {str(error).rstrip('.')}. Nothing was stored.") from error
        for reason in found.unreadable:
            self.stderr.write(f"The token may not read {reason}")
        if connection.is_new_team:
            self.stderr.write(f"Created the team {connection.integration.team}.")
        if is_local(urlsplit(options["base_url"]).hostname or ""):
            self.stderr.write(
                f"GitHub cannot reach {options['base_url']}. Set BASE_URL to the service's own "
                "address, or use --base-url."
            )
        webhook = _register(found, connection, options) if options["create_webhook"] else {}
        self._print(name, connection, options, webhook)
        if webhook.get("webhook_error"):
            self.fail()

    def _list(self, options: dict[str, Any]) -> None:
        team = find_team(options["team"]) if options["team"] else None
        connections = list_connections(team)
        if options["json"]:
            self.print_json({"teams": connections})
            return
        for row in connections:
            self.stdout.write(f"{row['team']} ({row['name']})")
            for integration in row["integrations"]:
                self._print_integration(integration)
        if not connections:
            self.stdout.write("There are no teams. `connect OWNER/NAME --team SLUG` creates one.")

    def _print_integration(self, integration: dict[str, Any]) -> None:
        token = integration["credential"] + (", refused" if integration["is_refused"] else "")
        self.stdout.write(f"  {integration['owner']}: {token}, {integration['webhook_path']}")
        for row in integration["repositories"]:
            note = "" if row["is_active"] else " (disconnected)"
            self.stdout.write(f"    {row['full_name']}{note}")
        if integration["follows_installation"]:
            self.stdout.write("    and all repositories that are added to the GitHub App later")

    def _print(
        self, name: str, connection: Connection, options: dict[str, Any], webhook: dict[str, Any]
    ) -> None:
        integration, repositories = connection.integration, list(connection.repositories)
        base, is_app = options["base_url"].rstrip("/"), options["app"]
        path = reverse("metrics_sync:webhook") if is_app else integration.get_webhook_path()
        result = {
            "team": integration.team.slug,
            "repository": repositories[0] if "/" in name else None,
            "webhook_url": base + path,
            # An App has one webhook for all of its installations, and GITHUB_WEBHOOK_SECRET.
            "webhook_secret": None if is_app else integration.webhook_secret,
            **({"repositories": repositories} if is_app else {}),
            **webhook,
        }
        if options["json"]:
            self.print_json(result)
            return
        names = ", ".join(repositories) or "nothing yet"
        done = "Connected" if connection.is_new or is_app else "Stored the new token for"
        self.stdout.write(f"{done} {names} (team {result['team']}).")
        self._print_webhook(result)

    def _print_webhook(self, result: dict[str, Any]) -> None:
        if result.get("webhook_error"):
            self.stderr.write(f"The webhook was not registered: {result['webhook_error']}.")
            self.stderr.write("Add it by hand (Settings, Webhooks), or run this again.")
        elif "webhook" in result:
            self.stdout.write(f"Webhook {result['webhook']} at GitHub: {result['webhook_url']}")
            return
        self.stdout.write(f"Webhook URL:    {result['webhook_url']}")
        self.stdout.write(
            f"Webhook secret: {result['webhook_secret'] or 'GITHUB_WEBHOOK_SECRET, set at the App'}"
        )


def _register(found: Found, connection: Connection, options: dict[str, Any]) -> dict[str, Any]:
    """Register the webhook; return what was done and, if GitHub refused, its reason."""
    [full_name] = connection.repositories
    try:
        done = register_webhook(
            found,
            connection.integration,
            full_name,
            base_url=options["base_url"],
            actor=describe_actor("connect"),
        )
    except GitHubError as error:
        return {"webhook": "not registered", "webhook_error": str(error).rstrip(".")}
    return {"webhook": done, "webhook_error": None}


def _find_base_url() -> str:
    """Return the service's own address; this machine's if BASE_URL is not set."""
    return app_settings.BASE_URL or f"http://localhost:{os.environ.get('PORT', '8000')}"


def _check_usage(options: dict[str, Any]) -> str:
    """Return the name of the repository or, with --app, of the owner. Raises UsageError."""
    target, api_url = options["repository"], options["api_url"]
    if target is None or not options["team"]:
        raise UsageError("Name the repository and the team: connect OWNER/NAME --team SLUG.")
    if isinstance(target, str) and not options["app"]:
        raise UsageError(f"{HOW_TO_WRITE} An owner alone needs --app.")
    is_own = api_url != app_settings.GITHUB_API_URL
    try:
        validate_slug(options["team"])
        if is_own:
            validate_api_root(api_url)
    except ValidationError as error:
        raise UsageError("; ".join(error.messages)) from error
    if options["app"] and is_own:
        raise UsageError(
            f"The GitHub App belongs to {app_settings.GITHUB_API_URL}; "
            f"connect {api_url} with a token."
        )
    if not isinstance(target, str) and not serves_host(api_url, target.host):
        raise UsageError(
            f"{target.full_name} is at {target.host}, and {api_url} is another GitHub. For GitHub "
            f"Enterprise add --api-url https://{target.host}/api/v3."
        )
    if not re.match(r"https?://[^/]", options["base_url"]):
        raise UsageError("Write --base-url with its scheme, such as https://sync.example.")
    if options["create_webhook"]:
        _check_webhook(options)
    return target if isinstance(target, str) else target.full_name


def _check_webhook(options: dict[str, Any]) -> None:
    if options["app"]:
        raise UsageError("A GitHub App has one webhook, which is set at the App itself.")
    if fault := find_fault(options["base_url"]):
        raise UsageError(
            f"{options['base_url']} is no address for a webhook: {fault}. Set BASE_URL to the "
            "service's own address, or use --base-url."
        )


def _connect(name: str, options: dict[str, Any]) -> tuple[Found, Connection]:
    # A team's slug ignores case: an existing team is found, and a new slug is lower case.
    team = Team.objects.filter(slug__iexact=options["team"]).first()
    slug, team_name = (team.slug, team.name) if team else (options["team"].lower(), options["team"])
    actor = describe_actor("connect")
    if options["app"]:
        of_app = check_installation(name)
        check_others(of_app, team_slug=slug)
        return of_app, save_installation(of_app, team_slug=slug, team_name=team_name, actor=actor)
    token = _read_token(from_stdin=options["token_stdin"])
    found = check_access(name, token=token, api_url=options["api_url"])
    check_others(found, team_slug=slug)
    return found, save_connection(found, team_slug=slug, team_name=team_name, actor=actor)


def _read_token(*, from_stdin: bool) -> str:
    """Read the token: from standard input, GITHUB_TOKEN, or a prompt that shows nothing of it."""
    token = "" if from_stdin else os.environ.get("GITHUB_TOKEN", "").strip()
    if not token and sys.stdin.isatty():
        with suppress(EOFError):
            token = getpass("GitHub token (nothing is shown): ").strip()
    elif from_stdin:
        token = sys.stdin.readline().strip()
    if not token:
        source = "Standard input contained no token" if from_stdin else "GITHUB_TOKEN is not set"
        raise UsageError(f"{source}. Set GITHUB_TOKEN, or use --token-stdin.")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("That is not a token: it contains spaces or characters that no token has.")
    return token
