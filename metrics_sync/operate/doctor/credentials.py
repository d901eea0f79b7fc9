"""Does GitHub take the tokens, for all that they are needed for?"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby

from django.db import connections
from django.utils import timezone

from metrics_sync.access import Access
from metrics_sync.exceptions import (
    AppUnavailableError,
    CredentialRejectedError,
    DecryptionError,
    MetricsSyncError,
    RateLimitedError,
    UnsafeAddressError,
)
from metrics_sync.github import RepositoryHealth, TokenHealth, examine_token
from metrics_sync.models import IntegrationCredential, TrackedRepository
from metrics_sync.operate.doctor.arriving import has_deliveries, judge_hooks
from metrics_sync.operate.doctor.database import judge_clock
from metrics_sync.operate.doctor.findings import Finding

#: How many repositories of a token are looked at.
MOST_REPOSITORIES = 20
#: How many tokens are tried out at once, so that a silent GitHub is soon done with.
AT_ONCE = 32

#: Scopes of a classic token that are no more than reading needs, or having lost deliveries sent
#: again. `repo` is not among them: it may write, to everything that its user may.
#: https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/scopes-for-oauth-apps
ENOUGH = {"public_repo", "repo:status", "read:org", "read:user"}
ENOUGH |= {"read:repo_hook", "write:repo_hook", "admin:repo_hook"}

#: How fine-grained tokens begin.
FINE_GRAINED = "github_pat_"


def check_credentials() -> list[Finding]:
    """Try out each token, several at once; what GitHub says is noted on its credential."""
    repositories = (
        TrackedRepository.objects.active()
        .with_credentials()
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
    rows = {row.full_name: row for row in looked_at}
    endings = {name: row.integration.list_webhook_endings() for name, row in rows.items()}
    name = f"{credential} ({credential.pk})"
    try:
        access = Access.of(looked_at[0], is_bulk=False)
        health = access.ask(partial(examine_token, endings=endings))
    except MetricsSyncError as error:
        yield Finding("tokens", f"{name}: {error}", _advise(error, credential))
        return
    yield from judge_token(name, health)
    yield from judge_repositories(name, health.repositories, of=len(repositories))
    is_fine_grained = access.token.startswith(FINE_GRAINED)
    for repository in health.repositories:
        if repository.refused_checks:
            yield judge_checks(repository, is_fine_grained=is_fine_grained)
        if not repository.troubles or repository.hooks is not None:
            came = has_deliveries(rows[repository.full_name])
            yield from judge_hooks(repository.full_name, repository.hooks, has_deliveries=came)


def _advise(error: MetricsSyncError, credential: IntegrationCredential) -> str:
    if isinstance(error, AppUnavailableError):
        return "Correct GITHUB_APP_ID, GITHUB_APP_PRIVATE_KEY, or the clock of this machine."
    if isinstance(error, UnsafeAddressError):
        return "`connect` again, with another --api-url or with a token of that GitHub."
    if isinstance(error, CredentialRejectedError) and credential.kind == credential.Kind.APP:
        return "Install the App again, or resume it, then `manage.py connect OWNER --app`."
    if isinstance(error, CredentialRejectedError):
        return "Store a new token with `manage.py connect`."
    if isinstance(error, DecryptionError):
        return "Add the key that encrypted it to TOKEN_ENCRYPTION_KEYS, or `connect` again."
    if isinstance(error, RateLimitedError):
        return (
            "Wait: work goes on by itself. If it comes often, use a GitHub App, or give each team "
            "a token of another user: GitHub counts all tokens of one user together."
        )
    return "Check that this machine reaches the API root, and that GitHub works."


def judge_token(name: str, health: TokenHealth) -> Iterator[Finding]:
    """Say what is left of a token's budget, what it may do, and what time GitHub has; pure but
    for our clock.
    """
    budget = health.budget
    left = f"{budget.remaining} of {budget.limit} requests left" if budget else "no rate limit"
    yield Finding("tokens", f"{name}: accepted, {left}")
    if too_much := sorted(set(health.scopes) - ENOUGH):
        text = f"{name}: it may do more than it needs: {', '.join(too_much)}"
        advice = "Use a GitHub App, or a fine-grained token, with read access."
        yield Finding("tokens", text, advice)
    if health.answered_at is not None:
        yield judge_clock("GitHub", health.answered_at, now=timezone.now())


def judge_checks(repository: RepositoryHealth, *, is_fine_grained: bool) -> Finding:
    """Say that check runs are not read, and whether that can be helped; pure."""
    if is_fine_grained:
        text = "check runs are not read; GitHub lets no fine-grained token, but Apps"
        return Finding("tokens", f"{repository.full_name}: {text}")
    text = f"{repository.full_name}: check runs are not read: {repository.refused_checks}"
    return Finding("tokens", text, "Allow the token or the App to read checks.")


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
