"""What becomes of a pull request when a fetch of it has ended: a table of values, no database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metrics_sync.exceptions import (
    CredentialRejectedError,
    DisagreementError,
    GoneError,
    NumberReusedError,
    RateLimitedError,
    RefusedByDatabaseError,
    RetrySoonError,
)
from metrics_sync.models import PullRequest
from metrics_sync.models.transitions import LATE_COMMENTS, Outcome, decide

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
RESET = NOW + timedelta(minutes=40)
HELD = {"files": {"stated": 2, "stored": 2, "result": "verified"}}

BAD_GATEWAY = {"reviews": RetrySoonError("GitHub answered 502")}
DOWN = {"pull_request": RetrySoonError("GitHub answered 502")}
LIMITED = {"reviews": RateLimitedError("wait", until=RESET)}
REFUSED = {"pull_request": CredentialRejectedError("401")}
GONE = {"pull_request": GoneError("404")}
DISAGREEING = {"files": DisagreementError("GitHub states 2 and lists 1")}
OURS = {"fetch": ValueError("a fault of ours")}
TOO_LONG = {"files": RefusedByDatabaseError("the database refuses it")}


def make_row(**values: Any) -> PullRequest:
    """Make a merged row that no database has."""
    return PullRequest(state="merged", merged_at=NOW - timedelta(hours=2), **values)


@pytest.mark.parametrize(
    ("errors", "receipt", "retries_left", "status", "result"),
    [
        pytest.param({}, HELD, 3, "complete", "complete", id="everything came"),
        pytest.param({}, HELD, None, "complete", "complete", id="everything came, no job"),
        pytest.param(DOWN, {}, 3, "queued", "failed", id="nothing came, RQ tries again"),
        pytest.param(DOWN, {}, 0, "failed", "failed", id="nothing came, retries used up"),
        pytest.param(DOWN, {}, None, "failed", "failed", id="nothing came, no job"),
        pytest.param(BAD_GATEWAY, HELD, 3, "partial", "partial", id="some came, RQ tries again"),
        pytest.param(BAD_GATEWAY, HELD, 0, "partial", "partial", id="some came"),
        pytest.param(LIMITED, HELD, 0, "queued", "partial", id="job waits for the limit"),
        pytest.param(LIMITED, HELD, None, "partial", "partial", id="limit, no job"),
        pytest.param(REFUSED, {}, 3, "failed", "failed", id="refused token"),
        pytest.param(GONE, {}, 3, "failed", "failed", id="gone for good"),
        pytest.param(OURS, {}, 3, "queued", "failed", id="fault of our own, RQ tries again"),
        pytest.param(OURS, HELD, 0, "partial", "partial", id="fault of our own, retries used up"),
        pytest.param(TOO_LONG, HELD, 3, "partial", "partial", id="value that cannot be stored"),
    ],
)
def test_row_goes_where_somebody_will_take_it_up(
    errors: dict[str, Exception],
    receipt: dict[str, Any],
    retries_left: int | None,
    status: str,
    result: str,
) -> None:
    """A row that waits for a job that never comes is lost, and one of two jobs is fetched twice."""
    row = make_row(receipt=receipt)

    transition = decide(row, Outcome(errors=errors), retries_left=retries_left, now=NOW)

    assert (transition.to, transition.result) == (status, result)


@pytest.mark.parametrize(
    ("errors", "before", "made_progress", "retries_left", "after", "minutes"),
    [
        pytest.param(DOWN, 0, False, 0, 1, 5, id="first"),
        pytest.param(DOWN, 3, False, 0, 4, 40, id="fourth"),
        pytest.param(DOWN, 90, False, 0, 91, 1440, id="a day at most"),
        pytest.param(BAD_GATEWAY, 6, True, 0, 1, 5, id="progress ends the row of failures"),
        pytest.param(BAD_GATEWAY, 2, False, 3, 2, 10, id="a retry of RQ is none"),
        pytest.param(LIMITED, 2, False, None, 2, 40, id="a wait is none"),
        pytest.param(TOO_LONG, 0, False, 3, 1, 5, id="what no retry mends"),
    ],
)
def test_failures_in_a_row_say_how_long_to_wait(
    errors: dict[str, Exception],
    before: int,
    made_progress: bool,
    retries_left: int | None,
    after: int,
    minutes: int,
) -> None:
    """Waits for a limit counted once, and one 502 after six of them cost five hours."""
    outcome = Outcome(errors=errors, made_progress=made_progress)
    row = make_row(receipt=HELD, failures=before, sync_attempts=50)

    changes = decide(row, outcome, retries_left=retries_left, now=NOW).changes

    assert changes["failures"] == after
    assert changes["retry_at"] == NOW + timedelta(minutes=minutes)


@pytest.mark.parametrize("errors", [LIMITED, DOWN | LIMITED])
def test_wait_for_a_limit_changes_nothing_but_the_reason(errors: dict[str, Exception]) -> None:
    """It is neither a failure nor a success."""
    row = make_row(receipt=HELD, failures=2)

    transition = decide(row, Outcome(errors=errors), retries_left=3, now=NOW)

    assert (transition.to, list(transition.changes)) == ("queued", ["sync_error"])


def test_refused_token_is_no_failure_of_the_row() -> None:
    """A new one must find it ready to be fetched."""
    changes = decide(make_row(failures=2), Outcome(errors=REFUSED), retries_left=3, now=NOW).changes

    assert (changes["retry_at"], changes["failures"]) == (None, 2)


@pytest.mark.parametrize(
    ("errors", "may_pass"),
    [
        pytest.param(DOWN, True, id="GitHub did not answer"),
        pytest.param(GONE, False, id="GitHub said no"),
        pytest.param(DISAGREEING, False, id="GitHub's lists do not agree"),
        pytest.param(TOO_LONG, False, id="our database said no"),
    ],
)
def test_fault_that_may_pass_is_marked(errors: dict[str, Exception], may_pass: bool) -> None:
    """The first answer after an outage releases these rows, and no others."""
    transition = decide(make_row(), Outcome(errors=errors), retries_left=0, now=NOW)

    assert transition.changes["fault_may_pass"] is may_pass


def test_complete_ends_all_that_was_wrong() -> None:
    """An old reason, or an old count, would be believed."""
    row = make_row(failures=4, fault_may_pass=True)

    changes = decide(row, Outcome(), retries_left=3, now=NOW).changes

    assert (changes["failures"], changes["fault_may_pass"], changes["sync_error"]) == (0, False, "")


@pytest.mark.parametrize(
    ("reported", "refetch_at"),
    [
        pytest.param(None, NOW - timedelta(hours=2) + LATE_COMMENTS, id="nothing came meanwhile"),
        pytest.param(NOW, NOW, id="a comment came meanwhile"),
    ],
)
def test_change_during_the_run_is_looked_at_soon(
    reported: datetime | None, refetch_at: datetime
) -> None:
    """A comment that came while we fetched must be looked at, and not in a day."""
    row = make_row(refetch_at=reported)

    transition = decide(row, Outcome(), retries_left=None, now=NOW)

    assert transition.changes["refetch_at"] == refetch_at


def test_number_of_another_pull_request_is_forgotten() -> None:
    """Nothing of the other one may be taken for this one's."""
    errors = {"pull_request": NumberReusedError("another one")}

    changes = decide(make_row(), Outcome(errors=errors), retries_left=3, now=NOW).changes

    assert (changes["github_pr_number"], changes["etags"]) == (None, {})


def test_reason_is_fit_for_the_database() -> None:
    """A NUL in GitHub's message would cost the row its reason, and the run its end."""
    errors = {"pull_request": GoneError("a\x00b\ud800")}

    changes = decide(make_row(), Outcome(errors=errors), retries_left=3, now=NOW).changes

    assert changes["sync_error"] == "pull_request: ab?"
