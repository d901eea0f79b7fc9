"""Lists and registers the webhooks of a repository."""

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any

from metrics_sync.exceptions import (
    GitHubError,
    GoneError,
    PermissionMissingError,
    RateLimitedError,
    RetrySoonError,
)
from metrics_sync.github.client import GitHub
from metrics_sync.snapshot import UNREADABLE, read_text

#: GitHub's own words for what lets a token register webhooks; without it GitHub answers 404 to
#: classic tokens.
#: https://docs.github.com/en/rest/repos/webhooks#create-a-repository-webhook
#: https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
MAY_REGISTER = (
    'a fine-grained token needs the repository permission "Webhooks: write", a classic one the '
    "scope write:repo_hook, admin:repo_hook or repo; and its user must administer the repository"
)


@dataclass(frozen=True, slots=True)
class HookItem:
    """A webhook as GitHub has it.

    `last_status` is our answer to its last delivery, 0 for none at all, and None before the first
    delivery; `last_message` says more of it.
    """

    hook_id: int
    url: str
    is_active: bool
    events: Collection[str]
    last_status: int | None = None
    last_message: str = ""


async def list_hooks(
    github: GitHub, full_name: str, *, endings: tuple[str, ...]
) -> AsyncIterator[HookItem]:
    """Yield the webhooks of a repository whose addresses have one of these endings, in any case.

    Raises GitHubError: GoneError or PermissionMissingError for a token that may not read webhooks.
    https://docs.github.com/en/rest/repos/webhooks#list-repository-webhooks
    """
    ours = tuple(ending.lower() for ending in endings)
    try:
        async for page in github.pages(github.api.repos.list_webhooks, *full_name.split("/")):
            for value in page.items:
                if (value["config"].get("url") or "").lower().endswith(ours):
                    yield _read_hook(value)
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of webhooks") from error


async def register_hook(
    github: GitHub, full_name: str, *, url: str, path: str, secret: str, events: Collection[str]
) -> str:
    """Have GitHub send these events to `url`, signed with the secret, and no others.

    Safe to repeat: a webhook whose address ends with `path` is changed, and none is added beside
    it; of several, the one whose address is `url`. Returns `created`, or `updated`. Raises
    PermissionMissingError, which says what the token needs, or another GitHubError.
    """
    config = {"url": url, "content_type": "json", "insecure_ssl": "0", "secret": secret}
    options = {"config": config, "events": sorted(events), "active": True}
    try:
        hook = await _find_hook(github, full_name, url=url, path=path)
        if hook is None:
            hook = await _create_hook(github, full_name, path=path, options=options)
            if hook is None:
                return "created"
        update = github.api.repos.update_webhook
        await github.call(update, *full_name.split("/"), hook.hook_id, **options)
    except (GoneError, PermissionMissingError) as error:
        raise PermissionMissingError(f"{error}; {MAY_REGISTER}") from error
    return "updated"


async def _create_hook(
    github: GitHub, full_name: str, *, path: str, options: dict[str, Any]
) -> HookItem | None:
    """Create a webhook; return one that is there meanwhile, and None if this created it."""
    create = github.api.repos.create_webhook
    try:
        await github.call(create, *full_name.split("/"), name="web", **options)
    except (GoneError, PermissionMissingError, RateLimitedError):
        raise
    except GitHubError:
        # If the answer is lost, the request is sent again, and GitHub refuses a second webhook.
        url = options["config"]["url"]
        hook = await _find_hook(github, full_name, url=url, path=path)
        if hook is None:
            raise
        return hook
    return None


async def _find_hook(github: GitHub, full_name: str, *, url: str, path: str) -> HookItem | None:
    found = [hook async for hook in list_hooks(github, full_name, endings=(path,))]
    return min(found, key=lambda hook: hook.url != url, default=None)


def _read_hook(value: Any) -> HookItem:
    last = value.get("last_response") or {}
    status = last.get("code")
    return HookItem(
        hook_id=value["id"],
        url=value["config"]["url"],
        is_active=bool(value["active"]),
        events=set(value["events"]),
        last_status=None if status is None else int(status),
        last_message=read_text(last.get("message") or "")[:200],
    )
