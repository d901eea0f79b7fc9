"""Builds the payloads of GitHub's events; they share nothing with the recording."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Hook, Recording

#: When accounts and installations were made.
MADE_AT = "2026-03-02T08:00:00Z"


def build_pull_request_event(
    recording: Recording,
    action: str,
    *,
    sender: str | None = None,
    installation_id: int | None = None,
    **more: Any,
) -> Json:
    """Build a `pull_request` event; `more` are keys such as `changes`, `before` or `label`."""
    pull = recording.pull
    return _finish(
        recording,
        {"action": action, "number": recording.number, "pull_request": pull, **more},
        sender=sender,
        installation_id=installation_id,
    )


def build_pull_request_review_event(
    recording: Recording,
    review: Mapping[str, Any],
    action: str = "submitted",
    *,
    sender: str | None = None,
    installation_id: int | None = None,
    **more: Any,
) -> Json:
    """Build a review's event, whose state is in lower case and whose empty body is null."""
    written = {**review, "state": str(review["state"]).lower(), "body": review["body"] or None}
    short = shapes.short_pull(recording.pull)
    return _finish(
        recording,
        {"action": action, "review": written, "pull_request": short, **more},
        sender=sender or _login(review),
        installation_id=installation_id,
    )


def build_pull_request_review_comment_event(
    recording: Recording,
    comment: Mapping[str, Any],
    action: str = "created",
    *,
    sender: str | None = None,
    installation_id: int | None = None,
    **more: Any,
) -> Json:
    short = shapes.short_pull(recording.pull)
    return _finish(
        recording,
        {"action": action, "comment": dict(comment), "pull_request": short, **more},
        sender=sender or _login(comment),
        installation_id=installation_id,
    )


def build_issue_comment_event(
    recording: Recording,
    comment: Mapping[str, Any],
    action: str = "created",
    *,
    sender: str | None = None,
    installation_id: int | None = None,
    **more: Any,
) -> Json:
    """Build a comment's event; the pull request comes as an `issue` that points to it."""
    return _finish(
        recording,
        {"action": action, "issue": _build_issue(recording), "comment": dict(comment), **more},
        sender=sender or _login(comment),
        installation_id=installation_id,
    )


def build_check_run_event(
    recording: Recording,
    check_run: Mapping[str, Any],
    action: str = "completed",
    *,
    sender: str | None = None,
    installation_id: int | None = None,
    **more: Any,
) -> Json:
    return _finish(
        recording,
        {"action": action, "check_run": dict(check_run), **more},
        sender=sender,
        installation_id=installation_id,
    )


def build_status_event(recording: Recording, status: Mapping[str, Any]) -> Json:
    """Build the event of a legacy status; unlike others it has no action."""
    keys = ("id", "state", "description", "target_url", "context", "created_at", "updated_at")
    commits = [item for item in recording.commits if item["sha"] == recording.head_sha]
    return _finish(
        recording,
        {
            **{key: status[key] for key in keys},
            "sha": recording.head_sha,
            "name": recording.repo,
            "commit": commits[0] if commits else None,
            "branches": [],
        },
        sender=None,
        installation_id=None,
    )


def describe_hook(hook: Hook) -> Json:
    """Return what pings and the list of hooks say of a hook, without its addresses in the API."""
    return {
        "type": "Repository" if hook.full_name else "App",
        "id": hook.id,
        "name": "web",
        "active": hook.is_active,
        "events": list(hook.events),
        "config": {
            "content_type": hook.content_type,
            "insecure_ssl": "0",
            "secret": "********",
            "url": hook.url,
        },
        "updated_at": "2026-03-02T08:00:00Z",
        "created_at": "2026-03-02T08:00:00Z",
    }


def build_ping_event(hook: Hook, *, repository: Json | None = None) -> Json:
    """Build what GitHub sends when a hook is made; an app's ping names no repository."""
    payload: Json = {
        "zen": "Keep it logically awesome.",
        "hook_id": hook.id,
        "hook": describe_hook(hook),
    }
    if repository is not None:
        payload |= {"repository": repository, "sender": repository["owner"]}
    return payload


def build_repository_event(
    action: str, repository: Json, *, installation_id: int | None = None, **more: Any
) -> Json:
    """Build a `repository` event; a rename has `changes={"repository": {"name": {"from": …}}}`.

    A transfer has `changes={"owner": {"from": {"organization": …}}}` or `user` instead.
    """
    payload = {"action": action, "repository": repository, "sender": repository["owner"], **more}
    if installation_id is not None:
        payload["installation"] = _build_installation_stub(installation_id)
    return _copy(payload)


def build_installation_event(
    action: str, installation_id: int, account: str, *, repositories: Sequence[Json] = ()
) -> Json:
    """Build an `installation` event; suspending one names no repositories."""
    payload: Json = {
        "action": action,
        "installation": build_installation(installation_id, account),
        "sender": shapes.user("sandbox-owner"),
    }
    if action not in {"suspend", "unsuspend"}:
        payload["repositories"] = [_shorten(repository) for repository in repositories]
    return _copy(payload)


def build_installation_repositories_event(
    installation_id: int,
    account: str,
    *,
    added: Sequence[Json] = (),
    removed: Sequence[Json] = (),
) -> Json:
    """Build an `installation_repositories` event; with something removed its action is that."""
    return _copy(
        {
            "action": "removed" if removed else "added",
            "installation": build_installation(installation_id, account),
            "repository_selection": "selected",
            "repositories_added": [_shorten(repository) for repository in added],
            "repositories_removed": [_shorten(repository) for repository in removed],
            "requester": None,
            "sender": shapes.user("sandbox-owner"),
        }
    )


def _finish(
    recording: Recording, payload: Json, *, sender: str | None, installation_id: int | None
) -> Json:
    repository = _build_repository(recording)
    payload |= {
        "repository": repository,
        "organization": shapes.organization(recording.repo.partition("/")[0]),
        "sender": shapes.user(sender or _login(recording.pull, "merged_by", "user") or "ghost"),
    }
    if installation_id is not None:
        payload["installation"] = _build_installation_stub(installation_id)
    return _copy(payload)


def _build_repository(recording: Recording) -> Json:
    base = (recording.pull.get("base") or {}).get("repo") or {}
    repository_id = base.get("id") or shapes.make_id(recording.repo, start=100_000)
    return shapes.repository(recording.repo, repository_id=repository_id) | base


def _build_issue(recording: Recording) -> Json:
    pull = recording.pull
    url = f"{shapes.API}/repos/{recording.repo}/issues/{recording.number}"
    links = ("url", "html_url", "diff_url", "patch_url", "merged_at")
    shared = [
        *("html_url", "number", "title", "user", "labels", "state", "locked", "created_at"),
        *("updated_at", "closed_at", "comments", "body", "draft", "author_association"),
    ]
    return {
        "url": url,
        "repository_url": f"{shapes.API}/repos/{recording.repo}",
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "timeline_url": f"{url}/timeline",
        # An issue's id is not the id of its pull request.
        "id": pull.get("id", 0) + 50_000,
        "node_id": pull.get("node_id"),
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "active_lock_reason": None,
        "state_reason": None,
        "performed_via_github_app": None,
        "reactions": shapes.reactions(url),
        "pull_request": {key: pull.get(key) for key in links},
        **{key: pull.get(key) for key in shared},
    }


def build_installation(installation_id: int, account: str, *, app_id: int | str = 29_310) -> Json:
    """Build what GitHub says of an App on an account, in events and when asked."""
    return {
        "id": installation_id,
        "account": shapes.user(account, kind="Organization"),
        "repository_selection": "selected",
        "access_tokens_url": f"{shapes.API}/app/installations/{installation_id}/access_tokens",
        "repositories_url": f"{shapes.API}/installation/repositories",
        "html_url": f"{shapes.WEB}/apps/metrics/installations/{installation_id}",
        "app_id": int(app_id),
        "app_slug": "metrics",
        "target_id": shapes.make_id(account, start=1_000),
        "target_type": "Organization",
        "permissions": {"checks": "read", "metadata": "read", "pull_requests": "read"},
        "events": ["check_run", "pull_request", "pull_request_review"],
        "created_at": MADE_AT,
        "updated_at": MADE_AT,
        "single_file_name": None,
        "suspended_by": None,
        "suspended_at": None,
    }


def _build_installation_stub(installation_id: int) -> Json:
    return {"id": installation_id, "node_id": shapes.make_node_id("I", installation_id)}


def _shorten(repository: Mapping[str, Any]) -> Json:
    return {key: repository[key] for key in ("id", "node_id", "name", "full_name", "private")}


def _login(item: Mapping[str, Any], *keys: str) -> str:
    people = (item.get(key) or {} for key in keys or ("user",))
    return next((str(person["login"]) for person in people if person.get("login")), "")


def _copy(payload: Json) -> Json:
    copied: Json = json.loads(json.dumps(payload))
    return copied
