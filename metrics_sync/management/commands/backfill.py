"""Fetch what merged before the webhook was there, many pull requests with each request."""

import json
import logging
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from typing import IO, Any, cast

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.heal.backfill import Backfill, Trial
from metrics_sync.management.options import parse_since
from metrics_sync.models.integrations import validate_full_name
from metrics_sync.operate.pull_request_lookup import find_repository

NOTES = """
It lists the merged pull requests of a tracked repository, those that changed last first, and
fetches each that is not complete yet, 25 with every query of GitHub's GraphQL API. That costs
some 0.2 points for a pull request, of 5,000 an hour that are counted apart from the requests
that merges need; RATE_LIMIT_RESERVE of them are left to others. When they are used up it waits
until GitHub gives new ones.

A list that GraphQL cannot bring with certainty (as the files, when one was renamed) is asked of
REST. What does not come then either is left to the queue pr-data-bulk, so workers should run.

  manage.py backfill acme/anvil --since 2024-01-01 --dry-run
  manage.py backfill acme/anvil --since 365d
  manage.py backfill acme/anvil --since 365d --team platform --json

It may be stopped or killed at any time: the same command goes on from there.
"""


class Command(BaseCommand):
    help = "Fetch the pull requests that merged since a date, in bulk."
    _trial: Trial | None = None

    def create_parser(self, *args: Any, **options: Any) -> Any:
        return super().create_parser(
            *args, epilog=NOTES, formatter_class=RawDescriptionHelpFormatter, **options
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("repository", metavar="OWNER/NAME")
        parser.add_argument(
            "--since",
            type=parse_since,
            required=True,
            metavar="30d|DATE",
            help="only what merged since then",
        )
        parser.add_argument("--team", default="", metavar="SLUG", help="if several track it")
        parser.add_argument(
            "--dry-run", action="store_true", help="only say how many it would fetch, at what cost"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, **options: Any) -> None:
        full_name = options["repository"]
        try:
            validate_full_name(full_name)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages), returncode=2) from error
        try:
            repository = find_repository(full_name, team_slug=options["team"])
            backfill = Backfill(repository, wait=self._wait)
            self._run(backfill, since=options["since"], dry_run=options["dry_run"])
        except MetricsSyncError as error:
            raise CommandError(f"{full_name}: {error}") from error
        except KeyboardInterrupt as error:
            raise CommandError("Stopped; the same command goes on from there.") from error
        described = _describe(backfill, since=options["since"], trial=self._trial)
        if options["json"]:
            self.stdout.write(json.dumps(described))
        else:
            self._print(backfill, described)
        if backfill.tally.errors:
            sys.exit(1)

    def _run(self, backfill: Backfill, *, since: datetime, dry_run: bool) -> None:
        """List, then fetch or try; a bar on a terminal shows how far, how fast and at what cost."""
        console = Console(file=cast(IO[str], self.stderr))
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}{task.fields[points]} points"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        is_shown = sys.stderr.isatty()
        with (
            _hush() if is_shown else nullcontext(),
            Progress(*columns, console=console, disable=not is_shown) as progress,
        ):
            listing = progress.add_task("Listing", total=None, rate="", points=0)
            for found in backfill.find_missing(since=since):
                progress.update(listing, completed=found, points=backfill.points.used)
            progress.update(listing, total=backfill.tally.found)
            if dry_run:
                self._trial = backfill.try_out()
                return
            fetch = progress.add_task("Fetching", total=len(backfill.missing), rate="", points=0)
            for done in backfill.fetch():
                progress.update(fetch, advance=done, points=backfill.points.used)
                speed = progress.tasks[fetch].speed
                progress.update(fetch, rate=f"{speed:.0f}/s, " if speed else "")

    def _wait(self, until: datetime) -> None:
        seconds = max((until - timezone.now()).total_seconds(), 0) + 1
        self.stderr.write(f"Waits for GitHub's rate limit until {until:%Y-%m-%d %H:%M} UTC.")
        time.sleep(seconds)

    def _print(self, backfill: Backfill, described: dict[str, Any]) -> None:
        console = Console(file=cast(IO[str], self.stdout), highlight=False, soft_wrap=True)
        since = f"{datetime.fromisoformat(described['since']):%Y-%m-%d %H:%M} UTC"
        console.print(
            f"{described['found']} pull requests of {backfill.repository} merged since {since}; "
            f"{described['complete']} were complete.",
            markup=False,
        )
        if "estimated_points" in described:
            console.print(
                f"Would fetch {described['would_fetch']}, for about "
                f"{described['estimated_points']} points and "
                f"{described['estimated_requests']} requests of REST; of the first "
                f"{described['tried']} GraphQL brought {described['tried_whole']} whole."
            )
        else:
            console.print(
                f"Fetched {described['fetched']}, queued {described['queued']} for REST; "
                f"jobs had {described['busy']}."
            )
        if described["left"]:
            console.print(f"Left {described['left']} for reconcile.")
        limit = backfill.points.rate_limit
        left = f"; {limit.remaining} of {limit.limit} are left, " if limit else ""
        until = f"until {limit.resets_at:%H:%M} UTC" if limit else ""
        console.print(f"Used {described['points_used']} points{left}{until}.", markup=False)
        for note in described["notes"]:
            self.stderr.write(self.style.WARNING(note))
        for error in described["errors"]:
            self.stderr.write(self.style.ERROR(error))


@contextmanager
def _hush() -> Iterator[None]:
    """Keep a line for each pull request out of the terminal that shows the bar."""
    jobs = logging.getLogger("metrics_sync.jobs")
    level = jobs.level
    jobs.setLevel(logging.WARNING)
    try:
        yield
    finally:
        jobs.setLevel(level)


def _describe(backfill: Backfill, *, since: datetime, trial: Trial | None) -> dict[str, Any]:
    tally, limit = backfill.tally, backfill.points.rate_limit
    described: dict[str, Any] = {
        "repository": backfill.repository.full_name,
        "team": backfill.repository.team.slug,
        "since": since.isoformat(),
        "found": tally.found,
        "complete": tally.complete,
        "fetched": tally.fetched,
        "queued": tally.queued,
        "busy": tally.busy,
        "left": tally.left,
        "points_used": backfill.points.used,
        "points_remaining": limit.remaining if limit else None,
        "notes": backfill.notes,
        "errors": tally.errors,
    }
    if trial is not None:
        described["would_fetch"] = len(backfill.missing)
        described["estimated_points"] = backfill.estimated_points
        described["estimated_requests"] = trial.estimate_requests(len(backfill.missing))
        described["tried"], described["tried_whole"] = trial.asked, trial.whole
    return described
