"""Reads GitHub's JSON as values.

The readers accept what real payloads hold, not only what the schema promises: accounts that are
null or an empty object, missing keys, null texts, states in upper or lower case.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from metrics_sync.names import RepositoryName
from metrics_sync.snapshot.items import (
    COUNTERS,
    Account,
    CheckRunItem,
    CommentItem,
    CommitItem,
    CommitStatusItem,
    FileItem,
    Item,
    Json,
    PullRequestItem,
    RepositoryItem,
    ReviewItem,
    Section,
    TimelineItem,
    get_key,
)

#: What the readers raise for JSON that is not as GitHub writes it.
UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)

#: The first year that a time of a pull request can be in.
FIRST_YEAR = 1970

#: The account that GitHub shows in place of every deleted account, where it does not say null.
GHOST_ID = 10137
GHOST = "ghost"

#: The address that GitHub gives the commits of a bot: the account's id, and its login.
#: https://docs.github.com/en/account-and-profile/reference/email-addresses-reference
BOT_ADDRESS = re.compile(r"(?P<id>\d+)\+(?P<login>[^@]+\[bot\])@users\.noreply\.", re.IGNORECASE)

#: The events of the timeline that show how a pull request was reviewed.
#: https://docs.github.com/en/rest/using-the-rest-api/issue-event-types
TIMELINE_EVENTS = {
    "ready_for_review",
    "convert_to_draft",
    "head_ref_force_pushed",
    "review_dismissed",
    "review_requested",
}

#: How JSON writes characters that PostgreSQL cannot store: NUL and unpaired surrogates.
ODD = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])|\xed[\xa0-\xbf]")


def clean_json(value: Any, *, source: bytes) -> Any:
    """Apply `read_text` to every text in a value that was read from JSON."""
    return _clean(value) if ODD.search(source) else value


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return read_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {read_text(key): _clean(item) for key, item in value.items()}
    return value


def read_text(value: str | None) -> str:
    """Return the text as PostgreSQL can store it: no NUL, no unpaired surrogate; null is empty."""
    text = (value or "").replace("\x00", "")
    return text if text.isascii() else text.encode(errors="replace").decode()


def read_time(value: Any) -> datetime | None:
    """Return a time in UTC; old payloads have other offsets, or none.

    None for anything that is no time, and for years that programs write when they know no time
    (1, or any before 1970).
    """
    try:
        moment = datetime.fromisoformat(value)
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if moment.year >= FIRST_YEAR else None


def _require_time(value: Any) -> datetime:
    """Return a time that an item cannot be without. Raises ValueError."""
    moment = read_time(value)
    if moment is None:
        raise ValueError(f"no time: {value!r}")
    return moment


def read_count(value: Any) -> int | None:
    """Return a count, if an integer column can store it; None for anything else."""
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def read_account(value: Json | None) -> Account | None:
    """Return the account; None when it is deleted, null, or the empty object of unknown e-mails.

    An account is a bot by its `type` or by a login that ends in `[bot]`: the same app can appear
    with either.
    """
    if not value or not value.get("id") or value["id"] == GHOST_ID:
        return None
    login = read_login(value)
    return Account(
        github_id=value["id"],
        login=login,
        is_bot=value.get("type") == "Bot" or login.endswith("[bot]"),
    )


def read_login(value: Json | None) -> str:
    """Return the login; a deleted account is the ghost, which GitHub may also write as null."""
    return GHOST if value is None else read_text(value.get("login"))


def _read_name(value: object) -> str:
    """Return the name of a repository; empty if it is not safe to use in an address."""
    try:
        return RepositoryName(value)
    except ValueError:
        return ""


def read_repository(value: Json) -> RepositoryItem:
    return RepositoryItem(
        github_repo_id=value["id"],
        full_name=RepositoryName(value["full_name"]),
        is_private=bool(value.get("private")),
    )


def read_commit(value: Json) -> CommitItem:
    commit = value.get("commit") or {}
    git_author, parents = commit.get("author") or {}, value.get("parents")
    # Null here means that the e-mail address belongs to no account.
    account = value.get("author") or read_bot(git_author) or {}
    return CommitItem(
        github_sha=value["sha"],
        message=read_text(commit.get("message")),
        author=read_account(account),
        author_login=read_login(account),
        authored_at=read_time(git_author.get("date")),
        committed_at=read_time((commit.get("committer") or {}).get("date")),
        parents=None if parents is None else tuple(parent["sha"] for parent in parents),
    )


def read_bot(git_author: Json) -> Json | None:
    """Read the account of a bot from the address that GitHub gives it, or from the author's name.

    A name that ends in `[bot]` gives no id.
    """
    if bot := BOT_ADDRESS.match(git_author.get("email") or ""):
        return {"id": int(bot["id"]), "login": bot["login"], "type": "Bot"}
    name = git_author.get("name") or ""
    return {"login": name} if name.endswith("[bot]") else None


def read_file(value: Json) -> FileItem:
    return FileItem(
        filename=read_text(value["filename"]),
        previous_filename=read_text(value.get("previous_filename")),
        status=read_text(value.get("status")).lower(),
        additions=value.get("additions") or 0,
        deletions=value.get("deletions") or 0,
        changes=value.get("changes") or 0,
    )


def read_check_run(value: Json) -> CheckRunItem:
    return CheckRunItem(
        github_check_run_id=value["id"],
        name=read_text(value.get("name")),
        app_slug=read_text((value.get("app") or {}).get("slug")),
        status=read_text(value.get("status")).lower(),
        conclusion=read_text(value.get("conclusion")).lower(),
        started_at=read_time(value.get("started_at")),
        completed_at=read_time(value.get("completed_at")),
    )


def _read_comment(value: Json, *, comment_type: str) -> CommentItem:
    created_at = _require_time(value["created_at"])
    is_of_file = comment_type == "review" and value.get("subject_type") == "file"
    return CommentItem(
        github_comment_id=value["id"],
        comment_type=comment_type,
        author=read_account(value.get("user")),
        author_login=read_login(value.get("user")),
        body=read_text(value.get("body")),
        path=read_text(value.get("path")),
        # A comment on a whole file has no line, though GitHub may say the first.
        line=None if is_of_file else value.get("line"),
        in_reply_to_id=value.get("in_reply_to_id"),
        created_at=created_at,
        updated_at=read_time(value.get("updated_at")) or created_at,
    )


def read_issue_comment(value: Json) -> CommentItem:
    return _read_comment(value, comment_type="issue")


def read_review_comment(value: Json) -> CommentItem:
    return _read_comment(value, comment_type="review")


def read_review(value: Json) -> ReviewItem:
    return ReviewItem(
        github_review_id=value["id"],
        reviewer=read_account(value.get("user")),
        reviewer_login=read_login(value.get("user")),
        state=read_text(value.get("state")).lower(),
        body=read_text(value.get("body")),
        commit_sha=read_text(value.get("commit_id")),
        submitted_at=read_time(value.get("submitted_at")),
    )


def read_timeline_event(value: Json) -> TimelineItem:
    asked, team = value.get("requested_reviewer") or {}, value.get("requested_team") or {}
    dismissed = value.get("dismissed_review") or {}
    return TimelineItem(
        github_event_id=value["id"],
        event=value["event"],
        actor=read_account(value.get("actor")),
        actor_login=read_login(value.get("actor")),
        created_at=_require_time(value["created_at"]),
        subject_login=read_text(asked.get("login") or team.get("slug")),
        dismissed_review_id=dismissed.get("review_id"),
        dismissed_state=read_text(dismissed.get("state")).lower(),
        subject_github_id=asked.get("id"),
    )


def read_commit_status(value: Json) -> CommitStatusItem:
    created_at = _require_time(value["created_at"])
    return CommitStatusItem(
        github_status_id=value["id"],
        context=read_text(value["context"]),
        state=read_text(value["state"]).lower(),
        created_at=created_at,
        updated_at=read_time(value.get("updated_at")) or created_at,
    )


READERS: dict[Section, Callable[[Json], Item]] = {
    Section.COMMITS: read_commit,
    Section.FILES: read_file,
    Section.CHECK_RUNS: read_check_run,
    Section.ISSUE_COMMENTS: read_issue_comment,
    Section.REVIEW_COMMENTS: read_review_comment,
    Section.REVIEWS: read_review,
    Section.TIMELINE: read_timeline_event,
    Section.COMMIT_STATUSES: read_commit_status,
}

#: The paths of the times that an item of a section can be without.
TIMES: dict[Section, Sequence[Sequence[str]]] = {
    Section.COMMITS: (("commit", "author", "date"), ("commit", "committer", "date")),
    Section.CHECK_RUNS: (("started_at",), ("completed_at",)),
    Section.ISSUE_COMMENTS: (("updated_at",),),
    Section.REVIEW_COMMENTS: (("updated_at",),),
    Section.REVIEWS: (("submitted_at",),),
    Section.COMMIT_STATUSES: (("updated_at",),),
}


def read_items(section: Section, values: Sequence[Json]) -> tuple[Item, ...]:
    """Read the items of a section, each once: pages shift when an item is added meanwhile.

    Raises KeyError, TypeError, ValueError or AttributeError for what is not such an item.
    """
    if section is Section.TIMELINE:
        values = [value for value in values if value["event"] in TIMELINE_EVENTS]
    items = {get_key(section, item): item for item in map(READERS[section], values)}
    return tuple(
        replace(item, position=n) if isinstance(item, CommitItem) else item
        for n, item in enumerate(items.values())
    )


def describe_unknown_times(section: Section, values: Sequence[Json]) -> str:
    """Say how many items have a time that cannot be read; empty if every time can."""
    paths = TIMES.get(section, ())
    count = sum(any(_is_unknown(value, path) for path in paths) for value in values)
    return f"{count} with a time that is unknown" if count else ""


def _is_unknown(value: Any, path: Sequence[str]) -> bool:
    for name in path:
        value = (value or {}).get(name)
    return bool(value) and read_time(value) is None


def _names_merger(value: Json) -> bool:
    """Whether a pull request says who merged it; lists do not, and open ones have nobody."""
    return bool(value.get("merged_at")) and "merged_by" in value


def read_review_requests(value: Json) -> dict[str, Any] | None:
    """Return who is asked for a review, without bots; None where the answer does not say.

    `as_of` is when the pull request was last changed. GitHub takes everybody off its list who has
    reviewed, and puts them on it again who are asked again.
    """
    people, teams = value.get("requested_reviewers"), value.get("requested_teams")
    if not isinstance(people, list) or not isinstance(teams, list):
        return None
    as_of = read_time(value.get("updated_at"))
    try:
        asked = [read_asked(one) for one in (*people, *teams)]
    except UNREADABLE:
        # Nobody's merge must be refused for a list that only open pull requests need.
        return None
    return {
        "as_of": as_of.isoformat() if as_of else None,
        "asked": [one for one in asked if not one.pop("is_bot")],
    }


def read_asked(value: Json) -> dict[str, Any]:
    """Read an account or a team that is asked for a review."""
    is_team = "login" not in value
    login = read_text(value["slug"]) if is_team else read_login(value)
    is_bot = value.get("type") == "Bot" or login.endswith("[bot]")
    github_id = value["id"]
    if type(github_id) is not int:
        raise TypeError("the id of who is asked is no number")
    return {"github_id": github_id, "login": login, "is_team": is_team, "is_bot": is_bot}


def read_pull_request(value: Json, *, github_repo: str) -> PullRequestItem:
    """Read a pull request from the API or a webhook; the webhooks of reviews have no counters.

    Only `merged_at` says whether it is merged: open pull requests also have a `merge_commit_sha`.
    Raises KeyError, TypeError, ValueError or AttributeError for what is not a pull request.
    """
    merged_at = _require_time(value["merged_at"]) if value.get("merged_at") else None
    head, base = value.get("head") or {}, value.get("base") or {}
    repo, merger = base.get("repo") or {}, read_account(value.get("merged_by"))
    review_requests = read_review_requests(value)
    return PullRequestItem(
        github_repo=github_repo,
        github_pr_id=value["id"],
        github_pr_number=value["number"],
        title=read_text(value.get("title")),
        author=read_account(value.get("user")),
        author_login=read_login(value.get("user")),
        state="merged" if merged_at else read_text(value["state"]),
        is_draft=bool(value.get("draft")),
        base_ref=read_text(base.get("ref")),
        head_ref=read_text(head.get("ref")),
        head_sha=read_text(head.get("sha")),
        base_sha=read_text(base.get("sha")),
        pr_created_at=read_time(value.get("created_at")),
        pr_updated_at=read_time(value.get("updated_at")),
        closed_at=read_time(value.get("closed_at")),
        merged_at=merged_at,
        merged_by_github_id=merger.github_id if merger else None,
        merged_by_login=read_login(value["merged_by"]) if _names_merger(value) else None,
        additions=read_count(value.get("additions")),
        deletions=read_count(value.get("deletions")),
        changed_files=read_count(value.get("changed_files")),
        stated={
            section: value[counter]
            for section, counter in COUNTERS.items()
            if isinstance(value.get(counter), int)
        },
        base_repo=_read_name(repo.get("full_name")),
        base_repo_id=repo.get("id"),
        # Nobody waits for the review of a merged one.
        review_requests=None if merged_at else review_requests,
    )
