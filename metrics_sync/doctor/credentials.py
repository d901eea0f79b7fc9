"""Does GitHub take the tokens, for all that they are needed for?"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

from django.db import connections
from django.utils import timezone

from metrics_sync.access import Access
from metrics_sync.doctor.database import judge_clock
from metrics_sync.doctor.findings import Finding
from metrics_sync.doctor.webhooks import judge_hooks
from metrics_sync.exceptions import (
    CredentialRejectedError,
    DecryptionError,
    MetricsSyncError,
    RateLimitedError,
)
from metrics_sync.github import RepositoryHealth, TokenHealth, examine_token
from metrics_sync.models import IntegrationCredential, TrackedRepository, WebhookDelivery

#: How many repositories of a token are looked at.
MOST_REPOSITORIES = 20
#: How many tokens are tried out at once, so that a silent GitHub is soon done with.
AT_ONCE = 32

#: Scopes of a classic token that reading needs; with more it can do harm.
#: https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
ENOUGH = {"repo", "public_repo", "repo:status", "read:org", "read:repo_hook", "read:user"}


def check_credentials() -> list[Finding]:
    """Try out each token, several at once; what GitHub says is noted on its credential."""
    repositories = (
        TrackedRepository.objects.active()
        .select_related("integration__credential__team")
        .defer("integration__webhook_secret", "integration__credential__access_token")
        .order_by("integration__credential", "pk")
    )
    groups = groupby(repositories, key=lambda row: row.integration.credential)
    used = [(credential, list(rows)) for credential, rows in groups]
    if not used:
        return [Finding("tokens", "no repository is tracked yet")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [finding for found in pool.map(_check_apart, used) for finding in found]


def _check_apart(used: tuple[IntegrationCredential, list[TrackedRepository]]) -> list[Finding]:
    try:
        return list(_check(*used))
    finally:
        connections.close_all()


def _check(
    credential: IntegrationCredential, repositories: list[TrackedRepository]
) -> Iterator[Finding]:
    looked_at = repositories[:MOST_REPOSITORIES]
    paths = {row.full_name: row.integration.get_webhook_path() for row in looked_at}
    name = f"{credential} ({credential.pk})"
    try:
        health = Access.of(looked_at[0], is_bulk=False).ask(partial(examine_token, paths=paths))
    except MetricsSyncError as error:
        yield Finding("tokens", f"{name}: {error}", _advise(error))
        return
    yield from judge_token(name, health)
    yield from judge_repositories(name, health.repositories, of=len(repositories))
    for repository in health.repositories:
        came = WebhookDelivery.objects.filter(github_repo__iexact=repository.full_name)
        has_deliveries = came.filter(team=credential.team).exists()
        if not repository.troubles or repository.hooks is not None:
            yield from judge_hooks(
                repository.full_name, repository.hooks, has_deliveries=has_deliveries
            )


def _advise(error: MetricsSyncError) -> str:
    if isinstance(error, CredentialRejectedError):
        return "Store a new token with `manage.py connect`."
    if isinstance(error, DecryptionError):
        return "Add the key that encrypted it to TOKEN_ENCRYPTION_KEYS, or `connect` again."
    if isinstance(error, RateLimitedError):
        return "Wait: work goes on by itself. If it comes often, use a token for each team."
    return "See whether this machine reaches the API root, and whether GitHub is well."


def judge_token(name: str, health: TokenHealth) -> Iterator[Finding]:
    """Say what is left of a token's budget, what it may do, and what time GitHub has; pure but
    for our clock.
    """
    budget = health.budget
    left = f"{budget.remaining} of {budget.limit} requests left" if budget else "no rate limit"
    yield Finding("tokens", f"{name}: accepted, {left}")
    if too_much := sorted(set(health.scopes) - ENOUGH):
        text = f"{name}: it may do more than it needs: {', '.join(too_much)}"
        yield Finding("tokens", text, "Use a fine-grained token with read access.")
    if health.answered_at is not None:
        yield judge_clock("GitHub", health.answered_at, now=timezone.now())


def judge_repositories(
    name: str, repositories: Sequence[RepositoryHealth], *, of: int
) -> Iterator[Finding]:
    """Say which repositories the token cannot read; pure."""
    for repository in repositories:
        for trouble in repository.troubles:
            advice = "Give the token read access to it, or switch the tracked repository off."
            yield Finding("tokens", f"{repository.full_name}: {trouble}", advice)
    well = sum(not repository.troubles for repository in repositories)
    more = "" if of == len(repositories) else f"; {of - len(repositories)} more were not looked at"
    yield Finding("tokens", f"{name}: can read {well} of {len(repositories)} repositories{more}")
