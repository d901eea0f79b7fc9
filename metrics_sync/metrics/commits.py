"""Which commits count, which came after the first review, and which answer a request; pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from statistics import fmean

from metrics_sync.metrics.history import Commit, Review
from metrics_sync.metrics.hours import measure_hours, to_hours
from metrics_sync.metrics.people import Exclusions, count_bot


class Basis(StrEnum):
    """How the commits after the first review were identified."""

    #: The reviewed commit is in the list: the commits after it are new.
    REVIEWED_COMMIT = "reviewed commit"
    #: A force push removed it: commits with a later date are new.
    COMMITTER_DATE = "committer date"
    #: Nobody reviewed.
    NO_REVIEW = "no review"


@dataclass(frozen=True, slots=True)
class Answer:
    """The first commit after a request for changes; `at` is None where its time is not known.

    `is_corrected` says that the commit's clock contradicts the order of history or the merge.
    """

    sha: str
    asked_at: datetime
    at: datetime | None
    is_corrected: bool = False


def select_commits(commits: Sequence[Commit], *, excluded: Exclusions) -> list[Commit]:
    """Keep the commits by people, without merges of the base, in the order of history.

    Counts the others into `excluded`.
    """
    shas = {commit.sha for commit in commits}
    counted = []
    for commit in sorted(commits, key=lambda commit: commit.position):
        if _is_merge_of_base(commit, shas):
            excluded.merge_commits += 1
        elif commit.bot_rule is not None:
            count_bot(excluded.bot_commits, commit.bot_rule)
        else:
            counted.append(commit)
    return counted


def _is_merge_of_base(commit: Commit, shas: set[str]) -> bool:
    """Whether a merge brought in commits that the pull request does not list.

    Those are the base's; a merge of a branch whose commits are listed is work of its own.
    """
    if commit.parents is None:
        return commit.is_merge_by_message
    return any(parent not in shas for parent in commit.parents[1:])


def measure_commits_after(
    counted: Sequence[Commit],
    commits: Iterable[Commit],
    reviews: Sequence[tuple[datetime, Review]],
) -> tuple[int, Basis]:
    """Count the commits that the first reviewer had not seen, and say how they were identified.

    If the reviewed commit is still in the list, these are the commits after it. Dates would
    mislead: a commit made before the review and pushed after it looks old, and clocks disagree.
    This errs when a review was begun on one commit and submitted after the next was pushed: GitHub
    names the former.

    If a force push removed the reviewed commit, these are the commits with a later committer's
    date: a rebase gives every commit a new one. This errs by counting rebased commits whose content
    the reviewer had seen, and by missing commits that were made earlier and pushed later.

    If several first reviews have the same time, the one that saw the most commits decides.
    """
    if not reviews:
        return 0, Basis.NO_REVIEW
    first_at = min(at for at, _ in reviews)
    seen = {review.commit_sha for at, review in reviews if at == first_at}
    reviewed = [commit.position for commit in commits if commit.sha in seen]
    if reviewed:
        return sum(commit.position > max(reviewed) for commit in counted), Basis.REVIEWED_COMMIT
    later = [c for c in counted if c.committed_at is not None and c.committed_at > first_at]
    return len(later), Basis.COMMITTER_DATE


def find_answers(
    requests: Iterable[tuple[datetime, Review]],
    counted: Sequence[Commit],
    commits: Iterable[Commit],
    *,
    merged_at: datetime | None,
) -> list[Answer]:
    """Find the first answer to each request that has one.

    If the reviewed commit is in the list, the answer is the first commit after it, whatever its
    date; else it is the first commit with a committer's date after the request.
    """
    positions = {commit.sha: commit.position for commit in commits}
    answers = []
    for asked_at, review in requests:
        reviewed = positions.get(review.commit_sha)
        if reviewed is not None:
            behind = [commit for commit in counted if commit.position > reviewed]
            answer = behind[0] if behind else None
        else:
            later = [c for c in counted if c.committed_at and c.committed_at > asked_at]
            answer = min(later, key=lambda c: (c.committed_at, c.position), default=None)
        if answer is not None:
            answers.append(_make_answer(answer, asked_at, merged_at))
    return answers


def _make_answer(commit: Commit, asked_at: datetime, merged_at: datetime | None) -> Answer:
    if commit.committed_at is None:
        return Answer(commit.sha, asked_at, None)
    at = max(commit.committed_at, asked_at)
    if merged_at is not None:
        at = min(at, merged_at)
    is_corrected = commit.committed_at <= asked_at or at < commit.committed_at
    return Answer(commit.sha, asked_at, at, is_corrected)


def measure_review_rounds(answers: Iterable[Answer]) -> int:
    """Count how often requested changes were answered: requests with one answer are one round."""
    return len({answer.sha for answer in answers})


def measure_fix_response(answers: Iterable[Answer]) -> Decimal | None:
    """Average the hours from a request for changes to its answer; None without any."""
    waits = [(answer.at - answer.asked_at).total_seconds() for answer in answers if answer.at]
    return to_hours(timedelta(seconds=fmean(waits))) if waits else None


def measure_coding(counted: Iterable[Commit], created_at: datetime | None) -> Decimal | None:
    """Return the hours from the first authored commit to the opening."""
    authored = [commit.authored_at for commit in counted if commit.authored_at is not None]
    return measure_hours(min(authored), created_at) if authored else None


def measure_last_commit(
    counted: Sequence[Commit], *, created_at: datetime | None, merged_at: datetime | None
) -> Decimal | None:
    """Return the hours from the last commit to the merge, or from the opening if that is later."""
    dated = [commit.committed_at for commit in counted if commit.committed_at is not None]
    if not dated or created_at is None:
        return None
    return measure_hours(max(dated[-1], created_at), merged_at)
