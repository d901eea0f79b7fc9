"""Do deliveries arrive, and can they be read?"""

from collections.abc import Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from django.db.models import Q
from django.utils import timezone

from metrics_sync.conf import app_settings
from metrics_sync.github import HookItem
from metrics_sync.ingest import REPOSITORY_EVENTS
from metrics_sync.models import GitHubIntegration, TrackedRepository, WebhookDelivery
from metrics_sync.operate.doctor.findings import Finding, describe

RECENT = timedelta(days=1)
MANY = 1000


def check_deliveries() -> list[Finding]:
    """Look at what came last, and at what could not be read within a day."""
    integrations = GitHubIntegration.objects.select_related("team").defer("webhook_secret")
    return [*map(_check_last, integrations), _check_failures()]


def has_deliveries(repository: TrackedRepository) -> bool:
    """Whether a delivery about a repository came, to its team's endpoint or to the shared one."""
    came = WebhookDelivery.objects.filter(github_repo__iexact=repository.full_name)
    ours = Q(team=repository.team_id)
    if not repository.integration.api_url:
        ours |= Q(endpoint=WebhookDelivery.SHARED_ENDPOINT)
    return came.filter(ours).exists()


def _check_last(integration: GitHubIntegration) -> Finding:
    ours = Q(endpoint=str(integration.uuid))
    if not integration.api_url:
        names = integration.repositories.values("full_name")
        ours |= Q(endpoint=WebhookDelivery.SHARED_ENDPOINT, github_repo__in=names)
    received = WebhookDelivery.objects.filter(ours).order_by("-received_at")
    last = received.values_list("received_at", flat=True).first()
    if last is None:
        return Finding("webhooks", f"{integration}: no delivery yet")
    ago = describe(timezone.now() - last)
    return Finding("webhooks", f"{integration}: the last delivery came {ago} ago")


def _check_failures() -> Finding:
    rows = WebhookDelivery.objects.filter(received_at__gt=timezone.now() - RECENT)
    failed = rows.filter(status=WebhookDelivery.Status.FAILED).order_by()[:MANY].count()
    text = f"deliveries of the last 24 hours that could not be read: {failed}"
    advice = "See /admin/, Webhook deliveries, for the reasons." if failed else ""
    return Finding("webhooks", text, advice)


def judge_hooks(
    full_name: str, hooks: Sequence[HookItem] | None, *, has_deliveries: bool
) -> list[Finding]:
    """Compare the webhooks that GitHub has with BASE_URL and with what we need.

    An organization's webhook is not among those of its repositories: what arrives is fine.
    """
    if hooks is None:
        return [Finding("webhooks", f"{full_name}: the token may not read webhooks, and need not")]
    if not hooks and has_deliveries:
        return [Finding("webhooks", f"{full_name}: deliveries come from another webhook")]
    if not hooks:
        advice = (
            "Run `manage.py connect` again with --create-webhook, or add the webhook that it "
            "prints (Settings, Webhooks)."
        )
        return [Finding("webhooks", f"{full_name}: GitHub has no webhook that leads here", advice)]
    judged = [_judge(hook, base_url=app_settings.BASE_URL) for hook in hooks]
    return [Finding("webhooks", f"{full_name}: {text}", advice) for text, advice in judged]


def _read_origin(hook: HookItem) -> str:
    address = urlsplit(hook.url)
    return f"{address.scheme}://{address.netloc}"


def _judge(hook: HookItem, *, base_url: str) -> tuple[str, str]:
    """Return what is to be said of a webhook, and what to do if anything is wrong; pure."""
    origin = _read_origin(hook)
    missing = set() if "*" in hook.events else REPOSITORY_EVENTS - set(hook.events)
    again = "Run `manage.py connect` again with --create-webhook, or"
    if base_url and origin.lower() != base_url.lower():
        return (
            f"the webhook leads to {origin}, and BASE_URL is {base_url}",
            f"{again} correct the address at GitHub; if that address is right, correct BASE_URL.",
        )
    if not hook.is_active:
        return "the webhook is switched off", f"{again} make it active at GitHub."
    if missing:
        text = f"the webhook lacks events: {', '.join(sorted(missing))}"
        return text, f"{again} add them at GitHub."
    if hook.last_status is not None and not 200 <= hook.last_status < 400:
        more = f" ({hook.last_message})" if hook.last_message else ""
        return (
            f"the last delivery was answered {hook.last_status or 'not at all'}{more}",
            "See README.md, When something is wrong; then `manage.py reconcile --discover`.",
        )
    return "the webhook is active", ""
