"""End the connection of a team to a repository, or to all of an owner."""

from argparse import ArgumentParser
from typing import Any

from metrics_sync.management.actor import describe_actor
from metrics_sync.management.base import OperatorCommand, UsageError
from metrics_sync.management.options import add_team, find_team, parse_target
from metrics_sync.models import GitHubIntegration
from metrics_sync.operate.disconnecting import (
    Disconnection,
    disconnect_integration,
    disconnect_repository,
)
from metrics_sync.operate.pull_request_lookup import find_repository

NOTES = """
  manage.py disconnect acme/anvil
  manage.py disconnect acme/anvil --team platform    when several teams track it
  manage.py disconnect acme --team platform          all of acme, and what is added to its App later

Nothing more is fetched. Stored pull requests and their metrics stay. When an owner's last
repository is disconnected, the team's token for that owner is deleted. Then delete the webhook at
GitHub (Settings, Webhooks), or uninstall the App. `manage.py connect` connects again.
`manage.py connect --list` shows what is connected.
"""


class Command(OperatorCommand):
    help = "Stop tracking a repository, or all repositories of an owner, for a team."
    notes = NOTES

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", type=parse_target, metavar="OWNER/NAME", help="or OWNER")
        add_team(parser, help="if several teams are connected")

    def handle(self, **options: Any) -> None:
        target, actor = options["target"], describe_actor("disconnect")
        if isinstance(target, str):
            integration = _find_integration(target, team_slug=options["team"])
            done = disconnect_integration(integration, actor=actor)
        else:
            repository = find_repository(target, team_slug=options["team"])
            done = disconnect_repository(repository, actor=actor)
        if options["json"]:
            self.print_json(
                {
                    "team": done.team.slug,
                    "repositories": done.repositories,
                    "token_deleted": done.is_token_deleted,
                }
            )
        else:
            self._print(done)

    def _print(self, done: Disconnection) -> None:
        names = ", ".join(done.repositories) or "nothing, as no repository was tracked"
        self.stdout.write(f"Disconnected {names} (team {done.team.slug}).")
        if done.is_token_deleted:
            self.stdout.write("Deleted the stored token. Delete the webhook at GitHub, too.")


def _find_integration(owner: str, *, team_slug: str) -> GitHubIntegration:
    rows = GitHubIntegration.objects.filter(organization_slug__iexact=owner)
    if team_slug:
        rows = rows.filter(team=find_team(team_slug))
    rows = rows.select_related("team", "credential__team").order_by("team__slug", "pk")
    found = list(rows.defer("webhook_secret", "credential__access_token"))
    if not found:
        raise UsageError(f"No team is connected to {owner}. See `manage.py connect --list`.")
    if len(found) > 1:
        slugs = ", ".join(dict.fromkeys(row.team.slug for row in found))
        raise UsageError(f"Several connections to {owner}, of these teams: {slugs}. Use --team.")
    return found[0]
