"""Has GitHub redeliver the webhook deliveries that did not arrive."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from metrics_sync.exceptions import RetrySoonError
from metrics_sync.github.client import GitHub
from metrics_sync.github.pages import Page
from metrics_sync.github.webhook_registration import list_hooks
from metrics_sync.snapshot import UNREADABLE, read_time


async def redeliver_failed(
    github: GitHub, *, full_name: str, endings: tuple[str, ...], since: datetime
) -> int:
    """Ask for the deliveries since then of which every attempt failed; return how many.

    The addresses of our webhooks have one of these endings. GitHub never redelivers by itself.
    Raises GitHubError; for a token that may not read webhooks it is GoneError.
    https://docs.github.com/en/rest/repos/webhooks
    """
    repos, route = github.api.repos, full_name.split("/")
    asked = 0
    try:
        async for hook in list_hooks(github, full_name, endings=endings):
            listed = github.pages(repos.list_webhook_deliveries, *route, hook.hook_id)
            for delivery_id in await _list_failed(listed, since=since):
                redeliver = repos.redeliver_webhook_delivery
                await github.call(redeliver, *route, hook.hook_id, delivery_id)
                asked += 1
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of deliveries") from error
    return asked


async def redeliver_failed_of_app(app: GitHub, *, since: datetime) -> int:
    """Do the same for the one webhook of a GitHub App; `app` uses the token of `sign_app_token`.

    https://docs.github.com/en/rest/apps/webhooks
    """
    apps, asked = app.api.apps, 0
    try:
        for delivery_id in await _list_failed(app.pages(apps.list_webhook_deliveries), since=since):
            await app.call(apps.redeliver_webhook_delivery, delivery_id)
            asked += 1
    except UNREADABLE as error:
        raise RetrySoonError("GitHub's answer is not a list of deliveries") from error
    return asked


async def _list_failed(pages: AsyncIterator[Page], *, since: datetime) -> list[int]:
    """Return the newest attempt of each event of which every attempt failed, oldest event first."""
    failed: dict[str, Any] = {}
    arrived = set()
    async for page in pages:
        recent = [
            item for item in page.items if (read_time(item["delivered_at"]) or since) >= since
        ]
        for item in recent:
            if 200 <= item["status_code"] < 400:
                arrived.add(item["guid"])
            else:
                failed.setdefault(item["guid"], item["id"])
        if len(recent) < len(page.items):
            break
    return [failed[guid] for guid in reversed(failed) if guid not in arrived]
