"""Signs GitHub's events and posts them as GitHub does."""

import hashlib
import hmac
import http.client
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Delivery, Hook, World

USER_AGENT = "GitHub-Hookshot/044aadd"
#: How long GitHub waits for the answer of an endpoint.
TIMEOUT_SECONDS = 10


def sign(body: bytes, secret: str) -> str:
    """Return the value of `X-Hub-Signature-256` for a body as it is posted."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


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
