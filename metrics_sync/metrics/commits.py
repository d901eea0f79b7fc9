"""Which commits came after the first review; pure."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from metrics_sync.metrics.history import Commit, Review


class Basis(StrEnum):
    """How the commits after the first review were told."""

    #: The reviewed commit is in the list: what stands behind it is new.
    REVIEWED_COMMIT = "reviewed commit"
    #: A force push removed it: what was committed later is new.
    COMMITTER_DATE = "committer date"
    #: Nobody reviewed.
    NO_REVIEW = "no review"


def measure_commits_after(
    commits: Sequence[Commit], reviews: Sequence[tuple[datetime, Review]]
) -> tuple[int, Basis]:
    """Count the commits that the first reviewer had not seen, and say how they were told.

    Where the reviewed commit is still in the list, those behind it: dates lie there, because a
    commit made before the review and pushed after it looks old, and clocks disagree. This errs
    when a review was begun on one commit and submitted after the next was pushed: GitHub names
    the former.

    Where a force push removed the reviewed commit, those with a later committer's date: a rebase
    gives every commit a new one. This errs by counting rebased commits whose content the
    reviewer had seen, and by missing commits that were made earlier and pushed later.

    Of several first reviews at one time the one that saw most decides.
    """
    if not reviews:
        return 0, Basis.NO_REVIEW
    first_at = min(at for at, _ in reviews)
    seen = {review.commit_sha for at, review in reviews if at == first_at}
    reviewed = [commit.position for commit in commits if commit.sha in seen]
    if reviewed:
        return sum(commit.position > max(reviewed) for commit in commits), Basis.REVIEWED_COMMIT
    later = [c for c in commits if c.committed_at is not None and c.committed_at > first_at]
    return len(later), Basis.COMMITTER_DATE
