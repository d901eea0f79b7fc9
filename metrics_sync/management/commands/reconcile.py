"""Find pull requests whose data is not complete, and queue them again."""

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import replace
from typing import IO, Any, cast

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.github import estimate_points
from metrics_sync.heal.backfilling import REQUESTS_FOR_ONE, Backfill
from metrics_sync.heal.discovery import discover, recover
from metrics_sync.heal.finding import Finding, Reason, Scope, find_dropped, list_repositories
from metrics_sync.heal.reconcile import Report, choose, requeue
from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import add_since, add_team, find_team, parse_repository
from metrics_sync.management.progress import Meter, show_progress
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.names import Address

NOTES = """
What it looks for (--only takes one or more, with commas):
  failed    nothing could be fetched
  partial   some sections are still missing
  missing   merged and never queued; or of a repository tracked only since; or without a number
  stuck     queued without a job in Redis, or running without a sign of life, for 2 minutes
  outdated  complete, and due to be fetched again for late comments and finished checks
  incomplete-checks  complete, except for checks that were still running at the last fetch

--discover lists the merges of each tracked repository at GitHub, newest first, back to the start
of the last search (or --since, or 30 days), with one request for each hundred closed pull requests.
The merges that it finds are fetched at once, 25 with each query, unless --limit is given. If the
token may read webhooks, GitHub is asked to redeliver the failed deliveries of the last 3 days.

  manage.py reconcile --dry-run
  manage.py reconcile --team platform --since 30d
  manage.py reconcile --repo acme/anvil --only failed,partial --inline

Safe to run at any time and by two people at once: a pull request is never queued twice.
"""


def parse_reasons(text: str) -> list[Reason]:
    try:
        return [Reason(word.strip()) for word in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{error}; choose from {', '.join(Reason)}") from error


def parse_limit(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError("write a whole number, 1 or more")
    return int(text)


class Command(OperatorCommand):
    help = "Find merged pull requests whose data is not complete, and queue them again."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_team(parser)
        parser.add_argument(
            "--repo",
            action="append",
            type=parse_repository,
            default=[],
            metavar="OWNER/NAME",
            help="only this repository; may be repeated",
        )
        add_since(parser)
        parser.add_argument(
            "--only", type=parse_reasons, action="extend", metavar="REASONS", help="see below"
        )
        parser.add_argument(
            "--discover", action="store_true", help="ask GitHub for merges whose webhook was lost"
        )
        parser.add_argument("--limit", type=parse_limit, metavar="N", help="queue at most N")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument(
            "--inline", action="store_true", help="fetch in this process instead of queueing"
        )

    def handle(self, **options: Any) -> None:
        team = find_team(options["team"]).slug if options["team"] else ""
        scope = Scope(
            team=team,
            repositories=[_find_name(address, team=team) for address in options["repo"]],
            since=options["since"],
            only=options["only"] or tuple(Reason),
        )
        report, chosen = Report(), list[Finding]()
        try:
            with show_progress(self.stderr) as meter:
                if options["discover"]:
                    self._discover(scope, report, meter, options)
                chosen += choose(find_dropped(scope), report, limit=options["limit"])
                if not options["dry_run"]:
                    what = "Fetching" if options["inline"] else "Queueing"
                    steps = requeue(chosen, report, inline=options["inline"])
                    for _ in meter.track(steps, what, total=len(chosen)):
                        pass
        except KeyboardInterrupt as error:
            self._report_result(report, chosen, options, is_interrupted=True)
            raise CommandError("Stopped. Run the same command again to continue.") from error
        self._report_result(report, chosen, options)
        if report.errors:
            self.fail()

    def _report_result(
        self,
        report: Report,
        chosen: list[Finding],
        options: dict[str, Any],
        *,
        is_interrupted: bool = False,
    ) -> None:
        if options["json"]:
            interrupted = {"interrupted": True} if is_interrupted else {}
            self.print_json({**_describe(report, chosen, options), **interrupted})
        else:
            self._print(report, chosen, options)

    def _discover(
        self, scope: Scope, report: Report, meter: Meter, options: dict[str, Any]
    ) -> None:
        repositories, dry_run = list_repositories(scope), options["dry_run"]
        steps = discover(repositories, since=scope.since, dry_run=dry_run)
        for repository, found, error in meter.track(steps, "Asking", total=len(repositories)):
            report.discovered += found
            if error:
                report.errors.append(f"{repository}: {error}")
            elif found and not dry_run and options["limit"] is None:
                self._fetch_missing(repository, scope, report)
        if dry_run:
            return
        steps = recover(repositories)
        for repository, found, error in meter.track(steps, "Recovering", total=len(repositories)):
            report.redelivered += found
            if error:
                report.errors.append(f"{repository}: webhook deliveries: {error}")

    def _fetch_missing(self, repository: TrackedRepository, scope: Scope, report: Report) -> None:
        """Fetch in bulk the merges just discovered, and any others that were never queued.

        Those that cannot be fetched in bulk are queued afterwards like all others.
        """
        only = [reason for reason in scope.only if reason is Reason.MISSING]
        names = [repository.full_name]
        here = replace(scope, team=repository.team.slug, repositories=names, only=only)
        try:
            backfill = Backfill(repository)
        except MetricsSyncError as error:
            self.stderr.write(f"{repository}: not fetched in bulk: {error}")
            return
        try:
            backfill.take(finding.pull_request for finding in find_dropped(here))
            for _ in backfill.fetch():
                pass
        except MetricsSyncError as error:
            self.stderr.write(f"{repository}: not all fetched in bulk: {error}")
        for note in backfill.notes:
            self.stderr.write(f"{repository}: {note}")
        report.fetched += backfill.tally.fetched
        report.requeued += backfill.tally.queued
        report.errors += backfill.tally.errors

    def _print(self, report: Report, chosen: list[Finding], options: dict[str, Any]) -> None:
        console = Console(file=cast(IO[str], self.stdout), highlight=False, soft_wrap=True)
        table = Table("found", "pull requests")
        for reason, count in report.found.items():
            table.add_row(reason, str(count))
        console.print(table)
        if options["discover"]:
            done = f"; fetched {report.fetched}" if report.fetched else ""
            console.print(f"Discovered {report.discovered} that no webhook reported{done}.")
            console.print(f"Asked GitHub to redeliver {report.redelivered} failed deliveries.")
        if options["dry_run"]:
            cost = REQUESTS_FOR_ONE * len(chosen)
            console.print(f"Would queue {len(chosen)}, about {cost} requests to GitHub.")
            if points := _estimate_points(report, options):
                text = f"Would fetch the {report.discovered} discovered, about {points} points."
                console.print(text)
        else:
            console.print(f"{'Fetched' if options['inline'] else 'Queued'} {report.requeued}.")
        for reason, count in report.skipped.items():
            console.print(f"Skipped {count}: {reason}.", markup=False)
        for error in report.errors:
            self.stderr.write(self.style.ERROR(error))


def _find_name(address: Address, *, team: str) -> str:
    """Return the name of a repository that is known here. Raises UsageError for any other.

    A repository is known if it is or was tracked, or if pull requests of it are stored.
    """
    tracked = TrackedRepository.objects.named(address.full_name)
    rows = PullRequest.objects.in_repositories([address.full_name])
    if team:
        tracked, rows = tracked.filter(team__slug=team), rows.filter(team__slug=team)
    if not tracked.exists() and not rows.exists():
        who = f"The team {team} has" if team else "No team has"
        no = " no" if team else " a"
        raise UsageError(
            f"{who}{no} repository {address.full_name}. `manage.py connect --list` shows those "
            "that are tracked."
        )
    return address.full_name


def _estimate_points(report: Report, options: dict[str, Any]) -> int:
    """Estimate the points to fetch in bulk what was discovered; with a limit nothing is."""
    return 0 if options["limit"] else estimate_points(report.discovered)


def _describe(report: Report, chosen: list[Finding], options: dict[str, Any]) -> dict[str, Any]:
    result = {
        "found": report.found,
        "requeued": report.requeued,
        "discovered": report.discovered,
        "skipped": dict(report.skipped),
        "errors": report.errors,
    }
    if options["discover"]:
        result["fetched"] = report.fetched
        result["redelivered"] = report.redelivered
    if options["dry_run"]:
        result["estimated_points"] = _estimate_points(report, options)
        result["would_requeue"] = len(chosen)
        result["estimated_requests"] = REQUESTS_FOR_ONE * len(chosen)
    return result
