"""The receipt of a pull request as a value: read, verified, merged and written."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metrics_sync.exceptions import DisagreementError, GoneError, MetricsSyncError, RetrySoonError
from metrics_sync.sandbox import make_recording
from metrics_sync.snapshot import (
    Known,
    Receipt,
    Section,
    SectionReceipt,
    SectionResult,
    Snapshot,
    read_pull_request,
    verify,
)
from metrics_sync.snapshot.results import Fault

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
A_DAY_AGO = NOW - timedelta(days=1)
PULL_REQUEST = read_pull_request(make_recording("acme/anvil", 7).pull, github_repo="acme/anvil")

FULL = {
    "stated": 4,
    "stored": 3,
    "result": "GitHub states 4 and lists 3",
    "reason": "1 with a time that is unknown",
    "witness": "timeline",
    "scope": "all",
    "looks": {"fault": "GitHub states 4 and lists 3", "count": 2, "since": NOW.isoformat()},
}


def make_receipt(section: Section = Section.FILES, **entry: Any) -> Receipt:
    """Make the receipt of one list, as a row has it."""
    return Receipt.from_json(
        {section.value: {"stated": 2, "stored": 2, "result": "verified"} | entry}
    )


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(FULL, id="everything"),
        pytest.param({"stated": None, "stored": 0, "result": "verified"}, id="older version"),
    ],
)
def test_stored_receipt_is_read_and_written_as_it_was(entry: dict[str, Any]) -> None:
    """Each version reads the rows of older ones, and the API shows them."""
    stored = {"commits": entry}

    assert Receipt.from_json(stored).to_json() == stored


def test_sections_of_other_versions_are_left_out() -> None:
    """A row of a newer version must not stop an older one."""
    stored = {"wiki_pages": {"stated": 1, "stored": 1, "result": "verified"}}

    assert Receipt.from_json(stored) == Receipt()


@pytest.mark.parametrize(
    ("result", "is_proven", "is_whole"),
    [
        ("verified", True, True),
        ("capped", True, True),
        ("disagreeing", True, True),
        ("outdated", False, True),
        ("unavailable", False, False),
        ("GitHub answered 502", False, False),
    ],
)
def test_result_says_whether_a_list_is_proven(result: str, is_proven: bool, is_whole: bool) -> None:
    """A retry fetches unproven lists; metrics use whole lists."""
    receipt = make_receipt(result=result)

    assert (Section.FILES in receipt.proven, Section.FILES in receipt.whole) == (
        is_proven,
        is_whole,
    )


@pytest.mark.parametrize(
    ("section", "lengths", "stated", "result", "witness"),
    [
        pytest.param(Section.COMMITS, {3}, 3, "verified", "counter", id="as many as stated"),
        pytest.param(Section.FILES, {3, 4}, 4, "verified", "counter", id="counted in two ways"),
        pytest.param(Section.CHECK_RUNS, {3}, 3, "verified", "total", id="states its own total"),
        pytest.param(Section.REVIEWS, {3}, None, "verified", "", id="no counter"),
        pytest.param(Section.COMMITS, {250}, 251, "capped", "", id="as many as GitHub lists"),
        pytest.param(Section.COMMITS, {249}, 251, "", "", id="fewer"),
        pytest.param(Section.REVIEW_COMMENTS, {3000}, 3001, "", "", id="no cap"),
        pytest.param(Section.COMMITS, {251}, 250, "", "", id="more"),
    ],
)
def test_list_is_verified_by_its_length(
    section: Section, lengths: set[int], stated: int | None, result: str, witness: str
) -> None:
    """Complete means verified, not that no exception was raised."""
    verified = verify(section, (), lengths=lengths, stated=stated)

    assert (verified.result, verified.witness) == (result, witness)
    assert isinstance(verified.error, DisagreementError) is not bool(result)


@pytest.mark.parametrize(
    ("section", "entry", "stated", "is_verified"),
    [
        pytest.param(Section.COMMITS, {}, 2, True, id="same number"),
        pytest.param(Section.COMMITS, {}, 3, False, id="counter moved"),
        pytest.param(Section.FILES, {"stored": 3}, 2, True, id="stored more, and knew why"),
        pytest.param(Section.CHECK_RUNS, {}, None, True, id="stated its own total then"),
        pytest.param(Section.CHECK_RUNS, {"stated": 3}, None, False, id="and another total"),
    ],
)
def test_unchanged_list_is_verified_by_what_is_stored(
    section: Section, entry: dict[str, Any], stated: int | None, is_verified: bool
) -> None:
    """GitHub says that the pages are unchanged, and sends no items to count."""
    stored = make_receipt(section, witness="timeline", **entry).sections[section]

    result = stored.verify_unchanged(section, stated, etags=[["/pages/1", "etag"]])

    assert (result.items, result.witness) == (None, "timeline")
    assert (result.result == "verified", result.error is None) == (is_verified, is_verified)


@pytest.mark.parametrize(
    ("entry", "stated", "is_missing"),
    [
        pytest.param({}, {}, False, id="proven, no counter"),
        pytest.param({}, {Section.FILES: 2}, False, id="proven, same number"),
        pytest.param({}, {Section.FILES: 3}, True, id="one was added"),
        pytest.param({"result": "outdated"}, {Section.FILES: 2}, True, id="proven once"),
        pytest.param({"result": "unavailable"}, {}, True, id="not for this token"),
    ],
)
def test_retry_fetches_only_what_is_missing(
    entry: dict[str, Any], stated: dict[Section, int], is_missing: bool
) -> None:
    """A needless list costs requests, and a forgotten list is lost."""
    missing = make_receipt(**entry).list_missing(stated)

    assert (Section.FILES in missing) is is_missing
    assert set(missing) | {Section.FILES} == set(Section)


def test_fetch_replaces_the_entries_of_what_it_asked_for() -> None:
    """Each page of a pull request shows this proof."""
    earlier = make_receipt(Section.COMMITS).merge({}, stored={})
    results = {
        Section.REVIEWS: SectionResult(result="verified", witness="timeline"),
        Section.FILES: SectionResult(stated=9, error=GoneError("404 Not\x00 Found")),
    }

    merged = earlier.merge(results, stored={Section.REVIEWS: 2, Section.FILES: 0})

    assert merged.to_json() == {
        "commits": {"stated": 2, "stored": 2, "result": "verified"},
        "reviews": {"stated": None, "stored": 2, "result": "verified", "witness": "timeline"},
        "files": {"stated": 9, "stored": 0, "result": "404 Not Found"},
    }


def test_only_lists_that_were_whole_are_outdated() -> None:
    """Nobody would see an error that is overwritten."""
    failed = {"stated": 2, "stored": 0, "result": "GitHub answered 502"}
    proven = {"stated": 2, "stored": 2, "result": "verified"}
    receipt = Receipt.from_json({"commits": proven, "files": failed, "reviews": proven})

    named, everything = receipt.outdate(["reviews", "files"]), receipt.outdate()

    assert named.to_json() == receipt.to_json() | {"reviews": proven | {"result": "outdated"}}
    assert everything.list_with("outdated") == ["commits", "reviews"]


@pytest.mark.parametrize(
    ("entry", "is_kept"),
    [
        pytest.param({"stored": 2}, True, id="same number of rows"),
        pytest.param({"stored": 3}, False, id="a row is gone"),
        pytest.param({"stored": 3, "result": "outdated"}, False, id="proven once"),
        pytest.param({"stored": 3, "result": "GitHub answered 502"}, True, id="never proven"),
    ],
)
def test_receipt_of_other_rows_proves_nothing(entry: dict[str, Any], is_kept: bool) -> None:
    """GitHub would answer that nothing has changed, and the lost row would stay lost."""
    stored = dict.fromkeys(Section, 2)

    assert bool(make_receipt(**entry).drop_changed(stored).sections) is is_kept


@pytest.mark.parametrize(
    ("section", "entry", "is_kept"),
    [
        pytest.param(Section.FILES, {"stated": 5, "stored": 5}, True, id="proven"),
        pytest.param(Section.FILES, {"stated": 4, "stored": 4}, False, id="one was added"),
        pytest.param(Section.FILES, {"stated": 5, "result": "outdated"}, False, id="proven once"),
        pytest.param(Section.CHECK_RUNS, {}, True, id="proven, and has no counter"),
    ],
)
def test_list_that_failed_keeps_its_proof(
    section: Section, entry: dict[str, Any], is_kept: bool
) -> None:
    """REST may have fetched a list that GraphQL does not give."""
    fetched = {
        section: SectionResult(error=GoneError("cut off")),
        Section.COMMITS: SectionResult(result="verified"),
    }
    receipt = make_receipt(section, **entry).merge(
        {
            Section.COMMITS: SectionResult(
                stated=PULL_REQUEST.stated[Section.COMMITS], result="verified"
            )
        },
        stored={Section.COMMITS: 1},
    )

    snapshot = receipt.keep_proven(Snapshot(PULL_REQUEST, fetched, etags={}))

    assert (section not in snapshot.sections) is is_kept
    assert Section.COMMITS in snapshot.sections


DISAGREES = DisagreementError("GitHub states 4 and lists 3")


@pytest.mark.parametrize(
    ("section", "error", "fault", "result", "count"),
    [
        pytest.param(Section.FILES, DISAGREES, None, "", 1, id="first time"),
        pytest.param(
            Section.FILES, DISAGREES, (str(DISAGREES), 2, A_DAY_AGO), "disagreeing", 3, id="lasting"
        ),
        pytest.param(
            Section.FILES, DISAGREES, (str(DISAGREES), 1, A_DAY_AGO), "", 2, id="only twice"
        ),
        pytest.param(
            Section.FILES, DISAGREES, (str(DISAGREES), 9, NOW), "", 10, id="less than a day"
        ),
        pytest.param(
            Section.FILES, DISAGREES, ("other numbers", 9, A_DAY_AGO), "", 1, id="another fault"
        ),
        pytest.param(
            Section.TIMELINE,
            RetrySoonError("502"),
            ("fails", 2, A_DAY_AGO),
            "unavailable",
            3,
            id="optional list that always fails",
        ),
        pytest.param(
            Section.FILES,
            RetrySoonError("502"),
            ("fails", 2, A_DAY_AGO),
            "",
            None,
            id="list that must come",
        ),
        pytest.param(Section.FILES, None, (str(DISAGREES), 9, A_DAY_AGO), "", None, id="no error"),
    ],
)
def test_fault_that_lasts_is_accepted(
    section: Section,
    error: MetricsSyncError | None,
    fault: tuple[str, int, datetime] | None,
    result: str,
    count: int | None,
) -> None:
    """Some counters of GitHub stay wrong; a fetch must neither try for ever nor give up early."""
    entry = SectionReceipt(4, 3, "", fault=Fault(*fault) if fault else None)
    results = {section: SectionResult(stated=4, error=error)}

    accepted = Receipt({section: entry}).accept_lasting_faults(results, now=NOW)[section]

    assert (accepted.result, accepted.error is None) == (result, bool(result) or error is None)
    assert (accepted.fault and accepted.fault.count) == count


def test_nothing_is_known_of_a_new_pull_request() -> None:
    """Everything is fetched, and no number is refused."""
    known = Known()

    assert known.receipt.list_missing({}) == list(Section)
    assert replace(known, github_pr_id=1) != known
