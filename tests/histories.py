"""Histories of pull requests as compact text: `hour who what`, one a line or before each `;`.

    1 author pushes a        the commit a, committed at that hour (in the order of history)
    0 author wrote a         a was first authored then
    3 author updates m       m merges the base, as the button "Update branch" does
    3 author joins m x       m merges the commit x, which the pull request lists, too
    3 author -a              a force push without the commit a
    1 author requests ann    ann is asked to review
    2 ann asks a             a review that requests changes, of the commit a
    2 ann approves a         likewise; also `comments a` and `starts a` (a pending review)
    2 ann explains a         a review with a text of its own
    2 ann remarks            a comment in the conversation or on the diff
    2 ann dismisses ann      ann's last review was dismissed, as the timeline reported
    2 ann forgets ann        the same, but its time and its former state are unknown
    3 author readies         ready for review; also `drafts`
    4 ci passes 1            a check that ended then and had started at hour 1; also `fails`
    4 ci ends stale 1        one with that conclusion; `?` is an unknown start
    4 ci runs                a check that started then and has not ended
    4 ci sets success        a legacy status
    9 ann merges

`author` and the people have ids; `ghost` has none; names that end in `[bot]`, `robot` (a bot by
GitHub's word) and `nightly` (one by the team's list) are bots. `test@actions` is the check `test`
of the app `actions`.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from metrics_sync.metrics import Check, Comment, Commit, Event, History, Review
from metrics_sync.metrics.history import BotRule

OPENED_AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AUTHOR_ID = 1
REVIEWS = {
    "asks": "changes_requested",
    "approves": "approved",
    "comments": "commented",
    "explains": "commented",
    "starts": "pending",
}
EVENTS = {
    "readies": "ready_for_review",
    "drafts": "convert_to_draft",
    "requests": "review_requested",
}
ENDS = {"passes": "success", "fails": "failure"}
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
    merged_at = merged_by_id = None
    for line in filter(str.strip, text.replace(";", "\n").splitlines()):
        when, who, what, *rest = line.split()
        at, person, rule = hour(float(when)), find_id(who), find_bot_rule(who)
        if what == "pushes" or what.startswith("-"):
            commits = [commit for commit in commits if commit.sha != what[1:]]
            commits += [Commit(sha, at, 0, at, [], bot_rule=rule) for sha in rest]
        elif what in ("updates", "joins"):
            parents = [commits[-1].sha, *(rest[1:] or ["main"])]
            commits.append(Commit(rest[0], at, 0, at, parents, bot_rule=rule))
        elif what == "wrote":
            commits = [replace(c, authored_at=at) if c.sha == rest[0] else c for c in commits]
        elif what in REVIEWS:
            review = Review(
                submitted_at=None if what == "starts" else at,
                state=REVIEWS[what],
                reviewer_id=person,
                commit_sha="".join(rest),
                bot_rule=rule,
                login=who,
                has_body=what == "explains",
            )
            reviews.setdefault(who, []).append(review)
        elif what in ("dismisses", "forgets"):
            _dismiss(reviews[rest[0]], at=at if what == "dismisses" else None)
        elif what == "remarks":
            comments.append(Comment(at, person, rule))
        elif what in EVENTS:
            events.append(Event(EVENTS[what], at, "".join(rest)))
        elif what == "merges":
            merged_at, merged_by_id = at, person
        else:
            checks.append(_read_check(at, who, what, rest, number=len(checks)))
    return History(
        created_at=OPENED_AT,
        merged_at=merged_at,
        author_id=AUTHOR_ID,
        commits=[replace(commit, position=n) for n, commit in enumerate(commits)],
        reviews=[review for theirs in reviews.values() for review in theirs],
        comments=comments,
        events=events,
        checks=checks,
        merged_by_id=merged_by_id,
    )


def _read_check(at: datetime, who: str, what: str, rest: list[str], *, number: int) -> Check:
    name, _, app = who.partition("@")
    if what == "sets":
        state = "" if rest[0] == "pending" else rest[0]
        return Check(state, ended_at=at, name=name, github_id=number, is_status=True)
    if what == "runs":
        return Check("", started_at=at, name=name, app=app, github_id=number)
    if what != "ends" and what not in ENDS:
        raise ValueError(f"nobody {what}: {who}")
    conclusion = rest[0] if what == "ends" else ENDS[what]
    started_at = None if rest[-1] == "?" else hour(float(rest[-1]))
    return Check(conclusion, started_at, at, name, app, number)


def _dismiss(reviews: list[Review], *, at: datetime | None) -> None:
    """Dismiss the last of the reviews; without a time its former state is unknown, too."""
    last = reviews.pop()
    state = "dismissed" if at is None else last.state
    reviews.append(replace(last, state=state, was_dismissed=True, dismissed_at=at))
