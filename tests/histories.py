"""Histories of pull requests as compact text: `hour who what`, one a line or before each `;`.

    1 author pushes a        the commit a, committed at that hour (in the order of history)
    2 ann asks a             a review that requests changes, of the commit a
    2 ann approves a         likewise; also `comments a` and `starts a` (a pending review)
    2 ann remarks            a comment in the conversation or on the diff
    2 ann dismisses ann      ann's request for changes was dismissed, which the timeline told
    2 ann forgets ann        the same, but nobody told what it had been
    3 author readies         ready for review; also `drafts`
    4 ci passes 1            a check that ended then and had started at hour 1; also `fails`
    4 ci runs                a check that has not ended
    9 ann merges

Lines of a history that begin with `-` took back a commit: `3 author -a` is a force push without
it. `author` and the people have ids; `ghost` has none; names that end in `[bot]`, `robot` (a bot
by GitHub's word) and `nightly` (one by the team's list) are bots.
"""

from datetime import UTC, datetime, timedelta

from metrics_sync.metrics import Check, Comment, Commit, Event, History, Review
from metrics_sync.metrics.history import BotRule

OPENED_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AUTHOR_ID = 1
REVIEWS = {
    "asks": "changes_requested",
    "approves": "approved",
    "comments": "commented",
    "starts": "pending",
}
EVENTS = {"readies": "ready_for_review", "drafts": "convert_to_draft"}
CHECKS = {"passes": "success", "fails": "failure", "runs": ""}
BOTS = {"robot": BotRule.TYPE, "nightly": BotRule.TEAM}


def hour(count: float) -> datetime:
    """Return the moment so many hours after the pull request was opened."""
    return OPENED_AT + timedelta(hours=count)


def find_id(name: str) -> int | None:
    if name == "ghost":
        return None
    return AUTHOR_ID if name == "author" else 1 + sum(name.encode())


def find_bot_rule(name: str) -> BotRule | None:
    return BotRule.SUFFIX if name.endswith("[bot]") else BOTS.get(name)


def tell(text: str) -> History:
    """Read a history; raises ValueError for a line that it does not understand."""
    commits: list[Commit] = []
    reviews: dict[str, list[Review]] = {}
    comments, events, checks = list[Comment](), list[Event](), list[Check]()
    merged_at = None
    for line in filter(str.strip, text.replace(";", "\n").splitlines()):
        when, who, what, *rest = line.split()
        at, person, rule = hour(float(when)), find_id(who), find_bot_rule(who)
        if what == "pushes" or what.startswith("-"):
            commits = [commit for commit in commits if commit.sha != what[1:]]
            commits += [Commit(sha, at, 0) for sha in rest]
        elif what in REVIEWS:
            submitted_at = None if what == "starts" else at
            review = Review(submitted_at, REVIEWS[what], person, "".join(rest), rule)
            reviews.setdefault(who, []).append(review)
        elif what in ("dismisses", "forgets"):
            _dismiss(reviews[rest[0]], is_known=what == "dismisses")
        elif what == "remarks":
            comments.append(Comment(at, person, rule))
        elif what in EVENTS:
            events.append(Event(EVENTS[what], at))
        elif what in ("passes", "fails"):
            checks.append(
                Check({"passes": "success"}.get(what, "failure"), hour(float(rest[0])), at)
            )
        elif what == "runs":
            checks.append(Check("", at))
        elif what == "merges":
            merged_at = at
        else:
            raise ValueError(f"nobody {what}: {line}")
    return History(
        created_at=OPENED_AT,
        merged_at=merged_at,
        author_id=AUTHOR_ID,
        commits=[Commit(c.sha, c.committed_at, n) for n, c in enumerate(commits)],
        reviews=[review for theirs in reviews.values() for review in theirs],
        comments=comments,
        events=events,
        checks=checks,
    )


def _read_check(what: str, at: datetime, started: str = "") -> Check:
    if what == "runs":
        return Check("", started_at=at)
    return Check(CHECKS[what], started_at=hour(float(started)), ended_at=at)


def _dismiss(reviews: list[Review], *, is_known: bool) -> None:
    last = reviews.pop()
    state = last.state if is_known else "dismissed"
    reviews.append(
        Review(last.submitted_at, state, last.reviewer_id, last.commit_sha, last.bot_rule, True)
    )
