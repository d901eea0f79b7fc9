"""Which addresses a token may be sent to, at every door through which one can come in."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from httpx2 import URL
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import Settings

from metrics_sync.access import Access
from metrics_sync.api_roots import find_fault, serves_host
from metrics_sync.exceptions import UnsafeAddressError
from metrics_sync.heal.discovery import discover_lost
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.models import GitHubIntegration, IntegrationCredential, TrackedRepository
from metrics_sync.sandbox import DEFAULT_TOKEN, SandboxServer, Token, make_recording
from tests.factories import (
    GitHubIntegrationFactory,
    IntegrationCredentialFactory,
    PullRequestFactory,
    TrackedRepositoryFactory,
)

GOOD = [
    "https://api.github.com",
    "https://ghe.acme.com/api/v3",
    "https://ghe.acme.com:8443/api/v3/",
    "https://10.1.2.3/api/v3",
    "https://[fd00::1]/api/v3",
    "https://100.64.1.2/api/v3",
    "https://168.63.129.17",
    "https://[64:ff9b::808:808]",
    "https://metadata.acme.com/api/v3",
]
LOCAL = [
    "https://localhost/api/v3",
    "https://LOCALHOST.",
    "https://git.localhost",
    "https://127.0.0.1",
    "https://127.0.0.1.:8443",
    "https://[::1]",
    "https://0.0.0.0",
    "https://169.254.169.254/latest",
    "https://[fe80::1]",
    "https://[::ffff:169.254.169.254]",
    "https://224.0.0.1",
    "https://[fec0::1]",
    # The same inside an address of IPv6.
    "https://[2002:7f00:1::]",
    # Metadata services of clouds.
    "https://[fd00:ec2::254]",
    "https://[fd00:ec2:0::254]",
    "https://[fd00:ec2::23]",
    "https://[fd20:ce::254]",
    "https://[fd00:c1::a9fe:a9fe]",
    "https://[fd00:42::42]",
    "https://100.100.100.200",
    "https://168.63.129.16/api/v3",
    "https://192.0.0.192",
    "https://metadata.google.internal",
    "https://METADATA.google.internal.:443/api/v3",
    "https://metadata",
    "https://metadata.tencentyun.com",
    "https://instance-data.ec2.internal",
    "https://ip6-localhost",
    # The same where IPv6 is translated to IPv4.
    "https://[64:ff9b::169.254.169.254]",
    "https://[64:ff9b::a83f:8110]",
    "https://[64:ff9b:1::7f00:1]",
    "https://[::ffff:168.63.129.16]",
    # Other ways to write 127.0.0.1, which the system's resolver takes.
    "https://127.1",
    "https://2130706433",
    "https://0x7f000001",
    "https://0177.0.0.1",
]
ODD = [
    "",
    "api.github.com",
    "ftp://ghe.acme.com",
    "https://",
    "https://user:password@ghe.acme.com",
    "https://ghe.acme.com/api/v3?a=b",
    "https://ghe.acme.com/api/v3#a",
    "https://ghe.acme.com\\@127.0.0.1",
    "https://ghe.acme.com /api",
    "https://ghe.acme.com\n",
    "https://ghe.acmé.com",
    "https://ghe.acme.com/%2e%2e",
    "https://ghe.acme.com:65536",
]


@pytest.mark.parametrize("url", GOOD)
def test_address_of_a_github_is_taken(url: str) -> None:
    """Enterprise lives in private networks, too."""
    assert find_fault(url, is_development=False) == ""


@pytest.mark.parametrize("url", [*LOCAL, *ODD, "http://ghe.acme.com/api/v3"])
def test_any_other_address_is_refused(url: str) -> None:
    """A team could have the service ask its own machine, or the cloud's metadata service."""
    assert find_fault(url, is_development=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://localhost/api/v3"])
def test_development_machine_may_ask_itself(url: str) -> None:
    """The sandbox is there."""
    assert find_fault(url, is_development=True) == ""


@pytest.mark.parametrize("url", ODD)
def test_odd_address_is_refused_in_development_too(url: str) -> None:
    """It would not work anyway."""
    assert find_fault(url, is_development=True)


@hypothesis_settings(deadline=None)
@given(st.from_regex(r"https://[ -~]{1,30}", fullmatch=True))
def test_client_asks_the_host_that_was_looked_at(url: str) -> None:
    """Two readers of one address that disagree are how such rules are got round."""
    if find_fault(url, is_development=False) == "":
        rest = url.removeprefix("https://").lower()
        assert rest.startswith(URL(url).netloc.decode().removesuffix(":443"))


# The doors: `connect` and the admin have tests of their own.


@pytest.mark.django_db
@pytest.mark.parametrize("url", [*LOCAL, "http://ghe.acme.com/api/v3"])
def test_integration_with_such_an_address_is_not_valid(url: str) -> None:
    """Whatever form or script writes one."""
    integration = GitHubIntegrationFactory.build(api_url=url)

    for row in (integration, integration.credential):
        with pytest.raises(ValidationError, match="no API root"):
            row.clean_fields(exclude=["team", "credential", "access_token"])


@pytest.fixture
def repository(sandbox: SandboxServer, db: None) -> TrackedRepository:
    """A repository on a GitHub of its own, which is on this machine."""
    return TrackedRepositoryFactory(
        full_name="acme/anvil",
        integration__api_url=f"{sandbox.url}/api/v3",
        integration__credential__access_token=DEFAULT_TOKEN,
    )


@pytest.mark.usefixtures("redis")
def test_row_with_such_an_address_is_not_asked(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """It may be older than the rule, or written past it."""
    row = PullRequestFactory(merged=True, team=repository.team, github_repo="acme/anvil")

    result = fetch_pr_complete_data(row.pk)
    report = discover_lost()
    with pytest.raises(UnsafeAddressError, match="connect again"):
        Access.of(repository, is_bulk=False)

    assert sandbox.requests == []
    assert "nothing is sent to http://127.0.0.1" in result["errors"][0]
    assert "nothing is sent to http://127.0.0.1" in report["errors"][0]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL keeps such a row out")
def test_token_is_sent_to_no_other_api_root_than_its_own(
    sandbox: SandboxServer, settings: Settings, repository: TrackedRepository
) -> None:
    """Whoever may write integrations would read every token of the team."""
    settings.DEBUG = True
    GitHubIntegration.objects.update(api_url=sandbox.url)

    repository = TrackedRepository.objects.get()
    with pytest.raises(UnsafeAddressError, match="another API root"):
        Access.of(repository, is_bulk=False)

    assert sandbox.requests == []


@pytest.mark.skipif(connection.vendor != "postgresql", reason="a key of two columns")
def test_database_keeps_a_token_with_its_api_root(repository: TrackedRepository) -> None:
    """Whatever form, command or script writes the row."""
    for rows in (GitHubIntegration.objects, IntegrationCredential.objects):
        with pytest.raises(IntegrityError), transaction.atomic():
            rows.update(api_url="https://ghe.evil.example/api/v3")


@pytest.mark.django_db
def test_token_of_the_app_is_for_the_default_api_root() -> None:
    """The App's key signs for one GitHub."""
    with pytest.raises(IntegrityError), transaction.atomic():
        IntegrationCredentialFactory(kind="app", api_url="https://ghe.acme.example/api/v3")


def test_enterprise_server_without_rate_limits_never_waits(
    sandbox: SandboxServer, settings: Settings, repository: TrackedRepository
) -> None:
    """It has no such headers, and unknown is not zero."""
    settings.DEBUG = True
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=None))
    recording = sandbox.world.add(make_recording("acme/anvil", 7))
    values: dict[str, Any] = {"github_pr_id": recording.pull["id"], "github_pr_number": 7}
    row = PullRequestFactory(merged=True, team=repository.team, github_repo="acme/anvil", **values)

    fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    credential = GitHubIntegration.objects.get().credential
    assert (row.sync_status, {request.status for request in sandbox.requests}) == (
        "complete",
        {200},
    )
    assert (credential.rate_limit, credential.rate_limit_remaining) == (None, None)
    assert (credential.find_pause(is_bulk=True), credential.find_pause()) == (None, None)


@pytest.mark.parametrize(
    ("api_root", "host", "is_served"),
    [
        ("https://api.github.com", "github.com", True),
        ("https://api.github.com", "www.github.com", True),
        ("https://api.github.com", "api.github.com", True),
        ("https://api.github.com", "", True),
        ("https://api.github.com", "gitlab.com", False),
        ("https://api.github.com", "github.com.evil.example", False),
        ("https://ghe.acme.com/api/v3", "ghe.acme.com", True),
        ("https://ghe.acme.com/api/v3", "github.com", False),
        ("http://127.0.0.1:8080", "github.com", True),
    ],
)
def test_pasted_host_belongs_to_one_github(api_root: str, host: str, *, is_served: bool) -> None:
    """`acme/anvil` at another GitHub is another repository."""
    assert serves_host(api_root, host) == is_served
