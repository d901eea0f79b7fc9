"""Pull requests that stay open in the demo, each at another turn, told by webhooks."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from metrics_sync.sandbox import build_pull_request_event
from metrics_sync.sandbox.builder import PullRequestBuilder
from metrics_sync.sandbox.payloads import build_pull_request_review_event
from metrics_sync.sandbox.shapes import user
from metrics_sync.sandbox.world import Recording

ASK, APPROVE, REQUEST, PUSH = "ask", "APPROVED", "CHANGES_REQUESTED", "push"


@dataclass(frozen=True, slots=True)
class Open:
    """A pull request that was opened `hours` ago, and what came then: hours ago, who and what."""

    number: int
    title: str
    author: str
    hours: float
    steps: tuple[tuple[float, str, str], ...] = ()


PULL_REQUESTS = (
    Open(111, "Show prices with tax", "mona", 26, ((25, "grace", ASK), (24, "ada", ASK))),
    Open(112, "Round totals in one place", "hubot", 3),
    Open(113, "Keep the basket for a week", "ada", 9, ((8, "grace", ASK), (5, "grace", APPROVE))),
    Open(114, "Send receipts by mail", "mona", 52, ((51, "ada", ASK), (47, "ada", REQUEST))),
    Open(
        115,
        "Name the currency of each price",
        "hubot",
        30,
        ((29, "ada", ASK), (22, "ada", REQUEST), (6, "hubot", PUSH)),
    ),
)


def list_deliveries(
    full_name: str, now: datetime
) -> Iterator[tuple[Recording, list[tuple[str, Any]]]]:
    """Yield each open pull request, and its webhooks in their order: events and payloads."""
    for one in PULL_REQUESTS:
        opened_at = now - timedelta(hours=one.hours)
        story = PullRequestBuilder(
            full_name, one.number, author=one.author, title=one.title, opened_at=opened_at
        )
        story.commit(-5, message=one.title)
        story.file("shop/basket.py", additions=24, deletions=9)
        deliveries = [("pull_request", build_pull_request_event(story.finish(), "opened"))]
        for ago, who, what in one.steps:
            deliveries.append(_take(story, who, what, minutes=(one.hours - ago) * 60))
        yield story.recording, deliveries


def _take(story: PullRequestBuilder, who: str, what: str, *, minutes: float) -> tuple[str, Any]:
    """Let somebody act, and return the webhook. A review takes its author off the list of asked."""
    asked = story.pull["requested_reviewers"]
    story.pull["updated_at"] = story.time(minutes)
    if what == ASK:
        asked.append(user(who))
        event = build_pull_request_event(
            story.recording, "review_requested", requested_reviewer=user(who)
        )
        return "pull_request", event
    if what == PUSH:
        story.commit(minutes, message="Do as the review says")
        return "pull_request", build_pull_request_event(story.finish(), "synchronize")
    story.pull["requested_reviewers"] = [one for one in asked if one["login"] != who]
    review = story.review(minutes, login=who, state=what)
    return "pull_request_review", build_pull_request_review_event(story.recording, review)
