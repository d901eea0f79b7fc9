"""Check the installation."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import IO, Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metrics_sync.management.base import OperatorCommand
from metrics_sync.operate.doctor import Finding, examine, is_at_work

NOTES = """
Checks settings, database, migrations, Redis, workers, the clock process, queues, rows, webhooks,
tokens and the machine's time. Each line is ok, or says what to do. Sends GitHub about a dozen
requests for each token. Takes 30 seconds at most, even if nothing answers.

  manage.py doctor
  manage.py doctor --json

The exit status is 0 if everything is ok, else 1.
"""


class Command(OperatorCommand):
    help = "Check the installation: print for each part that it is ok, or what to do."
    notes = NOTES
    # This command reports a broken setting as a finding, and must not refuse to run.
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        findings = examine()
        wrong = [finding for finding in findings if not finding.is_ok]
        if options["json"]:
            listed = [{**asdict(finding), "ok": finding.is_ok} for finding in findings]
            self.print_json({"ok": not wrong, "findings": listed})
        else:
            self._print(findings, wrong)
        if is_at_work():
            # At exit, Python would wait for a check that is still running.
            self.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        if wrong:
            self.fail()

    def _print(self, findings: Sequence[Finding], wrong: Sequence[Finding]) -> None:
        console = Console(file=cast(IO[str], self.stdout), highlight=False)
        table = Table("part", "", "what was found, and what to do")
        for group, members in groupby(findings, key=attrgetter("group")):
            for number, finding in enumerate(members):
                table.add_row("" if number else group, *_describe(finding))
            table.add_section()
        console.print(table)
        console.print("Everything is ok." if not wrong else f"Problems: {len(wrong)}.")


def _describe(finding: Finding) -> tuple[str, str]:
    if finding.is_ok:
        return "[green]ok[/]", escape(finding.text)
    return "[red]wrong[/]", f"{escape(finding.text)}\n[bold]{escape(finding.advice)}[/]"
