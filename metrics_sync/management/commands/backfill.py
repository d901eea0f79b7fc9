"""Fetch the pull requests that merged before the webhook was added, many with each request."""

import time
from argparse import ArgumentParser
from datetime import datetime
from typing import IO, Any, cast

from django.core.management.base import CommandError
from django.utils import timezone
from rich.console import Console

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.heal.backfilling import Backfill, Trial
from metrics_sync.management.base import OperatorCommand
from metrics_sync.management.options import add_repository, add_since, add_team
from metrics_sync.management.progress import Meter, show_progress
from metrics_sync.operate.pull_request_lookup import find_repository

NOTES = """
Lists the merged pull requests of a tracked repository, the last changed first, and fetches those
that are not complete yet, 25 with each query of GitHub's GraphQL API. A pull request costs about
0.2 of the 5,000 points an hour, which GitHub counts separately from the requests that merges need.
RATE_LIMIT_RESERVE points are left to others. When only those are left, the command waits until
GitHub's rate limit resets.

A list that GraphQL cannot give reliably (such as the files, if one was renamed) is fetched with
REST. A list that REST does not give either is left to a job on the queue pr-data-bulk, so a worker
should be running.

  manage.py backfill acme/anvil --since 2024-01-01 --dry-run
  manage.py backfill https://github.com/acme/anvil --since 365d
  manage.py backfill acme/anvil --since 365d --team platform --json

You may stop or kill the command at any time; run it again to continue.
"""


class Command(OperatorCommand):
    help = "Fetch the pull requests that merged since a date, in bulk."
    notes = NOTES
    _trial: Trial | None = None

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_repository(parser)
        add_since(parser, required=True)
        add_team(parser, help="if several teams track it")
        parser.add_argument(
            "--dry-run", action="store_true", help="only say how many it would fetch, and the cost"
        )

    def handle(self, **options: Any) -> None:
        repository = find_repository(options["repository"], team_slug=options["team"])
        since = options["since"]
        backfill = Backfill(repository, wait=self._wait)
        try:
            with show_progress(self.stderr) as meter:
                self._run(backfill, meter, since=since, dry_run=options["dry_run"])
        except MetricsSyncError as error:
            raise CommandError(f"{repository}: {error}") from error
        except KeyboardInterrupt as error:
            self._report_result(backfill, since=since, is_interrupted=True, options=options)
            raise CommandError("Stopped. Run the same command again to continue.") from error
        self._report_result(backfill, since=since, is_interrupted=False, options=options)
        if backfill.tally.errors:
            self.fail()

    def _run(self, backfill: Backfill, meter: Meter, *, since: datetime, dry_run: bool) -> None:
        """List the pull requests, then fetch them or, with `dry_run`, try one query."""
        points, listed = backfill.points, 0
        meter.begin("Listing")
        for found in backfill.find_missing(since=since):
            meter.advance(found - listed, note=f"{points.used} points")
            listed = found
        if dry_run:
            self._trial = backfill.try_out()
            return
        meter.begin("Fetching", total=len(backfill.missing))
        for done in backfill.fetch():
            meter.advance(done, note=f"{points.used} points")

    def _wait(self, until: datetime) -> None:
        seconds = max((until - timezone.now()).total_seconds(), 0) + 1
        self.stderr.write(f"Waiting for GitHub's rate limit until {until:%Y-%m-%d %H:%M} UTC.")
        # This process has nothing else to do: a backfill by hand waits for the limit to reset.
        time.sleep(seconds)

    def _report_result(
        self, backfill: Backfill, *, since: datetime, is_interrupted: bool, options: dict[str, Any]
    ) -> None:
        described = _describe(backfill, since=since, trial=self._trial)
        if is_interrupted:
            described["interrupted"] = True
        if options["json"]:
            self.print_json(described)
        else:
            self._print(backfill, described)

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
                f"{described['estimated_requests']} REST requests; of the first "
                f"{described['tried']}, GraphQL gave {described['tried_whole']} whole."
            )
        else:
            console.print(
                f"Fetched {described['fetched']}, queued {described['queued']} for REST; "
                f"{described['busy']} belong to other jobs."
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
