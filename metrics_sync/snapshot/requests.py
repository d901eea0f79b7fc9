"""Reads who is asked for a review, and what webhooks report of those who wait."""

from collections.abc import Mapping
from typing import Any

from metrics_sync.snapshot.items import Json
from metrics_sync.snapshot.values import UNREADABLE, read_login, read_text, read_time

#: The events that say since when something waits, by the action of their webhooks.
#: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request
ASKED, READY, PUSHED, DISMISSED_REVIEW = (
    "review_requested",
    "ready_for_review",
    "synchronize",
    "review_dismissed",
)


def read_review_requests(value: Json) -> dict[str, Any] | None:
    """Return who is asked for a review, without bots; None where the answer does not say.

    None for a merged pull request as well: nobody waits for its review.

    `as_of` is when the pull request was last changed. GitHub takes everybody off its list who has
    reviewed, and puts them on it again who are asked again.
    """
    people, teams = value.get("requested_reviewers"), value.get("requested_teams")
    if value.get("merged_at") or not isinstance(people, list) or not isinstance(teams, list):
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


def read_review_event(event: str, payload: Json) -> dict[str, str]:
    """Return the event that a webhook reports and its time; empty for one that nobody waits by.

    The key of a request names who is asked, that of a dismissal the review.
    """
    action, pull_request = payload.get("action"), payload["pull_request"]
    at = read_time(pull_request.get("updated_at"))
    if at is None:
        return {}
    if event == "pull_request_review" and action == "dismissed":
        return {name_event(DISMISSED_REVIEW, payload["review"]["id"]): at.isoformat()}
    if event != "pull_request" or action not in {ASKED, READY, PUSHED}:
        return {}
    if action != ASKED:
        return {action: at.isoformat()}
    asked = read_asked(payload.get("requested_reviewer") or payload["requested_team"])
    key = name_event(ASKED, asked["github_id"], is_team=asked["is_team"])
    return {key: at.isoformat()}


def name_event(event: str, github_id: int, *, is_team: bool = False) -> str:
    """Return the key of an event that is about one account, team or review."""
    return f"{event} {'team ' if is_team else ''}{github_id}"


def keep_newest(known: Mapping[str, str], reported: Mapping[str, str]) -> dict[str, str]:
    """Return the newest time of each event; safe to repeat, and in any order."""
    return {**known, **{key: max(at, known.get(key, at)) for key, at in reported.items()}}


def join_requests(known: Json | None, reported: Json | None) -> Json | None:
    """Return who is asked for a review, after two reports in any order; None if neither says.

    The newer report holds. Webhooks of one second cannot be ordered, so all whom they name count
    as asked: a pull request that is opened with three requests sends four.
    """
    if known is None or reported is None:
        return reported or known
    if known["as_of"] != reported["as_of"]:
        return max(known, reported, key=lambda report: report["as_of"] or "")
    asked = [*known["asked"], *(one for one in reported["asked"] if one not in known["asked"])]
    return {**reported, "asked": asked}
