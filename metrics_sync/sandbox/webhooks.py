"""Builds GitHub's events, signs them, and posts them as GitHub does."""

import hashlib
import hmac
import http.client
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Delivery, Hook, Recording, World

USER_AGENT = "GitHub-Hookshot/044aadd"
#: How long GitHub waits for the answer of an endpoint.
TIMEOUT_SECONDS = 10


#: When accounts and installations were made.
MADE_AT = "2026-03-02T08:00:00Z"


def sign(body: bytes, secret: str) -> str:
    """Return the value of `X-Hub-Signature-256` for a body as it is posted."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


# Events. Each returns a payload that shares nothing with the recording.


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


def build_ping_event(hook: Hook, *, repository: Json | None = None) -> Json:
    """Build what GitHub sends when a hook is made; an app's ping names no repository."""
    payload: Json = {
        "zen": "Keep it logically awesome.",
        "hook_id": hook.id,
        "hook": {
            "type": "Repository" if hook.full_name else "App",
            "id": hook.id,
            "name": "web",
            "active": True,
            "events": list(hook.events),
            "config": {
                "content_type": hook.content_type,
                "insecure_ssl": "0",
                "secret": "********",
                "url": hook.url,
            },
            "updated_at": "2026-03-02T08:00:00Z",
            "created_at": "2026-03-02T08:00:00Z",
        },
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


# Posting.


@dataclass(frozen=True)
class DeliveryAnswer:
    """What the endpoint said, and how long it took."""

    status: int
    body: str
    seconds: float


def deliver(
    url: str,
    *,
    event: str,
    payload: Mapping[str, Any],
    secret: str,
    guid: str | None = None,
    hook_id: int = 1,
    content_type: str = "json",
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> DeliveryAnswer:
    """Post one signed event and return the answer, whatever its status.

    Without a GUID a new one is made; `content_type` is `json` or `form`. An empty secret sends
    no signature. Raises OSError when nobody answers in time.
    """
    body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    kind = "application/json"
    if content_type == "form":
        kind = "application/x-www-form-urlencoded"
        body = urlencode({"payload": body.decode()}).encode()
    headers = {
        "Accept": "*/*",
        "Content-Type": kind,
        "User-Agent": USER_AGENT,
        "X-GitHub-Delivery": guid or make_guid(),
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": str(hook_id),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
        "X-GitHub-Hook-Installation-Target-ID": str(_read_repository_id(payload)),
    }
    if secret:
        legacy = hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()
        headers["X-Hub-Signature"] = f"sha1={legacy}"
        headers["X-Hub-Signature-256"] = sign(body, secret)
    return _post(url, body=body, headers=headers, timeout_seconds=timeout_seconds)


def make_guid() -> str:
    return str(uuid.uuid1())


def _read_repository_id(payload: Mapping[str, Any]) -> int:
    return int((payload.get("repository") or {}).get("id") or 0)


def _post(
    url: str, *, body: bytes, headers: dict[str, str], timeout_seconds: float
) -> DeliveryAnswer:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = connect(parts.netloc, timeout=timeout_seconds)
    path = parts.path or "/"
    started = time.monotonic()
    try:
        connection.request("POST", f"{path}?{parts.query}" if parts.query else path, body, headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url} answered no HTTP: {error!r}") from error
    finally:
        connection.close()
    return DeliveryAnswer(response.status, text, time.monotonic() - started)


# Posting to the hooks of a world, which keeps the deliveries.


def send_event(
    world: World,
    hook: Hook,
    *,
    event: str,
    payload: Json,
    guid: str | None = None,
    lost: bool = False,
    redelivery: bool = False,
    delivered_at: str | None = None,
) -> Delivery:
    """Post an event to a hook and keep the delivery, failed or not, for listing and redelivery.

    `lost` keeps it as failed without posting anything, which is how tests lose a delivery.
    """
    guid = guid or make_guid()
    code, status, seconds = 0, "failed to connect to host", 0.0
    if not lost:
        try:
            answer = deliver(
                hook.url,
                event=event,
                payload=payload,
                secret=hook.secret,
                guid=guid,
                hook_id=hook.id,
                content_type=hook.content_type,
            )
        except OSError:
            code, status = 502, "failed to connect to host"
        else:
            code, seconds = answer.status, answer.seconds
            status = "OK" if code < 300 else f"Invalid HTTP Response: {code}"
    delivery = Delivery(
        id=world.take_id(),
        guid=guid,
        event=event,
        payload=payload,
        delivered_at=delivered_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        status_code=code,
        status=status,
        duration=round(seconds, 2),
        redelivery=redelivery,
    )
    with world.lock:
        hook.deliveries.append(delivery)
    return delivery


def announce(
    world: World,
    *,
    event: str,
    payload: Json,
    guid: str | None = None,
    lost: bool = False,
) -> list[Delivery]:
    """Send an event to every hook that subscribed to it, all with one GUID, as GitHub does.

    These are the hooks of the payload's repository and those of apps.
    """
    guid = guid or make_guid()
    full_name = str((payload.get("repository") or {}).get("full_name") or "").lower()
    with world.lock:
        hooks = [
            hook
            for hook in world.hooks.values()
            if hook.is_active
            and (hook.full_name is None or hook.full_name.lower() == full_name)
            and ("*" in hook.events or event in hook.events)
        ]
    return [
        send_event(world, hook, event=event, payload=payload, guid=guid, lost=lost)
        for hook in hooks
    ]
