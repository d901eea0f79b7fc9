"""What the webhook of a GitHub App changes, and for which teams."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from metrics_sync.exceptions import MalformedDeliveryError
from metrics_sync.ingest import record_delivery, track_repositories
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import (
    AuditEntry,
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    TrackedRepository,
    WebhookDelivery,
)
from metrics_sync.sandbox import SandboxServer, build_pull_request_event, make_recording
from metrics_sync.sandbox.payloads import (
    build_installation_event,
    build_installation_repositories_event,
)
from metrics_sync.sandbox.shapes import repository as build_repository
from metrics_sync.sandbox.world import Installation
from metrics_sync.snapshot import RepositoryItem
from metrics_sync.work.verification import verify_due
from tests.factories import TrackedRepositoryFactory

ACCOUNT_ID = Installation(5, "acme").account_id
ANVIL = build_repository("acme/anvil", repository_id=101)
HAMMER = build_repository("acme/hammer", repository_id=102)


@pytest.fixture
def anvil(db: None) -> TrackedRepository:
    """A repository of a team that is linked to the installation on acme, and follows it."""
    return link("forge")


def link(team: str, *, follows: bool = True) -> TrackedRepository:
    return TrackedRepositoryFactory(
        full_name="acme/anvil",
        github_repo_id=101,
        team__slug=team,
        integration__follows_installation=follows,
        integration__credential__kind="app",
        integration__credential__installation_id=5,
        integration__credential__account_id=ACCOUNT_ID,
    )


def receive(
    event: str, payload: dict[str, Any], integration: GitHubIntegration | None = None
) -> WebhookDelivery:
    """Record a delivery of the App's own webhook, or of an integration's."""
    delivery = Delivery(
        guid=str(uuid4()),
        event=event,
        action=payload["action"],
        github_repo=(payload.get("repository") or {}).get("full_name", ""),
        payload=payload,
        text=json.dumps(payload),
    )
    return record_delivery(delivery, integration=integration)


def give(*added: Any, removed: tuple[Any, ...] = (), installation_id: int = 5) -> WebhookDelivery:
    payload = build_installation_repositories_event(
        installation_id, "acme", added=added, removed=removed
    )
    return receive("installation_repositories", payload)


def install(action: str, *repositories: Any, installation_id: int = 5) -> WebhookDelivery:
    payload = build_installation_event(action, installation_id, "acme", repositories=repositories)
    return receive("installation", payload)


def list_tracked() -> set[tuple[str, str]]:
    rows = TrackedRepository.objects.active()
    return set(rows.values_list("team__slug", "full_name"))


def read_credential() -> IntegrationCredential:
    return IntegrationCredential.objects.get()


@pytest.mark.django_db
@pytest.mark.parametrize("send", [lambda: install("created", ANVIL), lambda: give(ANVIL)])
def test_installation_that_no_operator_linked_is_ignored_and_says_what_to_do(send: Any) -> None:
    """Anybody can install a public App; that must not give any team rows."""
    row = send()

    assert row.status == WebhookDelivery.Status.IGNORED
    assert "`manage.py connect acme --app --team SLUG`" in row.error
    assert not GitHubIntegration.objects.exists()


def test_repository_that_is_given_later_is_tracked(anvil: TrackedRepository) -> None:
    """Operators need not connect each new repository by hand."""
    row = give(HAMMER)

    assert row.status == WebhookDelivery.Status.PROCESSED
    assert list_tracked() == {("forge", "acme/anvil"), ("forge", "acme/hammer")}


@pytest.mark.django_db
def test_team_that_named_one_repository_gets_no_other() -> None:
    """The team was linked to that one only, and must not see the others."""
    link("forge", follows=False)

    row = give(HAMMER)

    assert (row.status, list_tracked()) == ("ignored", {("forge", "acme/anvil")})


@pytest.mark.django_db
def test_repository_that_was_named_comes_back_with_the_app() -> None:
    """Removing the App and installing it again must not lose the team's repository."""
    link("forge", follows=False)

    TrackedRepository.objects.update(is_active=False)

    install("created", ANVIL, HAMMER, installation_id=6)

    assert list_tracked() == {("forge", "acme/anvil")}


@pytest.mark.parametrize(
    "send", [lambda: give(removed=(ANVIL,)), lambda: install("deleted")], ids=["one", "all"]
)
def test_removal_of_a_repository_is_a_hint(
    anvil: TrackedRepository, send: Callable[[], WebhookDelivery]
) -> None:
    """The delivery may be late or repeated, so GitHub is asked as the App."""
    row = send()

    anvil.refresh_from_db()
    assert (row.status, anvil.is_active) == ("processed", True)
    assert anvil.doubted_at is not None


def test_added_repository_is_untracked_until_github_shows_it(
    anvil: TrackedRepository,
) -> None:
    """Otherwise the shared webhook would send the team its deliveries."""
    TrackedRepository.objects.update(is_active=False)

    give(ANVIL, HAMMER)

    rows = TrackedRepository.objects.active()
    assert {(row.full_name, row.verified_at) for row in rows} == {
        ("acme/anvil", None),
        ("acme/hammer", None),
    }
    assert rows.to_verify(timezone.now()).count() == 2


@pytest.mark.parametrize("is_active", [True, False])
def test_repository_of_a_personal_token_stays_so(anvil: TrackedRepository, is_active: bool) -> None:
    """The team may use a personal token for a repository that the App cannot read."""
    other = TrackedRepositoryFactory(
        team=anvil.team,
        full_name="acme/hammer",
        is_active=is_active,
        integration__organization_slug="by token",
    )

    give(HAMMER)
    give(removed=(HAMMER,))

    other.refresh_from_db()
    assert (other.is_active, other.integration != anvil.integration) == (is_active, True)


@pytest.mark.parametrize(
    ("action", "is_late", "is_revoked"),
    [
        pytest.param("suspend", False, True, id="suspended"),
        pytest.param("suspend", True, False, id="resumed since"),
        pytest.param("deleted", False, True, id="removed"),
        pytest.param("deleted", True, False, id="never removed"),
        pytest.param("new_permissions_accepted", True, False, id="something else"),
    ],
)
def test_credential_is_revoked_if_github_itself_refuses_the_installation(
    app: SandboxServer,
    anvil: TrackedRepository,
    action: str,
    *,
    is_late: bool,
    is_revoked: bool,
) -> None:
    """A delivery may come late or twice, and anybody with the secret can sign one."""
    app.world.add_installation(5, "acme")
    app.world.add_repository("acme/anvil", repository_id=101)
    if not is_late:
        end = {"suspend": app.world.suspend_installation, "deleted": app.world.remove_installation}
        end[action](5)

    install(action)
    before = read_credential().revoked_at
    verify_due()

    assert before is None
    assert (read_credential().revoked_at is not None) == is_revoked


def test_resumed_installation_is_used_again(app: SandboxServer, anvil: TrackedRepository) -> None:
    """One delivery is enough; the clock's hourly try is for lost deliveries."""
    anvil.integration.credential.mark_revoked()

    install("unsuspend")

    assert read_credential().revoked_at is None


def test_app_that_is_installed_again_goes_on(anvil: TrackedRepository) -> None:
    """The account is the same, and so is the team that it is linked to."""
    install("deleted")
    install("created", ANVIL, HAMMER, installation_id=6)

    credential = read_credential()
    assert (credential.installation_id, credential.revoked_at) == (6, None)
    assert (credential.access_token, credential.expires_at) == ("", None)
    assert list_tracked() == {("forge", "acme/anvil"), ("forge", "acme/hammer")}


def test_event_of_a_former_installation_changes_nothing(anvil: TrackedRepository) -> None:
    """Events arrive late."""
    install("created", ANVIL, installation_id=6)

    statuses = [install("deleted").status, give(removed=(ANVIL,)).status]

    assert (statuses, list_tracked()) == (["ignored"] * 2, {("forge", "acme/anvil")})


@pytest.mark.parametrize("event", ["created", "suspend", "deleted"])
def test_webhook_of_an_integration_changes_no_installation(
    anvil: TrackedRepository, event: str
) -> None:
    """A team knows its secret, and could name another organisation's installation."""
    payload = build_installation_event(event, 6, "acme", repositories=[HAMMER])

    row = receive("installation", payload, anvil.integration)

    credential = read_credential()
    assert (row.status, credential.installation_id, credential.revoked_at) == ("ignored", 5, None)


@pytest.mark.parametrize("installation_id", [5, 6, None])
def test_merge_reaches_every_team_that_tracks_the_repository(
    anvil: TrackedRepository, installation_id: int | None
) -> None:
    """One team reads it as the App, another with a token of its own."""
    TrackedRepositoryFactory(team__slug="vault", full_name="acme/anvil", github_repo_id=101)
    recording = make_recording("acme/anvil", 7, repository_id=101)
    payload = build_pull_request_event(recording, "closed", installation_id=installation_id)

    receive("pull_request", payload)

    rows = PullRequest.objects.order_by("team__slug").values_list("team__slug", flat=True)
    assert list(rows) == ["forge", "vault"]


def test_changes_are_in_the_audit_log(anvil: TrackedRepository) -> None:
    """No operator made these changes."""
    row = give(HAMMER)
    install("deleted")

    *doubts, removed, added = AuditEntry.objects.all()
    assert (added.actor, added.team) == (f"webhook delivery {row.guid}", anvil.team)
    assert (added.change, removed.change) == ("tracked: acme/hammer", "installation 5: deleted")
    reason = "GitHub is asked: a delivery says that its installation is removed"
    # acme/hammer is asked about anyway, as it is new.
    assert [entry.change for entry in doubts] == [reason]


def test_name_that_a_delivery_gives_is_a_hint(anvil: TrackedRepository) -> None:
    """The webhook of the rename may be lost, and this delivery may be late."""
    give({**ANVIL, "full_name": "acme/hammock"})

    anvil.refresh_from_db()
    assert (list_tracked(), anvil.doubted_at is not None) == ({("forge", "acme/anvil")}, True)


def test_repository_of_another_github_with_the_same_id_stays(anvil: TrackedRepository) -> None:
    """Each GitHub server has its own ids."""
    TrackedRepositoryFactory(
        team=anvil.team,
        full_name="inner/tools",
        github_repo_id=HAMMER["id"],
        integration__api_url="https://ghe.acme.example/api/v3",
    )

    give(HAMMER)

    names = {name for _, name in list_tracked()}
    assert names == {"acme/anvil", "acme/hammer", "inner/tools"}


def test_malformed_name_is_refused(anvil: TrackedRepository) -> None:
    """The name becomes part of an address."""
    with pytest.raises(MalformedDeliveryError):
        give({**HAMMER, "full_name": "acme/../../user"})

    assert list_tracked() == {("forge", "acme/anvil")}


def test_statements_do_not_grow_with_the_added_repositories(
    anvil: TrackedRepository,
) -> None:
    """An organisation may add three hundred at once, and GitHub waits 10 seconds."""
    items = [RepositoryItem(70_000 + n, f"acme/given-{n}") for n in range(300)]

    with CaptureQueriesContext(connection) as queries:
        added = track_repositories(anvil.integration, items)

    assert len(added) == 300
    # SQLite splits what has too many parameters.
    assert len(queries) <= 6


def test_repository_that_is_added_twice_has_one_row(anvil: TrackedRepository) -> None:
    """Names ignore case, and deliveries are repeated."""
    items = [RepositoryItem(71, "acme/Given"), RepositoryItem(71, "acme/given")]

    track_repositories(anvil.integration, items[:1])
    track_repositories(anvil.integration, items)

    assert TrackedRepository.objects.named("acme/given").count() == 1
