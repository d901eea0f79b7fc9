"""Writes what a fetch brought, and reads back what the next fetch needs of it."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from django.db import DataError, IntegrityError, transaction

from metrics_sync.exceptions import RefusedByDatabaseError
from metrics_sync.models import PullRequest, TeamMember
from metrics_sync.snapshot import (
    AGREED,
    ITSELF,
    TOKEN,
    Account,
    Known,
    PullRequestItem,
    Receipt,
    Section,
    SectionResult,
    Snapshot,
    read_text,
)
from metrics_sync.store.accounts import save_accounts
from metrics_sync.store.lists import (
    DISMISSED,
    FoundList,
    count_rows,
    list_people,
    recover_submitted_states,
    save_list,
)
from metrics_sync.store.pull_requests import LEFT_OUT, apply_pull_request, is_older

logger = logging.getLogger(__name__)

#: What is raised for a value that the database does not accept: too long, too large, not encodable.
REFUSED = (DataError, IntegrityError, ValueError, OverflowError)


def save_snapshot(row: PullRequest, snapshot: Snapshot) -> tuple[list[str], Snapshot]:
    """Write the lists of a snapshot and copy its pull request onto the row, which stays unsaved.

    Call it in a transaction. Safe to repeat: rows are matched by GitHub's ids, and rows that
    GitHub no longer lists are removed as the new ones are written. A list that failed loses no
    row; the items of a list that disagrees with its counter are added. The number of queries does
    not depend on the number of items (SQLite splits long lists).

    A list with a value that the database refuses is left as it was; the others are written.
    Returns the names of the row's fields that were set, and the snapshot as it was written, in
    which a refused list has an error.
    """
    try:
        with transaction.atomic():
            accounts = _save_lists([(row, snapshot)])
    except REFUSED:
        accounts = save_accounts(row.team, [snapshot.pull_request.author])
        written = {s: _try_list(row, s, result) for s, result in snapshot.sections.items()}
        snapshot = replace(snapshot, sections=written)
    return _apply(row, snapshot, accounts), snapshot


def save_snapshots(found: Sequence[tuple[PullRequest, Snapshot]]) -> list[list[str]]:
    """Write several pull requests of one team, with about as many queries as for one.

    As `save_snapshot` does, but a value that the database refuses is raised, and nothing of any
    is then to be kept. Returns the names of the fields that were set of each.
    """
    accounts = _save_lists(found)
    return [_apply(row, snapshot, accounts) for row, snapshot in found]


def _save_lists(found: Sequence[tuple[PullRequest, Snapshot]]) -> dict[int, TeamMember]:
    people = (account for _, snapshot in found for account in _list_accounts(snapshot))
    accounts = save_accounts(found[0][0].team, people)
    for section in Section:
        lists = [
            FoundList(row, result.items, is_whole=result.error is None)
            for row, snapshot in found
            if (result := snapshot.sections.get(section)) and result.items is not None
        ]
        if lists:
            save_list(section, lists, accounts)
    return accounts


def _apply(row: PullRequest, snapshot: Snapshot, accounts: Mapping[int, TeamMember]) -> list[str]:
    """Copy the pull request itself onto its row, unsaved; returns the names of the fields."""
    reviews = snapshot.sections.get(Section.REVIEWS)
    listed = None if reviews is None else reviews.items
    if listed is None or any(getattr(item, "state", "") == DISMISSED for item in listed):
        recover_submitted_states(row)
    if is_older(snapshot.pull_request, row):
        row.etags = _merge_etags(row, snapshot)
        row.outdate(ITSELF)
        return ["etags"]
    names = apply_pull_request(row, snapshot.pull_request, accounts=accounts)
    row.etags = _merge_etags(row, snapshot)
    return [*names, "etags"]


def _merge_etags(row: PullRequest, snapshot: Snapshot) -> dict[str, Any]:
    """Return the ETags of the lists that this fetch asked for, and of those that it did not.

    Of the latter, those stay that are both in the row and in the snapshot: a webhook may have
    dropped some since, and the fetch those of another token.
    """
    asked = {ITSELF, TOKEN, AGREED, *snapshot.sections}
    others = snapshot.etags.keys() - asked
    kept = {name: pages for name, pages in row.etags.items() if name in others}
    asked -= snapshot.errors.keys()
    return {ITSELF: (), **kept, **{n: pages for n, pages in snapshot.etags.items() if n in asked}}


def _try_list(row: PullRequest, section: Section, result: SectionResult) -> SectionResult:
    """Write one list by itself; returns its result, with an error if the database refuses it."""
    try:
        with transaction.atomic():
            if result.items is not None:
                found = FoundList(row, result.items, is_whole=result.error is None)
                save_list(section, [found], save_accounts(row.team, list_people(result)))
    except REFUSED as error:
        logger.exception("The database refuses the %s of %s", section, row)
        reason = read_text(str(error)).partition("\n")[0]
        return replace(result, error=RefusedByDatabaseError(f"the database refuses it: {reason}"))
    return result


def _list_accounts(snapshot: Snapshot) -> Iterable[Account | None]:
    yield snapshot.pull_request.author
    for result in snapshot.sections.values():
        yield from list_people(result)


def load_known(row: PullRequest) -> Known:
    """Return what the next fetch need not ask for again.

    A list whose number of rows has changed since its receipt is left out, to be fetched in full.
    """
    receipt = Receipt.from_json(row.receipt)
    unchanged = receipt.drop_changed(count_rows(row)) if receipt.sections else receipt
    changed = receipt.sections.keys() - unchanged.sections.keys()
    return Known(
        receipt=unchanged,
        etags={name: pages for name, pages in row.etags.items() if name not in changed},
        pull_request=_load_item(row, receipt),
        github_pr_id=row.github_pr_id,
        github_repo_id=row.repository.github_repo_id if row.repository else None,
    )


def _load_item(row: PullRequest, receipt: Receipt) -> PullRequestItem | None:
    """Return the pull request as the last fetch read it; None if a webhook has written since."""
    if not row.etags.get(ITSELF) or row.github_pr_number is None:
        return None
    author = None
    if row.author is not None:
        author = Account(row.author.github_id, row.author.login, row.author.is_bot)
    names = {field.name for field in fields(PullRequestItem)} - LEFT_OUT
    values = {name: getattr(row, name) for name in names}
    return PullRequestItem(author=author, stated=receipt.stated, **values)
