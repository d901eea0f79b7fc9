"""Reading GitHub's JSON: what real payloads hold, not what the schema promises."""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics_sync.exceptions import GoneError
from metrics_sync.sandbox import Recording, make_recording
from metrics_sync.snapshot import (
    Account,
    PullRequestItem,
    Section,
    SectionResult,
    Snapshot,
    clean_json,
    describe_unknown_times,
    read_items,
    read_pull_request,
    read_text,
    read_time,
)
from metrics_sync.snapshot.reading import READERS, TIMES
from metrics_sync.snapshot.values import GHOST_ID, read_account

REPOSITORY = "acme/anvil"
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

#: The least that GitHub has ever sent of each item.
BARE: dict[Section, dict[str, Any]] = {
    Section.COMMITS: {"sha": "a" * 40},
    Section.FILES: {"filename": "a.py"},
    Section.CHECK_RUNS: {"id": 1},
    Section.ISSUE_COMMENTS: {"id": 1, "created_at": "2026-03-02T12:00:00Z"},
    Section.REVIEW_COMMENTS: {"id": 1, "created_at": "2026-03-02T12:00:00Z"},
    Section.REVIEWS: {"id": 1},
    Section.TIMELINE: {
        "id": 1,
        "event": "ready_for_review",
        "created_at": "2026-03-02T12:00:00Z",
    },
    Section.COMMIT_STATUSES: {
        "id": 1,
        "context": "ci",
        "state": "success",
        "created_at": "2026-03-02T12:00:00Z",
    },
}


def read(section: Section, **values: Any) -> Any:
    """Read one bare item with some values added."""
    return READERS[section]({**BARE[section], **values})


def read_pull(**values: Any) -> PullRequestItem:
    bare = {"id": 2_751_156_518, "number": 7, "state": "open"}
    return read_pull_request({**bare, **values}, github_repo=REPOSITORY)


@pytest.fixture(scope="module")
def recording() -> Recording:
    made = make_recording(REPOSITORY, 7, statuses=1)
    made.timeline = [{**BARE[Section.TIMELINE], "actor": made.pull["user"]}]
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(None, "", id="null"),
        pytest.param("a\x00b\x00", "ab", id="NUL"),
        pytest.param("a\ud800b", "a?b", id="half a pair"),
        pytest.param("naïve 🚀\u2028\x1b", "naïve 🚀\u2028\x1b", id="everything else is kept"),
    ],
)
def test_text_is_what_postgresql_can_store(given: str | None, expected: str) -> None:
    """One pasted character must not cost a whole fetch."""
    assert read_text(given) == expected


@settings(deadline=None)
@given(st.text(st.characters()))
def test_every_text_can_be_stored_and_is_left_alone_the_second_time(text: str) -> None:
    """A webhook and a fetch write the same text to the same column."""
    stored = read_text(text)

    assert (b"\x00" in stored.encode(), read_text(stored)) == (False, stored)


@pytest.mark.parametrize("value", [None, -1, 2**31, 10**40, "7", 1.5])
def test_count_that_no_column_takes_is_unknown(value: Any) -> None:
    """It would cost all that was fetched of the pull request."""
    assert read_pull(additions=value).additions is None


@settings(deadline=None)
@given(
    st.recursive(
        st.text(st.characters()) | st.integers() | st.none(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    ),
    st.booleans(),
)
def test_every_payload_can_be_stored(value: Any, is_escaped: bool) -> None:
    """No text leaves a payload in another way: one that is forgotten would cost everything."""
    source = json.dumps(value, ensure_ascii=is_escaped).encode(errors="surrogatepass")

    cleaned = clean_json(json.loads(source), source=source)

    assert "\\u0000" not in json.dumps(cleaned, ensure_ascii=False).encode().decode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-03-02T12:00:00Z", NOON),
        ("2026-03-02T05:00:00-07:00", NOON),
        ("2026-03-02T12:00:00.000Z", NOON),
        ("2026-03-02T12:00:00", NOON),
        ("", None),
        (None, None),
        pytest.param("0001-01-01T00:00:00Z", None, id="a program's zero"),
        pytest.param("0001-01-01T00:00:00+14:00", None, id="before the year 1"),
        pytest.param("9999-12-31T23:59:59-12:00", None, id="after the year 9999"),
        pytest.param("1969-12-31T23:59:59Z", None, id="before 1970"),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("the day after", None),
        (1772452800, None),
    ],
)
def test_times_are_read_as_utc(given: Any, expected: datetime | None) -> None:
    """Old commits carry the committer's offset, and what is no time is unknown."""
    moment = read_time(given)

    assert (moment, moment and moment.tzinfo) == (expected, expected and UTC)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="null"),
        pytest.param({}, id="empty object"),
        pytest.param({"login": "mona"}, id="no id"),
        pytest.param({"id": GHOST_ID, "login": "ghost"}, id="ghost"),
    ],
)
def test_nobody_is_read_as_nobody(value: dict[str, Any] | None) -> None:
    """All deleted accounts are one ghost, which is many people."""
    assert read_account(value) is None


@pytest.mark.parametrize(
    ("login", "kind", "is_bot"),
    [
        pytest.param("mona", "User", False, id="person"),
        pytest.param("acme", "Organization", False, id="organization"),
        pytest.param("dependabot[bot]", "Bot", True, id="bot"),
        pytest.param("Copilot", "Bot", True, id="bot by type"),
        pytest.param("dependabot[bot]", "User", True, id="bot by name"),
        pytest.param("mona", None, False, id="type unknown"),
    ],
)
def test_bots_are_known_by_type_or_name(login: str, kind: str | None, is_bot: bool) -> None:
    """One app reviews as `copilot[bot]` and comments as `Copilot`."""
    account = read_account({"id": 2**31 + 1, "login": login, "type": kind})

    assert account == Account(github_id=2**31 + 1, login=login, is_bot=is_bot)


@pytest.mark.parametrize("section", Section)
def test_bare_item_is_read_with_null_for_the_unknown(section: Section) -> None:
    """Old recordings lack most keys, and a fetch of them must not fail."""
    item = read(section)

    values = [getattr(item, field.name) for field in fields(item)]
    known = {NOON, "issue", "review", *BARE[section].values()}
    assert {value for value in values if value not in known} <= {None, "", 0, "ghost"}


@pytest.mark.parametrize("section", Section)
def test_null_is_read_like_a_missing_key(section: Section, recording: Recording) -> None:
    """Of the same key some endpoints say null and others nothing."""
    whole = getattr(recording, section)[0]
    nulls = {key: None for key in whole if key not in BARE[section]}

    assert READERS[section]({**whole, **nulls}) == READERS[section](
        {key: whole[key] for key in BARE[section]}
    )


def test_commit_keeps_both_dates(recording: Recording) -> None:
    """Metrics count from the committer's date; the author's may be years older."""
    dates = {"author": {"date": "2019-01-01T00:00:00Z"}, "committer": {"date": "2026-03-02T12:00Z"}}

    commit = read(Section.COMMITS, commit=dates, author=recording.pull["user"])

    assert (commit.committed_at, commit.authored_at) == (NOON, datetime(2019, 1, 1, tzinfo=UTC))
    assert commit.author_login == commit.author.login == "mona"


@pytest.mark.parametrize("user", [{"id": GHOST_ID, "login": "ghost"}, None])
def test_ghost_keeps_its_login_but_is_no_account(user: dict[str, Any] | None) -> None:
    """The page shows `ghost` as GitHub does, and no two ghosts are one person."""
    comment = read(Section.ISSUE_COMMENTS, user=user)

    assert (comment.author, comment.author_login) == (None, "ghost")


def test_comment_on_a_whole_file_is_on_no_line() -> None:
    """GitHub's answers say null, or 1."""
    comment = read(Section.REVIEW_COMMENTS, subject_type="file", line=1)

    assert comment.line is None


def test_two_kinds_of_comments_are_told_apart(recording: Recording) -> None:
    """They are numbered apart from each other, so one id can mean two comments."""
    remark = recording.review_comments[0]
    [comment] = read_items(Section.REVIEW_COMMENTS, [remark])

    assert (comment.comment_type, comment.path) == ("review", remark["path"])
    assert read(Section.ISSUE_COMMENTS).comment_type == "issue"


def test_never_edited_comment_was_updated_when_it_was_made() -> None:
    """The oldest comments have no `updated_at`."""
    assert read(Section.REVIEW_COMMENTS, updated_at=None).updated_at == NOON


@pytest.mark.parametrize(
    ("section", "name"),
    [
        (Section.REVIEWS, "state"),
        (Section.CHECK_RUNS, "status"),
        (Section.CHECK_RUNS, "conclusion"),
        (Section.FILES, "status"),
    ],
)
def test_states_are_read_in_lower_case(section: Section, name: str) -> None:
    """The API shouts what the webhook says."""
    assert getattr(read(section, **{name: "NEVER_SEEN_BEFORE"}), name) == "never_seen_before"


@pytest.mark.parametrize(
    ("section", "path"), [(section, path) for section in TIMES for path in TIMES[section]]
)
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "soon"])
def test_time_that_is_none_costs_no_item_and_is_told(
    section: Section, path: Sequence[str], time: str
) -> None:
    """One commit with a broken date took the whole list, in every fetch."""
    value: Any = time
    for name in reversed(path):
        value = {name: value}

    [item] = read_items(section, [{**BARE[section], **value}])

    assert item == read(section)
    assert describe_unknown_times(section, [{**BARE[section], **value}, BARE[section]]) == (
        "1 with a time that is unknown"
    )


def test_merge_at_a_time_that_is_none_is_refused() -> None:
    """Without one, a merged pull request would pass for a closed one."""
    with pytest.raises(ValueError, match="no time"):
        read_pull(merged_at="0001-01-01T00:00:00Z")


def test_file_whose_type_changes_has_two_lines() -> None:
    """A file that becomes a symbolic link is removed and added under its name."""
    lines = [{**BARE[Section.FILES], "status": status} for status in ("removed", "added")]

    assert [item.status for item in read_items(Section.FILES, lines)] == ["removed", "added"]


@pytest.mark.parametrize("section", Section)
def test_item_on_two_pages_is_read_once_and_its_later_copy_wins(section: Section) -> None:
    """Pages shift while somebody comments."""
    edited: dict[str, Any] = {"commit": {"message": "b"}, "name": "b", "body": "b", "additions": 2}

    items = read_items(section, [BARE[section], {**BARE[section], **edited}])

    assert items == (read(section, **edited),)


@pytest.mark.parametrize("section", Section)
@pytest.mark.parametrize("value", [{}, [], None, "text"])
def test_what_is_no_item_is_refused(section: Section, value: Any) -> None:
    """The fetch waits for these errors and calls the answer unreadable."""
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        read_items(section, [value])


def test_pull_request_is_read_with_githubs_words(recording: Recording) -> None:
    """The number is what API calls need, the id is what never changes."""
    item = read_pull_request(recording.pull, github_repo=REPOSITORY)

    assert (item.github_repo, item.github_pr_number) == (REPOSITORY, 7)
    assert item.github_pr_id == recording.pull["id"]
    assert (item.base_ref, item.head_ref) == ("main", "read-settings")
    assert item.head_sha == recording.pull["head"]["sha"]
    assert (item.state, item.author_login) == ("merged", "mona")
    assert item.merged_at == read_time(recording.pull["merged_at"])


def test_counters_are_what_each_section_is_proven_with() -> None:
    """Complete means that the number of rows is the number that GitHub states."""
    sizes = {"commits": 2, "changed_files": 5, "comments": 3, "review_comments": 4}

    assert read_pull(**sizes).stated == {
        Section.COMMITS: 2,
        Section.FILES: 5,
        Section.ISSUE_COMMENTS: 3,
        Section.REVIEW_COMMENTS: 4,
    }


def test_numbers_that_are_not_stated_are_unknown() -> None:
    """The short pull request of a review's webhook has no counters; they are not zero."""
    item = read_pull(comments=None)

    assert (item.additions, item.deletions, item.changed_files) == (None, None, None)
    assert item.stated == {}


@pytest.mark.parametrize(
    ("values", "state"),
    [
        pytest.param({"state": "open", "merge_commit_sha": "a" * 40}, "open", id="test merge"),
        pytest.param({"state": "closed", "merge_commit_sha": "a" * 40}, "closed", id="closed"),
        pytest.param({"state": "closed", "merged_at": "2026-03-02T12:00:00Z"}, "merged", id="m"),
    ],
)
def test_merged_at_alone_says_that_it_is_merged(values: dict[str, Any], state: str) -> None:
    """GitHub makes a test merge of open pull requests too."""
    assert read_pull(**values).state == state


@pytest.mark.parametrize("head", [None, {}, {"ref": None, "sha": None, "repo": None, "user": None}])
def test_pull_request_of_a_deleted_fork_is_read(head: dict[str, Any] | None) -> None:
    """Every third pull request of some projects has lost its fork."""
    item = read_pull(head=head, user=None)

    assert (item.head_ref, item.head_sha, item.author) == ("", "", None)


@pytest.mark.parametrize("missing", ["id", "number", "state"])
def test_what_is_no_pull_request_is_refused(missing: str) -> None:
    """A row without these could not be found again."""
    value = {"id": 1, "number": 7, "state": "open"}
    del value[missing]

    with pytest.raises(KeyError):
        read_pull_request(value, github_repo=REPOSITORY)


def make_snapshot(**results: SectionResult) -> Snapshot:
    sections = {Section(name): result for name, result in results.items()}
    return Snapshot(pull_request=read_pull(), sections=sections, etags={})


def test_errors_name_only_the_sections_that_failed() -> None:
    """What succeeded is kept."""
    error = GoneError("not there")
    snapshot = make_snapshot(
        commits=SectionResult(result="verified"), reviews=SectionResult(error=error)
    )

    assert snapshot.errors == {Section.REVIEWS: error}


def list_readers() -> list[Callable[[Any], Any]]:
    return [*READERS.values(), lambda value: read_pull_request(value, github_repo=REPOSITORY)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
KEYS = ["id", "number", "state", "user", "head", "created_at", "commit", "sha", "filename", "app"]


@settings(deadline=None)
@given(
    st.sampled_from(list_readers()),
    st.dictionaries(st.sampled_from([*KEYS, "body", "login", "ref", "date"]), json_values),
)
def test_readers_raise_nothing_that_their_callers_do_not_expect(
    reader: Callable[[Any], Any], value: dict[str, Any]
) -> None:
    """An unforeseen error would end a worker's job and not only one section."""
    try:
        item = reader(value)
    except (KeyError, TypeError, ValueError, AttributeError):
        return

    assert item.__dataclass_fields__
