"""Every delivery that the sandbox can send, by event and action."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.ingest.events import save_event
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.sandbox import Recording, SandboxServer, make_recording
from metrics_sync.sandbox.payloads import (
    build_check_run_event,
    build_installation_event,
    build_installation_repositories_event,
    build_issue_comment_event,
    build_ping_event,
    build_pull_request_event,
    build_pull_request_review_comment_event,
    build_pull_request_review_event,
    build_repository_event,
    build_status_event,
)
from metrics_sync.sandbox.shapes import repository as build_repository
from metrics_sync.sandbox.shapes import user
from tests.contract.asking import REPOSITORY
from tests.contract.reducing import leave_out_others
from tests.contract.watching import watch
from tests.factories import TrackedRepositoryFactory

RENAMED = {"repository": {"name": {"from": "hammer"}}}
ORGANIZATION = {
    "avatar_url": "https://avatars.githubusercontent.com/u/9?v=4",
    "description": None,
    "events_url": "https://api.github.com/orgs/old-owner/events",
    "hooks_url": "https://api.github.com/orgs/old-owner/hooks",
    "id": 9,
    "issues_url": "https://api.github.com/orgs/old-owner/issues",
    "login": "old-owner",
    "members_url": "https://api.github.com/orgs/old-owner/members{/member}",
    "node_id": "MDEyOk9yZ2FuaXphdGlvbjk=",
    "public_members_url": "https://api.github.com/orgs/old-owner/public_members{/member}",
    "repos_url": "https://api.github.com/orgs/old-owner/repos",
    "url": "https://api.github.com/orgs/old-owner",
}
TRANSFERRED = {"owner": {"from": {"organization": ORGANIZATION}}}


def list_deliveries(sandbox: SandboxServer) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (event, payload) of what the service takes, one of each action that it tells apart."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 1, statuses=1))
    yield from _list_of_pull_request(recording)
    hook = sandbox.world.add_hook("http://127.0.0.1:1/", secret="s", full_name=REPOSITORY)
    repository = build_repository(REPOSITORY, repository_id=101)
    yield "ping", build_ping_event(hook, repository=repository)
    for action in ("archived", "deleted"):
        yield "repository", build_repository_event(action, repository)
    yield "repository", build_repository_event("renamed", repository, changes=RENAMED)
    yield "repository", build_repository_event("transferred", repository, changes=TRANSFERRED)
    for action in ("created", "deleted", "suspend", "unsuspend"):
        yield "installation", build_installation_event(action, 5, "acme", repositories=[repository])
    for change in ("added", "removed"):
        lists = {change: [repository]}
        payload = build_installation_repositories_event(5, "acme", **lists)
        yield "installation_repositories", payload


def _list_of_pull_request(recording: Recording) -> Iterator[tuple[str, dict[str, Any]]]:
    actions = ("opened", "reopened", "edited", "synchronize", "closed", "review_requested")
    more = {
        "synchronize": {"before": "a" * 40, "after": "b" * 40},
        "edited": {"changes": {}},
        "review_requested": {"requested_reviewer": user("ann")},
    }
    for action in actions:
        yield "pull_request", build_pull_request_event(recording, action, **more.get(action, {}))
    for action in ("submitted", "dismissed"):
        review = {**recording.reviews[0]}
        if action == "dismissed":
            review["state"] = "dismissed"
        yield "pull_request_review", build_pull_request_review_event(recording, review, action)
    comment = recording.review_comments[0]
    yield (
        "pull_request_review_comment",
        build_pull_request_review_comment_event(recording, comment),
    )
    yield "issue_comment", build_issue_comment_event(recording, recording.issue_comments[0])
    yield "check_run", build_check_run_event(recording, recording.check_runs[0])
    yield "status", build_status_event(recording, recording.statuses[0])


def read_deliveries(deliveries: Iterable[tuple[str, dict[str, Any]]]) -> dict[str, set[str]]:
    """Have the service take each delivery; return what it reads of it, by `event.action`.

    Needs a database. What is wrong with a delivery is somebody else's question.
    """
    integration = TrackedRepositoryFactory(full_name=REPOSITORY).integration
    reads: dict[str, set[str]] = defaultdict(set)
    for number, (event, payload) in enumerate(deliveries):
        if event == "ping":
            continue
        action = payload.get("action", "")
        seen = reads[f"{event}.{action}" if action else event]
        delivery = Delivery(
            guid=f"read-{number}",
            event=event,
            action=action,
            github_repo=(payload.get("repository") or {}).get("full_name", ""),
            payload=watch(payload, "", seen),
            text="{}",
        )
        of_app = event.startswith("installation")
        with suppress(MetricsSyncError):
            save_event(delivery, None if of_app else integration)
    return {name: leave_out_others(name, seen) for name, seen in reads.items()}
