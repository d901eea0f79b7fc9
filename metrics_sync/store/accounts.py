"""Writes the GitHub accounts that appear in what was fetched, one row for each in a team."""

from collections.abc import Iterable

from metrics_sync.models import Team, TeamMember
from metrics_sync.snapshot import Account


def save_accounts(team: Team, accounts: Iterable[Account | None]) -> dict[int, TeamMember]:
    """Write the accounts in one query and return their rows by GitHub's id.

    Safe to repeat; a changed login is overwritten. Rows are written in the order of the ids,
    so that two workers that share accounts cannot wait for each other in a circle.
    """
    unique = {account.github_id: account for account in accounts if account is not None}
    rows = TeamMember.objects.bulk_create(
        [
            TeamMember(
                team=team,
                github_id=account.github_id,
                login=account.login,
                is_bot=account.is_bot,
            )
            for _, account in sorted(unique.items())
        ],
        update_conflicts=True,
        unique_fields=["team", "github_id"],
        update_fields=["login", "is_bot"],
    )
    return {row.github_id: row for row in rows}
