"""Do deliveries arrive, and can they be read?"""

from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from metrics_sync.github import HookHealth
from metrics_sync.models import GitHubIntegration, TrackedRepository, WebhookDelivery
from metrics_sync.operate.doctor.findings import Finding, describe

#: The events that a webhook needs; `*` stands for all.
EVENTS = {
    "check_run",
    "issue_comment",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "repository",
    "status",
}
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
    full_name: str, hooks: Sequence[HookHealth] | None, *, has_deliveries: bool
) -> list[Finding]:
    """Compare the webhooks that GitHub has with what we need; pure.

    An organisation's webhook is not among those of its repositories: what arrives is fine.
    """
    if hooks is None:
        return [Finding("webhooks", f"{full_name}: the token may not read webhooks, and need not")]
    if not hooks and has_deliveries:
        return [Finding("webhooks", f"{full_name}: deliveries come from another webhook")]
    if not hooks:
        advice = "Add the webhook that `manage.py connect` prints (Settings, Webhooks)."
        return [Finding("webhooks", f"{full_name}: GitHub has no webhook that leads here", advice)]
    judged = map(_judge, hooks)
    return [Finding("webhooks", f"{full_name}: {text}", advice) for text, advice in judged]


def _judge(hook: HookHealth) -> tuple[str, str]:
    missing = set() if "*" in hook.events else EVENTS - set(hook.events)
    if not hook.is_active:
        return "the webhook is switched off", "Make it active at GitHub."
    if missing:
        return f"the webhook lacks events: {', '.join(sorted(missing))}", "Add them at GitHub."
    if hook.last_status is not None and not 200 <= hook.last_status < 400:
        return (
            f"the last delivery was answered {hook.last_status or 'not at all'}",
            "See README.md, When something is wrong; then `manage.py reconcile --discover`.",
        )
    return "the webhook is active", ""
