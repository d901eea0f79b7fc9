"""What all commands of the app share: options, exit statuses, results, and faults in one line."""

import json
import os
import re
import signal
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from django.core import checks
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    handle_default_options,
)
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections

from metrics_sync.exceptions import AmbiguousTeamError
from metrics_sync.management.describing import FAULTS, describe_fault

#: GitHub's tokens, which an error message must not repeat.
#: https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github#githubs-token-formats
TOKEN = re.compile(r"\b(gh[a-z]|github_pat)_\w+(?:[.-]\w+)*")


class UsageError(CommandError):
    """The command was called in a wrong way: exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(message, returncode=2)


class OperatorCommand(BaseCommand):
    """A command with `--json` and the exit statuses 0 (done), 1 (failed) and 2 (wrong usage).

    Results go to stdout, progress and faults to stderr. A fault is one line, and with `--json`
    also an object with `error`, unless the command has printed its own object before.
    """

    #: Printed below the options of `--help`.
    notes = ""
    _has_printed_json = False

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        parser = super().create_parser(
            prog_name,
            subcommand,
            epilog=self.notes,
            formatter_class=RawDescriptionHelpFormatter,
            # `--token SECRET` must not pass for `--token-stdin`: all users of the machine can read
            # the arguments of a process.
            allow_abbrev=False,
            **options,
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        # In place of argparse's usage, which takes five lines and may repeat a secret.
        parser.error = partial(_refuse, subcommand)  # type: ignore[method-assign]
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        """Run for the command line: report faults, and exit with the status."""
        # A process manager's request to stop is reported like Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._parse_and_execute(argv)
            self.stdout.flush()
        except CommandError as error:
            if "--traceback" in argv:
                raise
            self._report(error, argv)
        except FAULTS as error:
            # Ctrl-C or a closed pipe, outside of execute().
            text = describe_fault(error)
            if text is None:
                raise
            self._report(CommandError(text), argv)
        finally:
            connections.close_all()

    def _parse_and_execute(self, argv: Sequence[str]) -> None:
        options = self.create_parser(argv[0], argv[1]).parse_args(argv[2:])
        handle_default_options(options)
        self.execute(**vars(options))

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Check the settings and run; raises CommandError with one line for each known fault."""
        try:
            return super().execute(*args, **options)
        except FAULTS as error:
            text = describe_fault(error)
            if text is None:
                raise
            is_wrong_usage = isinstance(error, AmbiguousTeamError)
            raise CommandError(text, returncode=2 if is_wrong_usage else 1) from error

    def check(self, *args: Any, **options: Any) -> None:
        """Refuse wrong settings, all in one line; print a line for each warning."""
        found = checks.run_checks()
        issues = [issue for issue in found if not issue.is_silenced()]
        if errors := [_describe_issue(issue) for issue in issues if issue.is_serious()]:
            raise CommandError(" ".join(errors))
        for issue in issues:
            self.stderr.write(self.style.WARNING(f"Warning: {_describe_issue(issue)}"))

    def print_json(self, result: Any) -> None:
        """Print the command's one JSON object."""
        self._has_printed_json = True
        self.stdout.write(json.dumps(result, cls=DjangoJSONEncoder))

    def fail(self) -> NoReturn:
        """Exit with status 1, after printing a result that already says what failed."""
        sys.exit(1)

    def _report(self, error: CommandError, argv: Sequence[str]) -> NoReturn:
        text = " ".join(str(error).split())
        try:
            if "--json" in argv and not self._has_printed_json:
                self.print_json({"error": text})
            self.stdout.flush()
        except BrokenPipeError:
            # The reader is gone. Python would try to write once more at exit.
            # https://docs.python.org/3/library/signal.html#note-on-sigpipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        with suppress(BrokenPipeError):
            self.stderr.write(f"{os.path.basename(argv[0])} {argv[1]}: {text}")  # noqa: PTH119
        sys.exit(error.returncode)


def _refuse(subcommand: str, message: str) -> NoReturn:
    """Say what is wrong with the arguments, without values that may be secrets."""
    if message.startswith("unrecognized arguments: "):
        words = message.removeprefix("unrecognized arguments: ").split()
        names = [word.partition("=")[0] for word in words if word.startswith("-")]
        message = f"there is no option {', '.join(names)}" if names else "too many arguments"
    message = re.sub(r"ignored explicit argument .*", "takes no value", message)
    message = TOKEN.sub("[hidden]", message)
    raise UsageError(f"{message}. See `manage.py {subcommand} --help`.")


def _describe_issue(issue: checks.CheckMessage) -> str:
    hint = f" {issue.hint}" if issue.hint else ""
    return f"{issue.msg}{hint} ({issue.id})"
