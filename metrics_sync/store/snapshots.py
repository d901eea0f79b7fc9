"""Writes what a fetch brought: the pull request, and each of its lists whole."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from metrics_sync.exceptions import RefusedByDatabaseError
from metrics_sync.models import (
    Commit,
    PRCheckRun,
    PRComment,
    PRCommitStatus,
    PRFile,
    PRReview,
    PRTimelineEvent,
    PullRequest,
    Team,
    TeamMember,
    TrackedRepository,
)
from metrics_sync.names import RepositoryName
from metrics_sync.snapshot import (
    AGREED,
    COUNTERS,
    ITSELF,
    KEYS,
    TOKEN,
    Account,
    FileItem,
    Item,
    PullRequestItem,
    RepositoryItem,
    ReviewItem,
    Section,
    SectionResult,
    Snapshot,
    is_known,
    read_text,
)
from metrics_sync.store.accounts import save_accounts
from metrics_sync.store.announcing import announce, pull_request_merged
from metrics_sync.store.histories import is_bot
from metrics_sync.store.repositories import confirm

logger = logging.getLogger(__name__)

MODELS: dict[Section, Any] = {
    Section.COMMITS: Commit,
    Section.FILES: PRFile,
    Section.CHECK_RUNS: PRCheckRun,
    Section.ISSUE_COMMENTS: PRComment,
    Section.REVIEW_COMMENTS: PRComment,
    Section.REVIEWS: PRReview,
    Section.TIMELINE: PRTimelineEvent,
    Section.COMMIT_STATUSES: PRCommitStatus,
}

#: What tells the two kinds of comments in one table apart.
KINDS = {
    Section.ISSUE_COMMENTS: {"comment_type": PRComment.CommentType.ISSUE},
    Section.REVIEW_COMMENTS: {"comment_type": PRComment.CommentType.REVIEW},
}

#: The columns that tell two rows of a list apart: GitHub's ids, but for files.
COLUMNS = {section: names[0] for section, names in KEYS.items()} | {Section.FILES: "listing_key"}

DISMISSED = "dismissed"

#: What the database raises that takes no value of this kind: too long, too large, not to be coded.
REFUSED = (DataError, IntegrityError, ValueError, OverflowError)


def save_pull_request(
    team: Team,
    item: PullRequestItem,
    *,
    repository: TrackedRepository | None = None,
    review: ReviewItem | None = None,
) -> PullRequest:
    """Write a pull request, and one of its reviews, as a webhook told it; returns the row, saved.

    Safe to repeat and in any order: news older than what the row holds changes nothing, and a
    merged pull request stays merged. A merge that the row did not know fires the signal. The
    accounts are written with one call, in the order of their ids: two deliveries with the same
    people in other roles would wait for each other. The row is the repository's, and has its
    name, whatever the item calls it; without one it is found by the item's name.
    """
    repository = repository or team.repositories.first_named(item.github_repo)
    item = _label(item, repository)
    rows = PullRequest.objects.select_for_update(no_key=True)
    of_id = rows.filter(team=team, github_pr_id=item.github_pr_id)
    row, created = of_id.of_repository(repository, item.github_repo).first(), False
    if row is None:
        row, created = rows.get_or_create(
            team=team,
            github_repo=item.github_repo,
            github_pr_id=item.github_pr_id,
            defaults={"repository": repository},
        )
    if repository is not None:
        row.repository = repository
    is_news = created or _is_news(row, item)
    if is_news and row.github_pr_number != item.github_pr_number:
        _free_numbers(team, [item])
    people = [item.author] if is_news else []
    accounts = save_accounts(team, people if review is None else [*people, review.reviewer])
    if is_news:
        apply_pull_request(row, item, accounts=accounts)
        row.outdate(ITSELF)
    if review is not None:
        _save_reviews(row, (review,), accounts, is_whole=False)
        row.outdate(Section.REVIEWS)
    if is_news or review is not None:
        row.save()
    return row


def _label(item: PullRequestItem, repository: TrackedRepository | None) -> PullRequestItem:
    """Call it as its repository is called here; a new name is followed when GitHub says so."""
    return item if repository is None else replace(item, github_repo=repository.full_name)


def save_number(row: PullRequest, number: int) -> None:
    """Write the number of a row that was known only by its id; safe to repeat."""
    rows = PullRequest.objects.filter(team=row.team, github_pr_number=number)
    rows.in_repositories([row.github_repo]).exclude(pk=row.pk).update(
        github_pr_number=None, etags={}
    )
    row.github_pr_number, row.etags = number, {}
    row.save(update_fields=["github_pr_number", "etags"])


def _free_numbers(team: Team, items: Collection[PullRequestItem]) -> None:
    """Take the numbers of these from rows that had them before.

    GitHub gives a number again when a repository is deleted and made anew under its name. The
    older row keeps what it has, and is known by its id alone.
    """
    ids: dict[int | None, int] = {item.github_pr_number: item.github_pr_id for item in items}
    rows = PullRequest.objects.filter(team=team, github_pr_number__in=ids)
    rows = rows.in_repositories({item.github_repo for item in items})
    owners = rows.values_list("pk", "github_pr_number", "github_pr_id")
    reused = [pk for pk, number, github_pr_id in owners if ids.get(number) != github_pr_id]
    if reused:
        PullRequest.objects.filter(pk__in=reused).update(github_pr_number=None, etags={})


def save_missed_merges(
    team: Team,
    items: Collection[PullRequestItem],
    *,
    repository: TrackedRepository | None = None,
) -> int:
    """Write merges that no webhook told as `pending` rows, past the signal; return how many.

    Safe to repeat: rows that are merged already stay as they are. All items are of one
    repository; without one it is found by their name.
    """
    if not items:
        return 0
    name = next(iter(items)).github_repo
    repository = repository or team.repositories.first_named(name)
    items = [_label(item, repository) for item in items]
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
            row = PullRequest(
                team=team,
                repository=repository,
                github_repo=item.github_repo,
                github_pr_id=item.github_pr_id,
            )
            row.sync_status = PullRequest.SyncStatus.PENDING
            apply_pull_request(row, item, accounts=accounts)
            new.append(row)
        elif row.state != PullRequest.State.MERGED:
            names = [*apply_pull_request(row, item, accounts=accounts), "etags"]
            row.outdate(ITSELF)
            if row.mark_merged_late(**{name: getattr(row, name) for name in names}):
                merged.append(row)
    PullRequest.objects.bulk_create(new, ignore_conflicts=True)
    merged += rows.filter(github_pr_id__in=[row.github_pr_id for row in new])
    for row in merged:
        announce(pull_request_merged, row)
    return len(merged)


def _is_news(row: PullRequest, item: PullRequestItem) -> bool:
    """Whether a webhook tells what the row may not have; of the same second a fetch has it."""
    if row.pr_updated_at is None or item.pr_updated_at is None:
        return True
    if item.state == PullRequest.State.MERGED and row.state != PullRequest.State.MERGED:
        return True
    if item.pr_updated_at == row.pr_updated_at:
        return ITSELF not in row.etags
    return item.pr_updated_at > row.pr_updated_at


def _is_older(item: PullRequestItem, row: PullRequest) -> bool:
    """Whether a webhook told more while GitHub was asked."""
    if row.pr_updated_at is None or item.pr_updated_at is None:
        return False
    is_merge = item.state == PullRequest.State.MERGED and row.state != PullRequest.State.MERGED
    return item.pr_updated_at < row.pr_updated_at and not is_merge


def apply_pull_request(
    row: PullRequest, item: PullRequestItem, *, accounts: Mapping[int, TeamMember]
) -> list[str]:
    """Copy what GitHub says onto the row, unsaved, and return the names of the fields.

    Numbers that the payload does not state keep their value; one that is open again was never
    closed. A merge is never taken back: GitHub cannot, so an answer without it is an old one.
    """
    kept = {"github_repo", "github_pr_id", "author", "stated", "base_repo", "base_repo_id"}
    if row.state == PullRequest.State.MERGED and item.state != PullRequest.State.MERGED:
        kept |= {"state", "merged_at", "closed_at"}
    cleared = {"closed_at"} if item.state == PullRequest.State.OPEN else set()
    names = [
        field.name
        for field in fields(item)
        if field.name not in kept
        and (getattr(item, field.name) is not None or field.name in cleared)
    ]
    for name in names:
        setattr(row, name, getattr(item, name))
    row.author = _find(item.author, accounts)
    row.is_by_bot = is_bot(row.author, row.team)
    return [*names, "author", "is_by_bot"]


def save_snapshot(row: PullRequest, snapshot: Snapshot) -> tuple[list[str], Snapshot]:
    """Write the lists of a snapshot and copy its pull request onto the row, which stays unsaved.

    To be called in a transaction. Safe to repeat: rows are matched by GitHub's ids, and rows
    that GitHub no longer lists leave when the new ones come. A section that failed loses no row;
    what it did bring, from a list that does not agree with its counter, is added. The number of
    queries does not depend on the number of items (SQLite splits long lists).

    A list with a value that the database refuses is left as it was, and no other list with it.
    Returns the names of the row's fields that were set, and the snapshot as it was written: a
    list that was refused is one that failed.
    """
    try:
        with transaction.atomic():
            accounts = save_accounts(row.team, _list_accounts(snapshot))
            for section, result in snapshot.sections.items():
                _save_list(row, section, result, accounts)
    except REFUSED:
        accounts = save_accounts(row.team, [snapshot.pull_request.author])
        written = {s: _try_list(row, s, result) for s, result in snapshot.sections.items()}
        snapshot = replace(snapshot, sections=written)
    reviews = snapshot.sections.get(Section.REVIEWS)
    listed = None if reviews is None else reviews.items
    if listed is None or any(getattr(item, "state", "") == DISMISSED for item in listed):
        _recover_submitted_states(row)
    if _is_older(snapshot.pull_request, row):
        row.etags = _merge_etags(row, snapshot)
        row.outdate(ITSELF)
        return ["etags"], snapshot
    names = apply_pull_request(row, snapshot.pull_request, accounts=accounts)
    row.etags = _merge_etags(row, snapshot)
    return [*names, "etags"], snapshot


def _merge_etags(row: PullRequest, snapshot: Snapshot) -> dict[str, Any]:
    """Return the ETags of what this fetch asked for, beside those of the lists that it left alone.

    A webhook may have dropped those since, and the fetch those of another token.
    """
    asked = {ITSELF, TOKEN, AGREED, *snapshot.sections}
    left_alone = snapshot.etags.keys() - asked
    kept = {name: pages for name, pages in row.etags.items() if name in left_alone}
    came = {name: pages for name, pages in snapshot.etags.items() if name in asked}
    refused = {s.value for s, result in snapshot.sections.items() if result.error is not None}
    return {ITSELF: (), **kept, **{name: p for name, p in came.items() if name not in refused}}


def _save_list(
    row: PullRequest,
    section: Section,
    result: SectionResult,
    accounts: Mapping[int, TeamMember],
) -> None:
    if result.items is None:
        return
    is_whole = result.error is None
    if section is Section.REVIEWS:
        _save_reviews(row, result.items, accounts, is_whole=is_whole)
        return
    # Without a receipt no fetch has written rows.
    if is_whole and section in row.receipt:
        _delete_unlisted(row, section, result.items)
    _save_section(row, section, _list_values(section, result.items, accounts))


def _try_list(row: PullRequest, section: Section, result: SectionResult) -> SectionResult:
    """Write one list by itself; returns its result, an error if the database refuses it."""
    try:
        with transaction.atomic():
            _save_list(row, section, result, save_accounts(row.team, _list_people(result)))
    except REFUSED as error:
        logger.exception("The database refuses the %s of %s", section, row)
        reason = read_text(str(error)).partition("\n")[0]
        return replace(result, error=RefusedByDatabaseError(f"the database refuses it: {reason}"))
    return result


def follow_rename(row: PullRequest, snapshot: Snapshot) -> bool:
    """Rename the repository of a row to what GitHub calls it now; False if the row is gone.

    It goes when the same pull request has a row of the new name already, which a webhook made
    before anybody told of the new name. Safe to repeat.
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


def recall(row: PullRequest) -> PullRequestItem | None:
    """Return the pull request as the last fetch read it; None if a webhook wrote since."""
    if not row.etags.get(ITSELF) or row.github_pr_number is None:
        return None
    author = None
    if row.author is not None:
        author = Account(row.author.github_id, row.author.login, row.author.is_bot)
    left_out = {"author", "stated", "base_repo", "base_repo_id"}
    names = {field.name for field in fields(PullRequestItem)} - left_out
    stated = {s: row.receipt[s]["stated"] for s in COUNTERS if s in row.receipt}
    return PullRequestItem(
        author=author, stated=stated, **{name: getattr(row, name) for name in names}
    )


def recall_lists(row: PullRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the receipt and the ETags, but for lists of which we have other rows than they say.

    A list that has lost rows, or has more than a fetch left, is to be had in full.
    """
    if not row.receipt:
        return {}, row.etags
    stored = count_rows(row)
    changed = {
        section.value
        for section in Section
        if is_known(entry := row.receipt.get(section)) and entry["stored"] != stored[section]
    }
    parts = (row.receipt, row.etags)
    receipt, etags = ({n: v for n, v in part.items() if n not in changed} for part in parts)
    return receipt, etags


def _list_accounts(snapshot: Snapshot) -> Iterable[Account | None]:
    yield snapshot.pull_request.author
    for result in snapshot.sections.values():
        yield from _list_people(result)


def _list_people(result: SectionResult) -> Iterable[Account | None]:
    for item in result.items or ():
        for role in ("author", "reviewer", "actor"):
            yield getattr(item, role, None)


def _find_key(section: Section, item: Item) -> Any:
    """Return what tells an item's row from the others of its list."""
    if isinstance(item, FileItem):
        return PRFile.make_key(item.filename, item.status)
    return getattr(item, COLUMNS[section])


def _delete_unlisted(row: PullRequest, section: Section, items: tuple[Item, ...]) -> None:
    rows = MODELS[section].objects.filter(pull_request=row, **KINDS.get(section, {}))
    listed = [_find_key(section, item) for item in items]
    rows.exclude(**{f"{COLUMNS[section]}__in": listed}).delete()


def _list_values(
    section: Section, items: tuple[Item, ...], accounts: Mapping[int, TeamMember]
) -> list[dict[str, Any]]:
    """Return the columns of each item."""
    names = [field.name for field in fields(items[0])] if items else []
    return [
        {
            **{name: _to_column(getattr(item, name), accounts) for name in names},
            COLUMNS[section]: _find_key(section, item),
        }
        for item in items
    ]


def _save_section(row: PullRequest, section: Section, values: list[dict[str, Any]]) -> None:
    if not values:
        return
    model, unique = MODELS[section], [COLUMNS[section], *KINDS.get(section, {})]
    model.objects.bulk_create(
        [model(team=row.team, pull_request=row, **value) for value in values],
        update_conflicts=True,
        unique_fields=["pull_request", *unique],
        update_fields=[name for name in values[0] if name not in unique],
    )


def _save_reviews(
    row: PullRequest,
    items: tuple[Item, ...],
    accounts: Mapping[int, TeamMember],
    *,
    is_whole: bool,
) -> None:
    """Write reviews, all of them or some; safe to repeat.

    What each was when submitted is kept when it is dismissed, and one that was dismissed becomes
    nothing else. GitHub forgets the one and never does the other: a list or a delivery that says
    so is older than the dismissal.
    """
    columns = ("github_review_id", "state", "submitted_state")
    stored = {review_id: states for review_id, *states in row.reviews.values_list(*columns)}
    values = _list_values(Section.REVIEWS, items, accounts)
    if is_whole and stored.keys() - {value["github_review_id"] for value in values}:
        _delete_unlisted(row, Section.REVIEWS, items)
    for value in values:
        state, submitted = stored.get(value["github_review_id"], ("", ""))
        if value["state"] == DISMISSED:
            value["submitted_state"] = submitted
        elif state == DISMISSED:
            value |= {"state": DISMISSED, "submitted_state": submitted or value["state"]}
        else:
            value["submitted_state"] = value["state"]
    _save_section(row, Section.REVIEWS, values)


def _to_column(value: Any, accounts: Mapping[int, TeamMember]) -> Any:
    return _find(value, accounts) if isinstance(value, Account) else value


def _find(account: Account | None, accounts: Mapping[int, TeamMember]) -> TeamMember | None:
    return None if account is None else accounts[account.github_id]


def _recover_submitted_states(row: PullRequest) -> None:
    """Take from the timeline what dismissed reviews were whose webhook we never got.

    https://docs.github.com/en/rest/using-the-rest-api/issue-event-types#review_dismissed
    """
    unknown = row.reviews.filter(state=DISMISSED, submitted_state="")
    told = row.timeline_events.filter(dismissed_review_id=OuterRef("github_review_id"))
    state = Subquery(told.exclude(dismissed_state="").values("dismissed_state")[:1])
    unknown.update(submitted_state=Coalesce(state, Value("")))


def list_rows(row: PullRequest, section: Section) -> QuerySet[Any]:
    """Return the stored rows of a section."""
    rows: QuerySet[Any] = MODELS[section].objects.filter(pull_request=row)
    return rows.filter(**KINDS.get(section, {}))


def count_rows(row: PullRequest) -> dict[Section, int]:
    """Count the rows of every section, in one query."""
    sql, parameters = _build_count()
    with connection.cursor() as cursor:
        cursor.execute(sql, [row.pk if value is None else value for value in parameters])
        return dict(zip(MODELS, cursor.fetchone(), strict=True))


@cache
def _build_count() -> tuple[str, list[str | None]]:
    """Write the query once; None stands where the pull request's key goes.

    Having Django put eight subqueries together took longer than all other work on a row.
    """
    counts, parameters = [], list[str | None]()
    for section, model in MODELS.items():
        kind = KINDS.get(section, {})
        conditions = " AND ".join(f"{name} = %s" for name in ("pull_request_id", *kind))
        table = connection.ops.quote_name(model._meta.db_table)  # noqa: SLF001  (public)
        # The names of our own tables and columns.
        counts.append(f"(SELECT COUNT(*) FROM {table} WHERE {conditions})")  # noqa: S608  # nosec B608
        parameters += [None, *kind.values()]
    return f"SELECT {', '.join(counts)}", parameters


def build_receipt(
    earlier: Mapping[str, Any], snapshot: Snapshot, stored: Mapping[Section, int]
) -> dict[str, Any]:
    """Say of each section what GitHub states, what we hold, and whether that is all of it.

    Sections that this fetch did not ask for keep their entry of the earlier receipt.
    """
    receipt: dict[str, Any] = {
        section.value: {
            "stated": result.stated,
            "stored": stored[section],
            "result": read_text(str(result.error)) if result.error else result.result,
            **{
                name: read_text(value) if isinstance(value, str) else value
                for name in ("reason", "witness", "looks", "scope")
                if (value := getattr(result, name))
            },
        }
        for section, result in snapshot.sections.items()
    }
    return {**earlier, **receipt}
