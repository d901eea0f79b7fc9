"""What each metric is called on the dashboard, what it says, and in which unit."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from metrics_sync.admin.changes import LARGER, LONGER, MORE_ROUNDS, Words
from metrics_sync.admin.labels import UNKNOWN, show_hours, show_in_one_unit, to_duration


def show_share(share: float | None) -> str:
    # Rounded down: 100 % says that not one was late.
    return UNKNOWN if share is None else f"{int(share * 1000) / 10:g} %"


def show_number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"


@dataclass(frozen=True, slots=True)
class Definition:
    """`text` is the formula of docs/metrics.md as a sentence."""

    title: str
    text: str
    unit: str = "hours"
    words: Words = LONGER

    @property
    def show(self) -> Callable[[Any], str]:
        return show_hours if self.is_duration else show_number

    @property
    def is_duration(self) -> bool:
        return self.unit == "hours"

    def show_column(self, values: Iterable[Any]) -> list[str]:
        """Show values that stand in one column: durations in one unit."""
        if self.is_duration:
            return show_in_one_unit([to_duration(value) for value in values])
        return [show_number(value) for value in values]

    @property
    def is_whole(self) -> bool:
        return self.unit != "hours"


DEFINITIONS = {
    "review_wait_hours": Definition(
        "Time to first review",
        "Time in which it was ready, until the first review by another person.",
    ),
    "avg_fix_response_hours": Definition(
        "Time to answer requests",
        "Mean time from a request for changes to the commit that answers it.",
    ),
    "review_rounds": Definition(
        "Review rounds",
        "How often requested changes were answered with commits, where somebody reviewed.",
        "rounds",
        MORE_ROUNDS,
    ),
    "cycle_time_hours": Definition("Cycle time", "Time from the opening to the merge."),
    "first_response_hours": Definition(
        "Time to first response",
        "Time in which it was ready, until the first review or comment by another person.",
    ),
    "first_approval_hours": Definition(
        "Time to first approval", "Time in which it was ready, until the first approval."
    ),
    "approval_to_merge_hours": Definition(
        "Approval to merge", "Time from the approval that stood at the merge to the merge."
    ),
    "last_commit_to_merge_hours": Definition(
        "Last commit to merge", "Time that the finished change waited."
    ),
    "coding_hours": Definition(
        "Coding time",
        "Time from the first commit to the opening.",
        words=Words("longer", "shorter"),
    ),
    "draft_hours": Definition(
        "Time as a draft",
        "Time between opening and merge in which it was not ready.",
        words=Words("longer", "shorter"),
    ),
    "ci_duration_hours": Definition("CI duration", "Time in which at least one check was running."),
    "changed_lines": Definition("Size", "Lines added and deleted.", "lines", LARGER),
    "reviewer_count": Definition(
        "Reviewers", "People with a review, where somebody reviewed.", "people", Words()
    ),
    "changes_requested_count": Definition(
        "Requests for changes",
        "Reviews that requested changes, where somebody reviewed.",
        "reviews",
        MORE_ROUNDS,
    ),
    "commits_after_first_review": Definition(
        "Commits after the first review",
        "Commits that the first reviewer had not seen.",
        "commits",
        Words(),
    ),
    "human_comments": Definition(
        "Comments", "Comments and texts of reviews, by people.", "comments", Words()
    ),
}
