"""Reads what webhooks report of those who wait: requests, ready drafts, pushes, dismissals."""

from collections.abc import Mapping

from metrics_sync.snapshot.items import Json
from metrics_sync.snapshot.reading import read_asked, read_time

#: The events that say since when something waits, by the action of their webhooks.
#: https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request
ASKED, READY, PUSHED, DISMISSED_REVIEW = (
    "review_requested",
    "ready_for_review",
    "synchronize",
    "review_dismissed",
)


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
