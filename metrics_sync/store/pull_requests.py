"""Writes pull requests themselves, as webhooks, listings and fetches report them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace

from django.db.models import BigIntegerField, CharField, Q, QuerySet
from django.db.models.functions import Upper

from metrics_sync.models import PullRequest, Team, TeamMember, TrackedRepository
from metrics_sync.models.prepared import Prepared, Slot
from metrics_sync.names import RepositoryName
from metrics_sync.snapshot import (
    ITSELF,
    Account,
    PullRequestItem,
    RepositoryItem,
    ReviewItem,
    Section,
    Snapshot,
    join_requests,
    keep_newest,
)
from metrics_sync.store.accounts import save_accounts
from metrics_sync.store.announcing import announce, pull_request_merged
from metrics_sync.store.histories import is_bot
from metrics_sync.store.lists import find_member, save_reviews
from metrics_sync.store.repositories import confirm

#: The fields of an item that are no columns of a row, or are copied in another way.
LEFT_OUT = {"author", "stated", "base_repo", "base_repo_id", "review_events"}


def save_pull_request(
    team: Team,
    item: PullRequestItem,
    *,
    repository: TrackedRepository | None = None,
    review: ReviewItem | None = None,
    is_refetched: bool = False,
) -> PullRequest:
    """Write a pull request, and one of its reviews, as a webhook reports it; returns the saved row.

    Safe to repeat and in any order: an item older than the row changes nothing, and a merged pull
    request stays merged. A merge that the row did not have fires the signal. The row belongs to the
    repository, and has its name, whatever the item calls it; without a repository the row is found
    by the item's name. `is_refetched` schedules a refetch of a merged one.

    Raises IntegrityError when another transaction has just written the same row; run it again.
    """
    repository = repository or team.repositories.first_named(item.github_repo)
    item = _rename(item, repository)
    known, others = _lock_rows(team, item, repository)
    row = known or PullRequest(github_repo=item.github_repo, github_pr_id=item.github_pr_id)
    row.team = team
    newer = item if known is None or _is_newer(item, row) else None
    accounts = save_accounts(team, _list_people(newer, review), loaded=row.author)
    changed = [*_give_repository(row, repository), *_keep_events(row, item)]
    if newer is not None:
        _take_numbers(others)
        changed += _update(row, newer, accounts)
    if is_refetched:
        changed += row.note_change()
    if review is not None:
        changed += row.outdate(Section.REVIEWS)
    if known is None:
        row.save()
    elif changed:
        row.save(update_fields=changed)
    if review is not None:
        save_reviews(row, (review,), accounts, is_whole=False)
    return row


def _list_claimants(mine: Q) -> QuerySet[PullRequest]:
    """Lock a team's rows with an id, of a name or `mine`, and those of the name with a number."""
    named = Q(name=Upper(Slot("name", CharField())))
    same_id = Q(named | mine, github_pr_id=Slot("github_pr_id", BigIntegerField()))
    same_number = Q(named, github_pr_number=Slot("number", BigIntegerField()))
    rows = PullRequest.objects.filter(team=Slot("team_id", BigIntegerField()))
    rows = rows.alias(name=Upper("github_repo")).filter(same_id | same_number)
    return rows.select_for_update(of=("self",), no_key=True).select_related("author").order_by("pk")


_claimants = Prepared(lambda: _list_claimants(Q()))
_claimants_in_repository = Prepared(
    lambda: _list_claimants(Q(repository=Slot("repository_id", BigIntegerField())))
)


def _list_people(item: PullRequestItem | None, review: ReviewItem | None) -> list[Account | None]:
    """Return the accounts of a delivery, for one call to write.

    That call writes them in the order of their ids: two deliveries with the same people in other
    roles would otherwise wait for each other.
    """
    authors = [] if item is None else [item.author]
    return authors if review is None else [*authors, review.reviewer]


def _give_repository(row: PullRequest, repository: TrackedRepository | None) -> list[str]:
    """Give the row its repository, unsaved, and return the names of the changed fields."""
    if repository is None or row.repository_id == repository.pk:
        return []
    row.repository = repository
    return ["repository"]


def _update(
    row: PullRequest, item: PullRequestItem, accounts: Mapping[int, TeamMember]
) -> list[str]:
    """Copy a newer item onto the row, unsaved, and return the names of the changed fields."""
    requests = join_requests(row.review_requests, item.review_requests)
    item = replace(item, review_requests=requests)
    return [*apply_pull_request(row, item, accounts=accounts), *row.outdate(ITSELF)]


def _lock_rows(
    team: Team, item: PullRequestItem, repository: TrackedRepository | None
) -> tuple[PullRequest | None, list[PullRequest]]:
    """Return the row of an item, and others that have its number; locked, in one query.

    The locks last until the transaction ends.
    """
    which = {
        "team_id": team.pk,
        "name": item.github_repo,
        "github_pr_id": item.github_pr_id,
        "number": item.github_pr_number,
    }
    if repository is None:
        found = _claimants.run(**which)
    else:
        found = _claimants_in_repository.run(repository_id=repository.pk, **which)
    known, others = None, list[PullRequest]()
    for row in found:
        if row.github_pr_id != item.github_pr_id:
            others.append(row)
        elif known is None or row.repository_id == getattr(repository, "pk", None):
            known = row
    return known, others


def _rename(item: PullRequestItem, repository: TrackedRepository | None) -> PullRequestItem:
    """Give an item the name that its repository has here; only GitHub's answer changes that."""
    return item if repository is None else replace(item, github_repo=repository.full_name)


def _keep_events(row: PullRequest, item: PullRequestItem) -> list[str]:
    """Keep the newest of each event, so that one which comes late is no older news."""
    events = keep_newest(row.review_events, item.review_events)
    has_changed, row.review_events = events != row.review_events, events
    return ["review_events"] if has_changed else []


def save_number(row: PullRequest, number: int) -> None:
    """Write the number of a row that was known only by its id; safe to repeat."""
    rows = PullRequest.objects.filter(team=row.team, github_pr_number=number)
    rows.in_repositories([row.github_repo]).exclude(pk=row.pk).update(
        github_pr_number=None, etags={}
    )
    row.github_pr_number, row.etags = number, {}
    row.save(update_fields=["github_pr_number", "etags"])


def _free_numbers(team: Team, items: Collection[PullRequestItem]) -> None:
    """Take the numbers of these items from other rows that have them."""
    ids: dict[int | None, int] = {item.github_pr_number: item.github_pr_id for item in items}
    rows = PullRequest.objects.filter(team=team, github_pr_number__in=ids)
    rows = rows.in_repositories({item.github_repo for item in items})
    _take_numbers(
        row
        for row in rows.only("github_pr_number", "github_pr_id")
        if ids.get(row.github_pr_number) != row.github_pr_id
    )


def _take_numbers(rows: Iterable[PullRequest]) -> None:
    """Take the number from rows whose number another pull request has now.

    GitHub gives a number again when a repository is deleted and made anew under its name. The
    older row keeps its data, and is known by its id alone.
    """
    if pks := [row.pk for row in rows]:
        PullRequest.objects.filter(pk__in=pks).update(github_pr_number=None, etags={})


def save_missed_merges(
    team: Team,
    items: Collection[PullRequestItem],
    *,
    repository: TrackedRepository | None = None,
) -> int:
    """Write merges that no webhook reported as `pending` rows, past the signal; return how many.

    Safe to repeat: rows that are merged already stay as they are. All items belong to one
    repository; where none is given, it is found by their name.
    """
    if not items:
        return 0
    name = next(iter(items)).github_repo
    repository = repository or team.repositories.first_named(name)
    items = [_rename(item, repository) for item in items]
    ids = [item.github_pr_id for item in items]
    rows = PullRequest.objects.filter(team=team, github_pr_id__in=ids)
    rows = rows.of_repository(repository, items[0].github_repo)
    known = {row.github_pr_id: row for row in rows}
    _free_numbers(team, items)
    accounts = save_accounts(team, (item.author for item in items))
    new, merged = [], []
    for item in items:
        row = known.get(item.github_pr_id)
        if row is None:
            row = PullRequest(team=team, repository=repository)
            row.github_repo, row.github_pr_id = item.github_repo, item.github_pr_id
            row.sync_status = PullRequest.SyncStatus.PENDING
            apply_pull_request(row, item, accounts=accounts)
            new.append(row)
        elif row.state != PullRequest.State.MERGED and _save_late_merge(row, item, accounts):
            merged.append(row)
    PullRequest.objects.bulk_create(new, ignore_conflicts=True)
    merged += rows.filter(github_pr_id__in=[row.github_pr_id for row in new])
    for row in merged:
        announce(pull_request_merged, row)
    return len(merged)


def _save_late_merge(
    row: PullRequest, item: PullRequestItem, accounts: Mapping[int, TeamMember]
) -> bool:
    names = [*apply_pull_request(row, item, accounts=accounts), "etags"]
    row.outdate(ITSELF)
    return row.mark_merged_late(**{name: getattr(row, name) for name in names})


def _is_newer(item: PullRequestItem, row: PullRequest) -> bool:
    """Whether a webhook may say more than the row has; of two of one second a fetch says more."""
    if row.pr_updated_at is None or item.pr_updated_at is None or _is_merge(item, row):
        return True
    if item.pr_updated_at == row.pr_updated_at:
        return ITSELF not in row.etags
    return item.pr_updated_at > row.pr_updated_at


def is_older(item: PullRequestItem, row: PullRequest) -> bool:
    """Whether a webhook has written newer values to the row while the item was fetched."""
    if row.pr_updated_at is None or item.pr_updated_at is None or _is_merge(item, row):
        return False
    return item.pr_updated_at < row.pr_updated_at


def _is_merge(item: PullRequestItem, row: PullRequest) -> bool:
    """Whether the item reports a merge that the row does not have."""
    return item.state == PullRequest.State.MERGED and row.state != PullRequest.State.MERGED


def apply_pull_request(
    row: PullRequest, item: PullRequestItem, *, accounts: Mapping[int, TeamMember]
) -> list[str]:
    """Copy what GitHub says onto the row, unsaved, and return the names of the fields that changed.

    Fields that the payload does not state keep their value; a reopened pull request loses its
    `closed_at`. GitHub cannot undo a merge, so an answer that is not merged is older than the row.
    """
    kept = {"github_repo", "github_pr_id", *LEFT_OUT}
    if row.state == PullRequest.State.MERGED and item.state != PullRequest.State.MERGED:
        kept |= {"state", "merged_at", "closed_at"}
    cleared = {"closed_at"} if item.state == PullRequest.State.OPEN else set()
    stated = {
        field.name: value
        for field in fields(item)
        if field.name not in kept
        and ((value := getattr(item, field.name)) is not None or field.name in cleared)
    }
    author = find_member(item.author, accounts)
    stated["is_by_bot"] = is_bot(author, row.team)
    changed = [name for name, value in stated.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, stated[name])
    if row.author_id != (author and author.pk):
        changed.append("author")
    # Always, as the row may have been read before the account was written.
    row.author = author
    return changed


def follow_rename(row: PullRequest, snapshot: Snapshot) -> bool:
    """Give the repository of a row the name that GitHub uses now; False if that removes the row.

    It is removed when a webhook has made a row for the same pull request under the new name
    already. Safe to repeat.
    """
    if row.repository is None:
        return True
    pull_request = snapshot.pull_request
    if row.repository.github_repo_id is None and pull_request.base_repo_id is not None:
        item = RepositoryItem(
            pull_request.base_repo_id,
            RepositoryName(pull_request.base_repo or row.repository.full_name),
        )
        confirm(row.repository, item, actor=f"the fetch of {row}")
        row.github_repo = row.repository.full_name
    elif not snapshot.moved_to:
        return True
    if snapshot.moved_to:
        row.repository.rename(snapshot.moved_to)
        row.github_repo = snapshot.moved_to
    return PullRequest.objects.filter(pk=row.pk).exists()
