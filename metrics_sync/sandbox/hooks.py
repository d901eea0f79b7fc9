"""The operations on hooks and their deliveries."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from metrics_sync.sandbox import shapes
from metrics_sync.sandbox.answers import Answer, Document, Listing, refuse
from metrics_sync.sandbox.cutting import read_per_page
from metrics_sync.sandbox.payloads import describe_hook
from metrics_sync.sandbox.routing import Ask, repository_routes, root_routes
from metrics_sync.sandbox.shapes import Json
from metrics_sync.sandbox.world import Delivery, Hook

#: Scopes of a classic token that let it register webhooks.
#: https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
WRITING = {"repo", "write:repo_hook", "admin:repo_hook"}


@repository_routes.get(r"/hooks")
def list_hooks(ask: Ask) -> Answer:
    return Listing([_show_hook(hook) for hook in _find_hooks(ask) if _is_of_ask(hook, ask)])


@repository_routes.get(r"/hooks/(?P<hook_id>\d+)")
def get_hook(ask: Ask) -> Answer:
    hook = _find_hook(ask)
    return refuse(404) if hook is None else Document(_show_hook(hook))


@repository_routes.post(r"/hooks")
def create_hook(ask: Ask) -> Answer:
    """https://docs.github.com/en/rest/repos/webhooks#create-a-repository-webhook"""
    settings = _read_settings(ask)
    if isinstance(settings, Document):
        return settings
    if any(hook.url == settings["url"] for hook in _find_hooks(ask) if _is_of_ask(hook, ask)):
        return _refuse_values("Hook already exists on this repository")
    hook = ask.world.add_hook(full_name=ask.repo.full_name, **settings)
    return Document(_show_hook(hook), 201)


@repository_routes.patch(r"/hooks/(?P<hook_id>\d+)")
def update_hook(ask: Ask) -> Answer:
    hook, settings = _find_hook(ask), _read_settings(ask)
    if hook is None:
        return refuse(404)
    if isinstance(settings, Document):
        return settings
    for name, value in settings.items():
        setattr(hook, name, value)
    hook.is_active = bool(ask.body.get("active", True))
    return Document(_show_hook(hook))


@root_routes.get(r"/app/hook/deliveries")
@repository_routes.get(r"/hooks/(?P<hook_id>\d+)/deliveries")
def list_deliveries(ask: Ask) -> Answer:
    """List the newest deliveries first, paged by a cursor and not by numbers."""
    hook = _find_hook(ask)
    if hook is None:
        return refuse(404)
    newest = sorted(hook.deliveries, key=lambda delivery: delivery.id, reverse=True)
    cursor = ask.query.get("cursor", "").removeprefix("v1_")
    if cursor.isdecimal():
        newest = [delivery for delivery in newest if delivery.id < int(cursor)]
    per_page = read_per_page(ask.query)
    shown = newest[:per_page]
    headers = {}
    if len(newest) > per_page:
        address = f"{ask.link_url}?per_page={per_page}&cursor=v1_{shown[-1].id}"
        headers["Link"] = f'<{address}>; rel="next"'
    return Document([_show_delivery(delivery, hook) for delivery in shown], headers=headers)


@root_routes.get(r"/app/hook/deliveries/(?P<delivery_id>\d+)")
@repository_routes.get(r"/hooks/(?P<hook_id>\d+)/deliveries/(?P<delivery_id>\d+)")
def get_delivery(ask: Ask) -> Answer:
    found = find_delivery(ask)
    if found is None:
        return refuse(404)
    hook, delivery = found
    request = {"headers": {"X-GitHub-Delivery": delivery.guid}, "payload": delivery.payload}
    response = {"headers": {}, "payload": ""}
    more = {"url": hook.url, "request": request, "response": response}
    return Document({**_show_delivery(delivery, hook), **more})


@root_routes.post(r"/app/hook/deliveries/(?P<delivery_id>\d+)/attempts")
@repository_routes.post(r"/hooks/(?P<hook_id>\d+)/deliveries/(?P<delivery_id>\d+)/attempts")
def redeliver(ask: Ask) -> Answer:
    """Accept a request to redeliver, which is done soon after the answer."""
    found = find_delivery(ask)
    if found is None:
        return refuse(404)
    ask.redeliveries.append(found)
    return Document({}, 202)


def find_delivery(ask: Ask) -> tuple[Hook, Delivery] | None:
    hook = _find_hook(ask)
    wanted = int(ask.params["delivery_id"])
    deliveries: Sequence[Delivery] = hook.deliveries if hook else ()
    return next(((hook, item) for item in deliveries if hook and item.id == wanted), None)


def _find_hooks(ask: Ask) -> list[Hook]:
    return list(ask.world.hooks.values())


def _find_hook(ask: Ask) -> Hook | None:
    if ask.repository is None:
        return next((hook for hook in _find_hooks(ask) if hook.full_name is None), None)
    hook = ask.world.hooks.get(int(ask.params["hook_id"]))
    return hook if hook and _is_of_ask(hook, ask) else None


def _is_of_ask(hook: Hook, ask: Ask) -> bool:
    return (hook.full_name or "").lower() == ask.repo.full_name.lower()


def _read_settings(ask: Ask) -> dict[str, Any] | Document:
    """Read what a hook is to be, or refuse it as GitHub does.

    A classic token without the scope is answered as if the repository were not there.
    """
    scopes = {scope.strip() for scope in ask.token.scopes.split(",")}
    if ask.token.is_classic and not scopes & WRITING:
        return refuse(404)
    config = ask.body["config"]
    host = urlsplit(config["url"]).hostname or ""
    if host in {"localhost", "127.0.0.1"}:
        reason = "url is not supported because it isn't reachable over the public Internet"
        return _refuse_values(f"{reason} ({host})")
    return {
        "url": config["url"],
        "secret": config.get("secret", ""),
        "content_type": config.get("content_type", "form"),
        "events": tuple(ask.body.get("events", ["push"])),
    }


def _refuse_values(reason: str) -> Document:
    """https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api"""
    refusal = refuse(422)
    errors = [{"resource": "Hook", "code": "custom", "message": reason}]
    return replace(refusal, body={**refusal.body, "errors": errors})


def _show_hook(hook: Hook) -> Json:
    url = f"{shapes.API}/repos/{hook.full_name}/hooks/{hook.id}"
    return {
        **describe_hook(hook),
        "url": url,
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": _show_last_response(hook),
    }


def _show_last_response(hook: Hook) -> Json:
    if not hook.deliveries:
        return {"code": None, "status": "unused", "message": None}
    last = hook.deliveries[-1]
    status = "active" if 200 <= last.status_code < 400 else "inactive"
    return {"code": last.status_code, "status": status, "message": last.status}


def _show_delivery(delivery: Delivery, hook: Hook) -> Json:
    payload: dict[str, Any] = delivery.payload
    return {
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": delivery.delivered_at,
        "redelivery": delivery.redelivery,
        "duration": delivery.duration,
        "status": delivery.status,
        "status_code": delivery.status_code,
        "event": delivery.event,
        "action": payload.get("action"),
        "installation_id": (payload.get("installation") or {}).get("id"),
        "repository_id": (payload.get("repository") or {}).get("id"),
        "throttled_at": None,
        "url": "" if hook.full_name is None else hook.url,
    }
