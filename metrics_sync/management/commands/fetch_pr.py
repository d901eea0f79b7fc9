"""Fetch one pull request now, in this process."""

import json
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import IO, Any, cast

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.jobs import fetch_now
from metrics_sync.metrics import Metrics
from metrics_sync.models import PullRequest
from metrics_sync.models.integrations import validate_full_name
from metrics_sync.operate.pull_request_lookup import find_access, get_pull_request

NOTES = """
A tracked repository is asked with its team's token. Any other is asked with GITHUB_TOKEN, or
without a token (60 requests an hour, public repositories only), and stored for the team "local".

  manage.py fetch_pr acme/anvil 7
  GITHUB_TOKEN=... manage.py fetch_pr django/django 18000 --json
"""


class Command(BaseCommand):
    help = "Fetch one pull request now, store it, and print counts, metrics and requests used."

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("repository", metavar="OWNER/NAME")
        parser.add_argument("number", type=int, metavar="NUMBER")
        parser.add_argument("--team", default="", metavar="SLUG", help="if several track it")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        full_name, number = options["repository"], options["number"]
        try:
            validate_full_name(full_name)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages), returncode=2) from error
        if number < 1:
            raise CommandError("NUMBER is the pull request's number, 1 or more.", returncode=2)
        try:
            team, access = find_access(full_name, team_slug=options["team"])
            pull_request, requests_made = get_pull_request(team, access, full_name, number)
            result = fetch_now(pull_request, lambda: access, in_full=True)
        except MetricsSyncError as error:
            raise CommandError(f"{full_name}#{number}: {error}") from error
        if "error" in result:
            raise CommandError(result["error"])
        result["requests_made"] += requests_made
        pull_request.refresh_from_db()
        if options["json"]:
            self.stdout.write(json.dumps(_describe(pull_request, result), default=str))
        else:
            self._print(pull_request, result)
        if result["errors"]:
            raise CommandError(f"{pull_request} is {pull_request.sync_status}, not complete.")

    def _print(self, pull_request: PullRequest, result: dict[str, Any]) -> None:
        console = Console(file=cast(IO[str], self.stdout), highlight=False, soft_wrap=True)
        receipt = Table("section", "stated", "stored", "result", "witness", title=f"{pull_request}")
        for section, entry in pull_request.receipt.items():
            outcome = "; ".join(filter(None, [entry["result"], entry.get("reason")]))
            receipt.add_row(
                section,
                _show(entry["stated"]),
                _show(entry["stored"]),
                outcome,
                entry.get("witness", ""),
            )
        measured = Table("metric", "value")
        for name, value in _read_metrics(pull_request).items():
            measured.add_row(name, _show(value))
        console.print(receipt, measured, markup=False)
        console.print(
            f"{pull_request.sync_status}, {result['requests_made']} requests", markup=False
        )
        for error in result["errors"]:
            console.print(error, markup=False)


def _describe(pull_request: PullRequest, result: dict[str, Any]) -> dict[str, Any]:
    return {
        "repository": pull_request.github_repo,
        "number": pull_request.github_pr_number,
        "team": pull_request.team.slug,
        "state": pull_request.state,
        "sync_status": pull_request.sync_status,
        "truncated": pull_request.truncated,
        "disagreeing": pull_request.disagreeing,
        "receipt": pull_request.receipt,
        "metrics": _read_metrics(pull_request),
        **result,
    }


def _read_metrics(pull_request: PullRequest) -> dict[str, Any]:
    return {name: getattr(pull_request, name) for name in Metrics.__dataclass_fields__}


def _show(value: Any) -> str:
    return "-" if value is None else str(value)
