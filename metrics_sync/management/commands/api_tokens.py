"""List the tokens of the JSON API, and revoke them."""

from argparse import ArgumentParser
from collections.abc import Collection
from typing import IO, Any, cast

from django.db import transaction
from rich.console import Console
from rich.table import Table

from metrics_sync.management.actor import describe_actor
from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import add_team, find_team
from metrics_sync.models import ApiToken
from metrics_sync.models.api_token import ApiTokenQuerySet
from metrics_sync.store import record_change

NOTES = """
A token itself is not stored, so only its first letters are shown.

  manage.py api_tokens
  manage.py api_tokens --team platform --json
  manage.py api_tokens --revoke 3 --revoke 7

A revoked token is refused from that moment on. `manage.py create_api_token` creates a token.
"""


class Command(OperatorCommand):
    help = "List the tokens of the JSON API, or revoke some of them."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_team(parser)
        parser.add_argument(
            "--revoke",
            action="append",
            type=int,
            default=[],
            metavar="ID",
            help="revoke this token; may be repeated",
        )

    def handle(self, **options: Any) -> None:
        tokens = ApiToken.objects.select_related("team").order_by("team__slug", "name", "pk")
        if options["team"]:
            tokens = tokens.filter(team=find_team(options["team"]))
        revoked = _revoke(tokens, options["revoke"])
        if options["json"]:
            self.print_json({"tokens": [_describe(token) for token in tokens], "revoked": revoked})
            return
        for token in tokens.filter(pk__in=revoked):
            self.stdout.write(f"Revoked {token} of team {token.team.slug}.")
        if not options["revoke"]:
            self._print(tokens)

    def _print(self, tokens: ApiTokenQuerySet) -> None:
        console = Console(file=cast(IO[str], self.stdout), highlight=False, soft_wrap=True)
        if not tokens:
            console.print("There are no tokens. `manage.py create_api_token` creates one.")
            return
        table = Table("id", "team", "name", "token", "state", "last used", "expires")
        for token in map(_describe, tokens):
            moments = (token["last_used_at"], token["expires_at"])
            table.add_row(
                *(str(token["id"]), token["team"], token["name"], f"{token['prefix']}…"),
                token["state"],
                *(f"{moment:%Y-%m-%d %H:%M}" if moment else "never" for moment in moments),
            )
        console.print(table)


@transaction.atomic
def _revoke(tokens: ApiTokenQuerySet, pks: Collection[int]) -> list[int]:
    """Revoke tokens by their ids, all or none; return the ids of those that were usable."""
    rows = {row.pk: row for row in tokens.filter(pk__in=pks)}
    if unknown := sorted(set(pks) - rows.keys()):
        raise UsageError(
            f"There is no token {', '.join(map(str, unknown))} here. "
            "`manage.py api_tokens` lists them."
        )
    revoked = [row for row in rows.values() if ApiToken.objects.filter(pk=row.pk).revoke()]
    for row in revoked:
        record_change(actor=describe_actor("api_tokens"), subject=row, change="revoked")
    return sorted(row.pk for row in revoked)


def _describe(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.pk,
        "team": token.team.slug,
        "name": token.name,
        "prefix": token.prefix,
        "state": token.state,
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
        "expires_at": token.expires_at,
    }
