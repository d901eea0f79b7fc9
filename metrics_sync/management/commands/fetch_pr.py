"""Fetch one pull request now, in this process."""

from argparse import ArgumentParser
from typing import IO, Any, cast

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table

from metrics_sync.exceptions import AmbiguousTeamError, MetricsSyncError
from metrics_sync.jobs.running import fetch_now
from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import add_repository, add_team
from metrics_sync.metrics import Metrics
from metrics_sync.models import PullRequest
from metrics_sync.names import Address
from metrics_sync.operate.pull_request_lookup import find_access, get_pull_request
from metrics_sync.snapshot import Receipt

NOTES = """
A pull request of a tracked repository is fetched with its team's token. Any other is fetched with
GITHUB_TOKEN, or without a token (60 requests an hour, public repositories only), and stored for
the team "local".

  manage.py fetch_pr acme/anvil 7
  manage.py fetch_pr https://github.com/acme/anvil/pull/7
  GITHUB_TOKEN=... manage.py fetch_pr django/django 18000 --json
"""


LARGEST_NUMBER = 2**31 - 1


class Command(OperatorCommand):
    help = "Fetch one pull request now, store it, and print counts, metrics and requests used."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_repository(parser, help="or the address of the pull request, without NUMBER")
        parser.add_argument("number", type=int, nargs="?", metavar="NUMBER")
        add_team(parser, help="if several teams track it")

    def handle(self, **options: Any) -> None:
        address = options["repository"]
        full_name, number = address.full_name, _choose_number(address, options["number"])
        try:
            team, access = find_access(address, team_slug=options["team"])
            pull_request, requests_made = get_pull_request(team, access, full_name, number)
            result = fetch_now(pull_request, lambda: access, in_full=True)
        except AmbiguousTeamError:
            raise
        except MetricsSyncError as error:
            raise CommandError(f"{full_name}#{number}: {error}") from error
        if "error" in result:
            raise CommandError(result["error"])
        result["requests_made"] += requests_made
        pull_request.refresh_from_db()
        if options["json"]:
            self.print_json(_describe(pull_request, result))
        else:
            self._print(pull_request, result)
        if result["errors"]:
            raise CommandError(f"{pull_request} is {pull_request.sync_status}, not complete.")

    def _print(self, pull_request: PullRequest, result: dict[str, Any]) -> None:
        console = Console(file=cast(IO[str], self.stdout), highlight=False, soft_wrap=True)
        receipt = Table("section", "stated", "stored", "result", "witness", title=f"{pull_request}")
        for section, entry in Receipt.from_json(pull_request.receipt).sections.items():
            outcome = "; ".join(filter(None, [entry.result, entry.reason]))
            counts = map(_show, (entry.stated, entry.stored))
            receipt.add_row(section, *counts, outcome, entry.witness)
        measured = Table("metric", "value")
        for name, value in _read_metrics(pull_request).items():
            measured.add_row(name, _show(value))
        console.print(receipt, measured, markup=False)
        console.print(
            f"{pull_request.sync_status}, {result['requests_made']} requests", markup=False
        )
        for error in result["errors"]:
            console.print(error, markup=False)


def _choose_number(address: Address, number: int | None) -> int:
    """Return the number, which was given as an argument or in the address."""
    if number is None:
        number = address.number
    elif address.number not in (None, number):
        raise UsageError(f"The address says #{address.number} and NUMBER says {number}.")
    if number is None or not 0 < number <= LARGEST_NUMBER:
        raise UsageError("NUMBER is the pull request's number, 1 or more.")
    return number


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
