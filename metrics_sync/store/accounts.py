"""Writes the GitHub accounts that appear in what was fetched, one row for each in a team."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from django.db.models import BigIntegerField

from metrics_sync.models import Team, TeamMember
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.snapshot import Account

#: A delivery needs one account or two, and an ordinary fetch a handful.
FEW = 10


@cache
def _prepare_members(count: int) -> Prepared[TeamMember]:
    """Prepare the query for `count` accounts of a team."""
    ids: list[Any] = [Slot(f"id{n}", BigIntegerField()) for n in range(count)]
    team = Slot("team_id", BigIntegerField())
    return Prepared(lambda: TeamMember.objects.filter(team=team, github_id__in=ids).order_by())


def save_accounts(
    team: Team, accounts: Iterable[Account | None], *, loaded: TeamMember | None = None
) -> dict[int, TeamMember]:
    """Write the accounts that are new or have changed; return all rows by GitHub's id.

    `loaded` is a row of the team that needs not be read again.

    Safe to repeat. Unchanged accounts are only read: a row that is written stays locked until the
    transaction ends, and a team's pull requests share people and bots. Rows are written in the
    order of the ids, so that two workers with the same accounts cannot deadlock.
    """
    unique = {account.github_id: account for account in accounts if account is not None}
    known = {} if loaded is None else {loaded.github_id: loaded}
    known |= {row.github_id: row for row in _load(team, unique.keys() - known.keys())}
    written = TeamMember.objects.bulk_create(
        [
            TeamMember(
                team=team,
                github_id=account.github_id,
                login=account.login,
                is_bot=account.is_bot,
            )
            for _, account in sorted(unique.items())
            if not _is_same(known.get(account.github_id), account)
        ],
        update_conflicts=True,
        unique_fields=["team", "github_id"],
        update_fields=["login", "is_bot"],
    )
    return known | {row.github_id: row for row in written}


def _load(team: Team, github_ids: set[int]) -> Iterable[TeamMember]:
    """Read these accounts of a team."""
    if not github_ids:
        return ()
    if len(github_ids) > FEW:
        return TeamMember.objects.filter(team=team, github_id__in=github_ids)
    ids = {f"id{n}": github_id for n, github_id in enumerate(github_ids)}
    return _prepare_members(len(ids)).run(team_id=team.pk, **ids)


def _is_same(row: TeamMember | None, account: Account) -> bool:
    return row is not None and (row.login, row.is_bot) == (account.login, account.is_bot)
