"""Tokens of a GitHub App's installations: renewed in time, by one worker, for one team only."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from metrics_sync.access import Access, tokens
from metrics_sync.access.tokens import find_token
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import (
    AppUnavailableError,
    CredentialRejectedError,
    GitHubError,
    RetrySoonError,
    UnsafeAddressError,
)
from metrics_sync.models import IntegrationCredential, TrackedRepository
from metrics_sync.models.credential import RENEWAL_CLAIM
from metrics_sync.sandbox import Fault, FaultKind, SandboxServer
from tests.factories import IntegrationCredentialFactory, TrackedRepositoryFactory
from tests.test_settings import read

WORKERS = 20
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
TOKENS = "/app/installations/5/access_tokens"


def install(app: SandboxServer, **values: Any) -> IntegrationCredential:
    """Install the App on acme, and link that installation to a team."""
    app.world.add_repository("acme/anvil", private=True)
    installation = app.world.add_installation(5, "acme")
    account_id = installation.account_id
    fields = {"kind": "app", "access_token": "", "installation_id": 5, "account_id": account_id}
    return IntegrationCredentialFactory(**{**fields, **values})


@pytest.fixture
def credential(app: SandboxServer, db: None) -> IntegrationCredential:
    return install(app)


def count_renewals(app: SandboxServer) -> int:
    seen = [request for request in app.requests if request.path == TOKENS]
    return len([request for request in seen if request.method == "POST"])


def find(credential: IntegrationCredential) -> str:
    """Find the token as the next worker does, which reads the row itself."""
    row = IntegrationCredential.objects.defer("access_token").get(pk=credential.pk)
    return find_token(row, api_url=app_settings.GITHUB_API_URL)


def at_once(work: Callable[[], Any]) -> list[Any]:
    """Do the same in twenty threads that begin together, each with its own connection."""
    barrier = Barrier(WORKERS)

    def begin(_: int) -> Any:
        barrier.wait()
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(begin, range(WORKERS)))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("left", "may_be_old"),
    [
        pytest.param(2 * MINUTE, True, id="about to expire"),
        pytest.param(-MINUTE, False, id="expired"),
        pytest.param(None, False, id="never had one"),
    ],
)
def test_twenty_workers_make_one_renewal(
    app: SandboxServer, left: timedelta | None, may_be_old: bool
) -> None:
    """Otherwise each hour would begin with nineteen needless requests."""
    expires_at = left and timezone.now() + left
    credential = install(app, access_token="ghs_old", expires_at=expires_at)
    app.faults.add(Fault(FaultKind.SLOW, path=TOKENS, seconds=0.5))

    found = at_once(lambda: find(credential))

    credential.refresh_from_db()
    assert count_renewals(app) == 1
    assert set(found) - {"ghs_old"} == {credential.access_token}
    assert may_be_old or "ghs_old" not in found


@pytest.mark.long(seconds=5)
@pytest.mark.django_db(transaction=True)
def test_twenty_workers_that_are_refused_make_one_renewal(app: SandboxServer) -> None:
    """GitHub revokes a token early when somebody suspends the App for a moment."""
    credential = install(app, access_token="ghs_revoked", expires_at=timezone.now() + HOUR)
    repository = TrackedRepositoryFactory(
        full_name="acme/anvil", team=credential.team, integration__credential=credential
    )

    def ask() -> Any:
        row = TrackedRepository.objects.select_related("integration__credential").get()
        access = Access.of(row, is_bulk=False)
        return access.ask(lambda github: github.call(github.api.repos.get, "acme", "anvil")).body

    found = at_once(ask)

    assert count_renewals(app) == 1
    assert {body["full_name"] for body in found} == {repository.full_name}


def test_token_is_kept_while_it_lasts(
    app: SandboxServer, credential: IntegrationCredential
) -> None:
    """It is valid for an hour, and renewed shortly before the end."""
    first = find(credential)
    second = find(credential)
    IntegrationCredential.objects.update(expires_at=timezone.now() + 4 * MINUTE)
    third = find(credential)

    assert (first == second, first == third, count_renewals(app)) == (True, False, 2)


def test_token_is_encrypted_at_rest(app: SandboxServer, credential: IntegrationCredential) -> None:
    """It reads private repositories, if only for an hour."""
    token = find(credential)

    with connection.cursor() as cursor:
        cursor.execute("SELECT access_token FROM metrics_sync_integrationcredential")
        [(stored,)] = cursor.fetchall()
    assert token.startswith("ghs_")
    assert token not in stored


def test_claim_of_a_dead_worker_ends(app: SandboxServer, credential: IntegrationCredential) -> None:
    """The claim of the renewal ends by itself."""
    assert credential.claim_renewal()
    IntegrationCredential.objects.update(renewing_until=timezone.now() - MINUTE)

    assert find(credential).startswith("ghs_")
    assert timedelta(seconds=tokens.RENEWAL_TIMEOUT_SECONDS) < RENEWAL_CLAIM


def test_failed_renewal_leaves_the_next_one_free(
    app: SandboxServer, credential: IntegrationCredential
) -> None:
    """A short outage of GitHub must not stop later renewals."""
    fault = app.faults.add(Fault(FaultKind.STATUS, path=TOKENS, status=502))
    with pytest.raises(RetrySoonError):
        find(credential)
    app.faults.clear()

    assert find(credential).startswith("ghs_")
    assert fault.status == 502


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param("suspend_installation", "suspended", id="suspended"),
        pytest.param("remove_installation", "404", id="removed"),
    ],
)
def test_deleted_installation_is_reported_once(
    app: SandboxServer, credential: IntegrationCredential, harm: str, message: str
) -> None:
    """The webhook that reports the deletion may be lost."""
    getattr(app.world, harm)(5)
    with pytest.raises(CredentialRejectedError, match=message):
        find(credential)
    asked = len(app.requests)

    with pytest.raises(CredentialRejectedError, match="connect OWNER --app"):
        find(credential)

    credential.refresh_from_db()
    assert credential.revoked_at is not None
    assert (len(app.requests), credential.renewing_until) == (asked, None)


def test_installation_on_another_account_gives_no_token(
    app: SandboxServer, credential: IntegrationCredential
) -> None:
    """A forged webhook could store another organisation's installation."""
    app.world.add_installation(6, "vault")
    IntegrationCredential.objects.update(installation_id=6)

    with pytest.raises(CredentialRejectedError, match="another account"):
        find(credential)

    assert {request.method for request in app.requests} == {"GET"}


def test_renewal_for_a_former_installation_does_no_harm(
    app: SandboxServer, credential: IntegrationCredential
) -> None:
    """The App may be installed again while a worker renews the old token."""
    old = IntegrationCredential.objects.get()
    app.world.remove_installation(5)
    app.world.add_installation(6, "acme")
    credential.link_installation(6, account_id=app.world.installations[6].account_id)

    with pytest.raises(CredentialRejectedError):
        find_token(old, api_url=app.url)
    old.store_installation_token("ghs_late", expires_at=timezone.now() + HOUR)

    assert find(credential).startswith("ghs_")
    assert find(credential) != "ghs_late"


def test_nobody_waits_for_others_for_ever(
    app: SandboxServer, credential: IntegrationCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that fail one after the other would delay the last one for minutes."""
    assert credential.claim_renewal()
    monkeypatch.setattr(tokens, "RENEWAL_CLAIM", timedelta(0))

    with pytest.raises(RetrySoonError, match="within 45 s"):
        find(credential)

    assert app.requests == []


def test_token_of_the_app_goes_to_no_other_github(
    app: SandboxServer, credential: IntegrationCredential
) -> None:
    """Otherwise a user who edits an API root could have the token sent to another host."""
    with pytest.raises(UnsafeAddressError, match="personal access token"):
        find_token(credential, api_url="https://elsewhere.example/api/v3")

    assert app.requests == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"METRICS_SYNC_GITHUB_APP_ID": "1"}, "does not accept GITHUB_APP_ID", id="wrong id"
        ),
        pytest.param({"METRICS_SYNC_GITHUB_APP_ID": ""}, "not both set", id="no id"),
        pytest.param({"METRICS_SYNC_GITHUB_APP_PRIVATE_KEY": "key"}, "no RSA key", id="no key"),
    ],
)
def test_fault_of_the_app_itself_is_no_fault_of_the_installation(
    settings: Settings, credential: IntegrationCredential, changes: dict[str, str], message: str
) -> None:
    """Once the key is corrected, everything must continue by itself."""
    for name, value in changes.items():
        setattr(settings, name, value)

    with pytest.raises(AppUnavailableError, match=message):
        find(credential)

    credential.refresh_from_db()
    assert credential.revoked_at is None


def test_key_with_escaped_line_ends_works(app_keys: tuple[str, str]) -> None:
    """Many secret stores keep only one line."""
    one_line = app_keys[0].replace("\n", "\\n")

    name = "METRICS_SYNC_GITHUB_APP_PRIVATE_KEY"

    assert read(name, GITHUB_APP_PRIVATE_KEY=one_line) == {name: app_keys[0]}


def test_token_that_no_key_decrypts_is_renewed(
    app: SandboxServer, settings: Settings, credential: IntegrationCredential
) -> None:
    """GitHub issues another one at any time."""
    find(credential)
    settings.METRICS_SYNC_TOKEN_ENCRYPTION_KEYS = ["A" * 43 + "="]

    assert find(credential).startswith("ghs_")
    assert count_renewals(app) == 2


def test_personal_token_is_returned_as_it_is(app: SandboxServer, db: None) -> None:
    """A personal token is renewed by its owner."""
    credential = IntegrationCredentialFactory(access_token="ghp_mine")

    assert (find(credential), app.requests) == ("ghp_mine", [])


def test_token_of_the_app_follows_no_redirect_to_another_host(
    app: SandboxServer, credential: IntegrationCredential
) -> None:
    """The App's signature opens all of its installations."""
    with SandboxServer() as other:
        for path in ("/app/installations/5$", TOKENS):
            location = f"{other.url}/app/installations/5"
            app.faults.add(Fault(FaultKind.UNKNOWN_REDIRECT, path=path, location=location))
            with pytest.raises(GitHubError):
                find(credential)
            app.faults.clear()
        seen = other.requests

    assert seen == []


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(FaultKind.STATUS, path=TOKENS, status=502), id="bad gateway"),
        pytest.param(Fault(FaultKind.SECONDARY_LIMIT, path=TOKENS), id="too fast"),
    ],
)
def test_failed_early_renewal_leaves_the_old_token_in_use(
    app: SandboxServer, credential: IntegrationCredential, fault: Fault
) -> None:
    """The old token is valid for some minutes, and a merge must not wait."""
    old = find(credential)
    IntegrationCredential.objects.update(expires_at=timezone.now() + 4 * MINUTE)
    app.faults.add(fault)

    assert find(credential) == old


def test_worker_that_was_too_slow_frees_no_claim_of_another(
    credential: IntegrationCredential,
) -> None:
    """Otherwise a third worker would renew at the same time as the second."""
    slow, other = IntegrationCredential.objects.get(), IntegrationCredential.objects.get()
    assert slow.claim_renewal()
    IntegrationCredential.objects.update(renewing_until=timezone.now() - MINUTE)
    assert other.claim_renewal()

    slow.release_renewal()

    assert not credential.claim_renewal()
