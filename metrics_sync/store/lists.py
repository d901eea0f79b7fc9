"""Writes the lists of a pull request as rows: each list whole, matched by GitHub's ids."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from metrics_sync.models import (
    Commit,
    PRCheckRun,
    PRComment,
    PRCommitStatus,
    PRFile,
    PRReview,
    PRTimelineEvent,
    PullRequest,
    TeamMember,
)
from metrics_sync.models.prepared import PreparedForOne, PreparedUpsert
from metrics_sync.snapshot import KEYS, Account, FileItem, Item, Section, SectionResult

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


class FoundList(NamedTuple):
    """The items of one list of a pull request, which may be only some of them."""

    row: PullRequest
    items: tuple[Item, ...]
    is_whole: bool = True


def save_list(
    section: Section, found: Sequence[FoundList], accounts: Mapping[int, TeamMember]
) -> None:
    """Write one list of some pull requests of a team, with as many queries as for one.

    A list that is not whole adds and updates rows, and removes none.
    """
    if section is Section.REVIEWS:
        _save_reviews(found, accounts)
        return
    for row, items, is_whole in found:
        # Without a receipt no fetch has written rows.
        if is_whole and section in row.receipt:
            _delete_unlisted(row, section, items)
    values = [
        {"pull_request": row, **value}
        for row, items, _ in found
        for value in _list_values(section, items, accounts)
    ]
    _save_section(section, values)


def list_people(result: SectionResult) -> Iterable[Account | None]:
    for item in result.items or ():
        for role in ("author", "reviewer", "actor"):
            yield getattr(item, role, None)


def _find_key(section: Section, item: Item) -> Any:
    """Return the value that tells an item's row from the others of its list."""
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


def _save_section(section: Section, values: list[dict[str, Any]]) -> None:
    if values:
        model = MODELS[section]
        rows = [model(team_id=value["pull_request"].team_id, **value) for value in values]
        _prepare_upsert(section, tuple(values[0])).run(rows)


@cache
def _prepare_upsert(section: Section, names: tuple[str, ...]) -> PreparedUpsert[Any]:
    unique = ["pull_request", COLUMNS[section], *KINDS.get(section, {})]
    updated = [name for name in names if name not in unique]
    return PreparedUpsert(MODELS[section], unique_fields=unique, update_fields=updated)


def save_reviews(
    row: PullRequest,
    items: tuple[Item, ...],
    accounts: Mapping[int, TeamMember],
    *,
    is_whole: bool,
) -> None:
    """Write all reviews of a pull request, or some; safe to repeat.

    A dismissed review keeps the state that it was submitted with, which GitHub forgets. It never
    gets another state: GitHub cannot undo a dismissal, so a list or a delivery that says otherwise
    is older.
    """
    _save_reviews([FoundList(row, items, is_whole)], accounts)


def _save_reviews(found: Sequence[FoundList], accounts: Mapping[int, TeamMember]) -> None:
    stored = _load_review_states(row for row, _, _ in found)
    values = list[dict[str, Any]]()
    for row, items, is_whole in found:
        reviews = _list_values(Section.REVIEWS, items, accounts)
        if is_whole and stored[row.pk].keys() - {value["github_review_id"] for value in reviews}:
            _delete_unlisted(row, Section.REVIEWS, items)
        _keep_states(reviews, stored[row.pk])
        values += [{"pull_request": row, **value} for value in reviews]
    _save_section(Section.REVIEWS, values)


def _load_review_states(rows: Iterable[PullRequest]) -> dict[int, dict[int, Sequence[str]]]:
    """Return the state of each stored review, and that it was submitted with."""
    stored = defaultdict[int, dict[int, Sequence[str]]](dict)
    for review in _review_states.run([row.pk for row in rows]):
        states = (review.state, review.submitted_state)
        stored[review.pull_request_id][review.github_review_id] = states
    return stored


_review_states = PreparedForOne(
    lambda: PRReview.objects.only("pull_request", "github_review_id", "state", "submitted_state"),
    "pull_request",
)


def _keep_states(reviews: Iterable[dict[str, Any]], stored: Mapping[int, Sequence[str]]) -> None:
    for value in reviews:
        state, submitted = stored.get(value["github_review_id"], ("", ""))
        if value["state"] == DISMISSED:
            value["submitted_state"] = submitted
        elif state == DISMISSED:
            value |= {"state": DISMISSED, "submitted_state": submitted or value["state"]}
        else:
            value["submitted_state"] = value["state"]


def _to_column(value: Any, accounts: Mapping[int, TeamMember]) -> Any:
    return find_member(value, accounts) if isinstance(value, Account) else value


def find_member(account: Account | None, accounts: Mapping[int, TeamMember]) -> TeamMember | None:
    return None if account is None else accounts[account.github_id]


def recover_submitted_states(row: PullRequest) -> None:
    """Read from the timeline the state that dismissed reviews had when they were submitted.

    Needed for reviews of which no webhook arrived before the dismissal.

    https://docs.github.com/en/rest/using-the-rest-api/issue-event-types#review_dismissed
    """
    unknown = row.reviews.filter(state=DISMISSED, submitted_state="")
    dismissals = row.timeline_events.filter(dismissed_review_id=OuterRef("github_review_id"))
    state = Subquery(dismissals.exclude(dismissed_state="").values("dismissed_state")[:1])
    unknown.update(submitted_state=Coalesce(state, Value("")))


def list_rows(row: PullRequest, section: Section) -> QuerySet[Any]:
    """Return the stored rows of a section."""
    rows: QuerySet[Any] = MODELS[section].objects.filter(pull_request=row)
    return rows.filter(**KINDS.get(section, {}))


def count_rows(row: PullRequest) -> dict[Section, int]:
    """Count the rows of every section, in one query."""
    return count_rows_of([row])[row.pk]


def count_rows_of(rows: Sequence[PullRequest]) -> dict[int, dict[Section, int]]:
    """Count the rows of every section of stored pull requests, by their keys, in one query."""
    sql, parameters = _build_count(len(rows))
    with connection.cursor() as cursor:
        cursor.execute(sql, [*parameters, *(row.pk for row in rows)])
        return {pk: dict(zip(MODELS, counts, strict=True)) for pk, *counts in cursor.fetchall()}


@cache
def _build_count(length: int) -> tuple[str, list[str]]:
    """Write the query for so many pull requests once; returns its first parameters, too.

    Having Django put eight subqueries together took longer than all other work on a row.
    """
    counts, parameters = [], list[str]()
    whole = connection.ops.quote_name(PullRequest._meta.db_table)  # noqa: SLF001  (public)
    for section, model in MODELS.items():
        kind = KINDS.get(section, {})
        conditions = " AND ".join([f"pull_request_id = {whole}.id", *(f"{k} = %s" for k in kind)])
        table = connection.ops.quote_name(model._meta.db_table)  # noqa: SLF001  (public)
        # The names of our own tables and columns.
        counts.append(f"(SELECT COUNT(*) FROM {table} WHERE {conditions})")  # noqa: S608  # nosec B608
        parameters += kind.values()
    keys = ", ".join(["%s"] * length)
    return f"SELECT id, {', '.join(counts)} FROM {whole} WHERE id IN ({keys})", parameters  # noqa: S608  # nosec B608
