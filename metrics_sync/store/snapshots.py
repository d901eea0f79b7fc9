"""Writes what a fetch brought: the pull request, and each of its lists whole."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any

from django.db import connection, transaction
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from metrics_sync.announcing import announce, pull_request_merged
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
)
from metrics_sync.snapshot import (
    COUNTERS,
    KEYS,
    Account,
    Item,
    PullRequestItem,
    ReviewItem,
    Section,
    Snapshot,
    get_key,
)
from metrics_sync.store.accounts import save_accounts

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

DISMISSED = "dismissed"


def save_pull_request(team: Team, item: PullRequestItem) -> PullRequest:
    """Write a pull request as a webhook told it; returns the row, saved.

    Safe to repeat and in any order: news older than what the row holds changes nothing, and a
    merged pull request stays merged. A merge that the row did not know fires the signal.
    """
    rows = PullRequest.objects.select_for_update()
    # GitHub's names ignore case: another spelling is no other repository.
    of_id = rows.filter(team=team, github_pr_id=item.github_pr_id)
    row, created = of_id.in_repositories([item.github_repo]).first(), False
    if row is None:
        row, created = rows.get_or_create(
            team=team, github_repo=item.github_repo, github_pr_id=item.github_pr_id
        )
    if created or _is_news(row, item):
        if row.github_pr_number != item.github_pr_number:
            _free_numbers(team, [item])
        accounts = save_accounts(team, [item.author])
        apply_pull_request(row, item, accounts=accounts)
        row.save()
    return row


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


def save_missed_merges(team: Team, items: Collection[PullRequestItem]) -> int:
    """Write merges that no webhook told as `pending` rows, past the signal; return how many.

    Safe to repeat: rows that are merged already stay as they are.
    """
    if not items:
        return 0
    ids = [item.github_pr_id for item in items]
    rows = PullRequest.objects.filter(team=team, github_pr_id__in=ids)
    known = {(row.github_repo.lower(), row.github_pr_id): row for row in rows}
    _free_numbers(team, items)
    accounts = save_accounts(team, (item.author for item in items))
    new, merged = [], []
    for item in items:
        row = known.get((item.github_repo.lower(), item.github_pr_id))
        if row is None:
            row = PullRequest(
                team=team, github_repo=item.github_repo, github_pr_id=item.github_pr_id
            )
            row.sync_status = PullRequest.SyncStatus.PENDING
            apply_pull_request(row, item, accounts=accounts)
            new.append(row)
        elif row.state != PullRequest.State.MERGED:
            names = apply_pull_request(row, item, accounts=accounts)
            if row.mark_merged_late(**{name: getattr(row, name) for name in names}):
                merged.append(row)
    PullRequest.objects.bulk_create(new, ignore_conflicts=True)
    merged += rows.filter(github_pr_id__in=[row.github_pr_id for row in new])
    for row in merged:
        announce(pull_request_merged, row)
    return len(merged)


def _is_news(row: PullRequest, item: PullRequestItem) -> bool:
    if row.pr_updated_at is None or item.pr_updated_at is None:
        return True
    if item.state == PullRequest.State.MERGED and row.state != PullRequest.State.MERGED:
        return True
    return item.pr_updated_at >= row.pr_updated_at


def apply_pull_request(
    row: PullRequest, item: PullRequestItem, *, accounts: Mapping[int, TeamMember]
) -> list[str]:
    """Copy what GitHub says onto the row, unsaved, and return the names of the fields.

    Numbers that the payload does not state keep their value. A merge is never taken back:
    GitHub cannot, so an answer without it is an old one.
    """
    kept = {"github_repo", "github_pr_id", "author", "stated", "base_repo"}
    if row.state == PullRequest.State.MERGED and item.state != PullRequest.State.MERGED:
        kept |= {"state", "merged_at", "closed_at"}
    names = [
        field.name
        for field in fields(item)
        if field.name not in kept and getattr(item, field.name) is not None
    ]
    for name in names:
        setattr(row, name, getattr(item, name))
    row.author = _find(item.author, accounts)
    return [*names, "author"]


@transaction.atomic(savepoint=False)
def save_snapshot(row: PullRequest, snapshot: Snapshot) -> list[str]:
    """Write the lists of a snapshot and copy its pull request onto the row, which stays unsaved.

    Safe to repeat: rows are matched by GitHub's ids. One transaction: rows that GitHub no longer
    lists leave when the new ones come. A section that failed loses no row; what it did bring,
    from a list that does not agree with its counter, is added. The number of queries does not
    depend on the number of items (SQLite splits long lists).
    Returns the names of the row's fields that were set.
    """
    accounts = save_accounts(row.team, _list_accounts(snapshot))
    for section, result in snapshot.sections.items():
        if result.items is None:
            continue
        # Without a receipt no fetch has written rows; reviews also come by webhook.
        may_have_rows = section in row.receipt or section is Section.REVIEWS
        if result.error is None and may_have_rows:
            _delete_unlisted(row, section, result.items)
        _save_section(row, section, result.items, accounts)
    reviews = snapshot.sections.get(Section.REVIEWS)
    listed = None if reviews is None else reviews.items
    if listed is None or any(getattr(item, "state", "") == DISMISSED for item in listed):
        _recover_submitted_states(row)
    return apply_pull_request(row, snapshot.pull_request, accounts=accounts)


def follow_rename(row: PullRequest, snapshot: Snapshot) -> bool:
    """Rename the repository of a row to what GitHub calls it now; False if the row is gone.

    It goes when the same pull request has a row of the new name already, which a webhook made
    before anybody told of the new name. Safe to repeat.
    """
    if not snapshot.moved_to:
        return True
    for repository in row.team.repositories.named(row.github_repo):
        repository.rename(snapshot.moved_to)
        row.github_repo = snapshot.moved_to
    return PullRequest.objects.filter(pk=row.pk).exists()


def recall(row: PullRequest) -> PullRequestItem | None:
    """Return the pull request as the last fetch read it; None if none has yet."""
    if not row.etags or row.github_pr_number is None:
        return None
    author = None
    if row.author is not None:
        author = Account(row.author.github_id, row.author.login, row.author.is_bot)
    names = {field.name for field in fields(PullRequestItem)} - {"author", "stated", "base_repo"}
    stated = {section: row.receipt[section]["stated"] for section in COUNTERS}
    return PullRequestItem(
        author=author, stated=stated, **{name: getattr(row, name) for name in names}
    )


def _list_accounts(snapshot: Snapshot) -> Iterable[Account | None]:
    yield snapshot.pull_request.author
    for result in snapshot.sections.values():
        for item in result.items or ():
            for role in ("author", "reviewer", "actor"):
                yield getattr(item, role, None)


def _delete_unlisted(row: PullRequest, section: Section, items: tuple[Item, ...]) -> None:
    rows = MODELS[section].objects.filter(pull_request=row, **KINDS.get(section, {}))
    listed = {get_key(section, item) for item in items}
    first, *others = KEYS[section]
    unlisted = rows.exclude(**{f"{first}__in": [key[0] for key in listed]})
    if others:
        # One name may be listed with another status than it is stored with.
        keys = rows.values_list("pk", *KEYS[section])
        unlisted = rows.filter(pk__in=[pk for pk, *key in keys if tuple(key) not in listed])
    unlisted.delete()


def _save_section(
    row: PullRequest,
    section: Section,
    items: tuple[Item, ...],
    accounts: Mapping[int, TeamMember],
) -> None:
    if not items:
        return
    model, keys, kind = MODELS[section], KEYS[section], KINDS.get(section, {})
    columns = [field.name for field in fields(items[0])]
    values = [
        {name: _to_column(getattr(item, name), accounts) for name in columns} for item in items
    ]
    if section is Section.REVIEWS:
        columns.append("submitted_state")
        _recall_submitted_states(row, values)
    unique = [*keys, *kind]
    model.objects.bulk_create(
        [model(team=row.team, pull_request=row, **value) for value in values],
        update_conflicts=True,
        unique_fields=["pull_request", *unique],
        update_fields=[name for name in columns if name not in unique],
    )


def _to_column(value: Any, accounts: Mapping[int, TeamMember]) -> Any:
    return _find(value, accounts) if isinstance(value, Account) else value


def _find(account: Account | None, accounts: Mapping[int, TeamMember]) -> TeamMember | None:
    return None if account is None else accounts[account.github_id]


def _recall_submitted_states(row: PullRequest, values: list[dict[str, Any]]) -> None:
    """Add what each review was when submitted: GitHub forgets it when a review is dismissed."""
    known = {}
    if any(value["state"] == DISMISSED for value in values):
        known = dict(row.reviews.values_list("github_review_id", "submitted_state"))
    for value in values:
        state = value["state"]
        recalled = known.get(value["github_review_id"], "") if state == DISMISSED else state
        value["submitted_state"] = recalled


def _recover_submitted_states(row: PullRequest) -> None:
    """Take from the timeline what dismissed reviews were whose webhook we never got.

    https://docs.github.com/en/rest/using-the-rest-api/issue-event-types#review_dismissed
    """
    unknown = row.reviews.filter(state=DISMISSED, submitted_state="")
    told = row.timeline_events.filter(dismissed_review_id=OuterRef("github_review_id"))
    state = Subquery(told.exclude(dismissed_state="").values("dismissed_state")[:1])
    unknown.update(submitted_state=Coalesce(state, Value("")))


def save_review(row: PullRequest, item: ReviewItem) -> None:
    """Write one review as a webhook told it; safe to repeat.

    What the review was when submitted is kept when it is dismissed.
    """
    accounts = save_accounts(row.team, [item.reviewer])
    values = {field.name: getattr(item, field.name) for field in fields(item)}
    values["reviewer"] = _find(item.reviewer, accounts)
    _recall_submitted_states(row, [values])
    PRReview.objects.update_or_create(
        pull_request=row,
        github_review_id=values.pop("github_review_id"),
        defaults={"team": row.team, **values},
    )


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
            "result": result.result or str(result.error),
            **{
                name: value
                for name in ("reason", "witness", "looks")
                if (value := getattr(result, name))
            },
        }
        for section, result in snapshot.sections.items()
    }
    return {**earlier, **receipt}
