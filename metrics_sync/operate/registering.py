"""Registers the webhook of a connected repository at GitHub."""

from functools import partial
from urllib.parse import urlsplit

from metrics_sync.access import Access
from metrics_sync.api_roots import is_local
from metrics_sync.github import register_hook
from metrics_sync.ingest import REPOSITORY_EVENTS
from metrics_sync.models import GitHubIntegration
from metrics_sync.operate.connecting import Found
from metrics_sync.store import record_change


def find_fault(base_url: str) -> str:
    """Say why GitHub would not, or must not, deliver to an address; empty if it may; pure.

    https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks
    """
    url = urlsplit(base_url)
    if is_local(url.hostname or ""):
        return (
            "GitHub refuses such a webhook: the URL is not supported because it isn't reachable "
            "over the public Internet"
        )
    if url.scheme != "https":
        return "GitHub advises HTTPS, as deliveries may hold private code and comments"
    return ""


def register_webhook(
    found: Found, integration: GitHubIntegration, full_name: str, *, base_url: str, actor: str
) -> str:
    """Have GitHub send exactly the events that we handle to the integration's own endpoint.

    Safe to repeat: the webhook that is there gets the present address, secret and events. Returns
    `created` or `updated`, and writes it to the audit log. Raises GitHubError, which says what the
    token lacks.
    """
    path = integration.get_webhook_path()
    question = partial(
        register_hook,
        full_name=full_name,
        url=base_url.rstrip("/") + path,
        path=path,
        secret=integration.webhook_secret,
        events=REPOSITORY_EVENTS,
    )
    done = Access(api_url=found.api_url, token=found.token).ask(question)
    change = f"webhook of {full_name} {done} at GitHub"
    record_change(actor=actor, subject=integration, change=change)
    return done
