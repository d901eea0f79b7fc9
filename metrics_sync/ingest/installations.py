"""Applies webhook events about installations of the GitHub App.

Only deliveries of the shared endpoint count, because its secret is the App's. An installation
belongs to no team by itself: an operator links its account to a team with `connect --app`.
Events of any other account are ignored.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from shlex import quote
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Upper

from metrics_sync.exceptions import UnlinkedInstallationError
from metrics_sync.ingest.webhooks import Delivery
from metrics_sync.models import GitHubIntegration, IntegrationCredential, TrackedRepository
from metrics_sync.names import RepositoryName
from metrics_sync.snapshot import RepositoryItem, read_repository
from metrics_sync.store.auditing import record_change
from metrics_sync.store.repositories import doubt, hint


def save_installation(delivery: Delivery, integration: GitHubIntegration | None) -> bool:
    """Apply the creation, suspension, resumption or removal of an installation.

    Raises UnlinkedInstallationError when no team is linked to its account.
    """
    if integration is not None:
        return False
    installation_id = int(delivery.payload["installation"]["id"])
    if delivery.action == "created":
        for linked in _list_linked(delivery):
            _install_again(linked, installation_id, delivery)
        return True
    rows = IntegrationCredential.objects.filter(
        kind=IntegrationCredential.Kind.APP, installation_id=installation_id
    )
    for credential in rows.select_related("team").defer("access_token"):
        _follow(credential, delivery)
    return bool(rows) and delivery.action in {"deleted", "suspend", "unsuspend"}


def save_installation_repositories(
    delivery: Delivery, integration: GitHubIntegration | None
) -> bool:
    """Track repositories that a followed installation is given; verify those taken from it.

    Raises UnlinkedInstallationError when no team is linked to its account.
    """
    if integration is not None:
        return False
    removed = [item["id"] for item in delivery.payload["repositories_removed"]]
    installation_id = int(delivery.payload["installation"]["id"])
    is_handled = False
    for linked in _list_linked(delivery).filter(credential__installation_id=installation_id):
        rows = linked.repositories.active().filter(github_repo_id__in=removed)
        for row in rows.select_related("team"):
            doubt(row, reason="a delivery says that it is taken away", actor=_name_actor(delivery))
            is_handled = True
        added = _track_given(linked, delivery.payload["repositories_added"])
        is_handled |= bool(added)
        _record(linked, delivery, added=added)
    return is_handled


def track_repositories(
    integration: GitHubIntegration, items: Iterable[RepositoryItem]
) -> list[str]:
    """Track repositories with an integration; return the names of those that were not tracked.

    Safe to repeat. Repositories that the team reads with another integration stay with it. The
    number of statements grows only with the number of renamed repositories.
    """
    items = list(items)
    known = _Known(integration, items)
    new, resumed = list[TrackedRepository](), list[TrackedRepository]()
    for item in items:
        row = known.find(item)
        if row is None:
            row = known.add(item)
            new.append(row)
        elif row.integration_id == integration.pk and not row.is_active:
            row.is_active = True
            resumed.append(row)
    TrackedRepository.objects.bulk_create(new)
    TrackedRepository.objects.filter(pk__in=[row.pk for row in resumed]).update(is_active=True)
    return [row.full_name for row in (*new, *resumed)]


class _Known:
    """A team's rows of some repositories, read with one statement."""

    def __init__(self, integration: GitHubIntegration, items: Collection[RepositoryItem]) -> None:
        names = Q(name__in=[item.full_name.upper() for item in items])
        ids = Q(github_repo_id__in=[item.github_repo_id for item in items])
        rows = integration.team.repositories.filter(integration__api_url=integration.api_url)
        rows = rows.annotate(name=Upper("full_name")).filter(names | ids).select_related("team")
        # Another GitHub server has other repositories with the same ids and names.
        self._integration, found = integration, list(rows)
        self._by_id = {row.github_repo_id: row for row in found if row.github_repo_id is not None}
        # A row with that name and another id is another repository.
        self._by_name = {row.full_name.upper(): row for row in found if row.github_repo_id is None}

    def find(self, item: RepositoryItem) -> TrackedRepository | None:
        """Return the row with that id, renamed if needed, else a row with the name and no id."""
        row = self._by_id.get(item.github_repo_id)
        if row is None:
            return self._by_name.get(item.full_name.upper())
        if row.full_name != item.full_name:
            row.rename(item.full_name)
        return row

    def add(self, item: RepositoryItem) -> TrackedRepository:
        row = TrackedRepository(
            team=self._integration.team,
            integration=self._integration,
            full_name=item.full_name,
            github_repo_id=item.github_repo_id,
        )
        self._by_id[item.github_repo_id] = row
        return row


def _list_linked(delivery: Delivery) -> QuerySet[GitHubIntegration]:
    account = delivery.payload["installation"]["account"]
    rows = GitHubIntegration.objects.filter(
        credential__kind=IntegrationCredential.Kind.APP, credential__account_id=int(account["id"])
    )
    if not rows.exists():
        raise UnlinkedInstallationError(
            f"No team is linked to the GitHub App on {account['login']}. "
            f"`manage.py connect {quote(account['login'])} --app --team SLUG` links one."
        )
    rows = rows.select_related("team", "credential__team")
    return rows.defer("webhook_secret", "credential__access_token")


def _install_again(linked: GitHubIntegration, installation_id: int, delivery: Delivery) -> None:
    """Use a new installation on the account that the team is linked to.

    Before its first token, GitHub is asked whether it is on that account.
    """
    credential = linked.credential
    if credential.installation_id != installation_id or credential.revoked_at is not None:
        account_id = int(delivery.payload["installation"]["account"]["id"])
        credential.link_installation(installation_id, account_id=account_id)
        _record(linked, delivery, change=f"goes on as installation {installation_id}")
    added = _track_given(linked, delivery.payload.get("repositories") or [])
    _record(linked, delivery, added=added)


def _follow(credential: IntegrationCredential, delivery: Delivery) -> None:
    """Have GitHub asked before a suspension or a removal is believed; it may be over by now.

    Each repository is asked about with a new token. GitHub issues none for an installation that is
    suspended or removed, and only then the credential is revoked.
    """
    match delivery.action:
        case "suspend" | "deleted":
            credential.discard_token()
        case "unsuspend":
            credential.mark_accepted()
        case _:
            return
    for linked in credential.integrations.select_related("team").defer("webhook_secret"):
        change = f"installation {credential.installation_id}: {delivery.action}"
        _record(linked, delivery, change=change)
        if delivery.action != "unsuspend":
            state = "removed" if delivery.action == "deleted" else "suspended"
            for row in linked.repositories.active().select_related("team"):
                reason = f"a delivery says that its installation is {state}"
                doubt(row, reason=reason, actor=_name_actor(delivery))


def _track_given(linked: GitHubIntegration, values: Iterable[Any]) -> list[str]:
    """Track the repositories that a delivery lists; return the names of the new ones.

    A team that follows single repositories gets no others. Known repositories keep their names
    until GitHub confirms new ones. The shared endpoint applies nothing to a new repository until
    GitHub has shown it to the team's own token.
    """
    items = [read_repository(value) for value in values]
    rows = linked.repositories.filter(github_repo_id__in=[item.github_repo_id for item in items])
    known = {row.github_repo_id: row for row in rows.select_related("team")}
    if not linked.follows_installation:
        items = [item for item in items if item.github_repo_id in known]
    for index, item in enumerate(items):
        row = known.get(item.github_repo_id)
        if row is not None and row.full_name != item.full_name:
            reason = f"a delivery calls it {item.full_name}"
            doubt(row, reason=reason, actor=f"installation of {linked}")
            items[index] = replace(item, full_name=RepositoryName(row.full_name))
    added = track_repositories(linked, items)
    if added:
        hint(linked.repositories.filter(full_name__in=added))
    return added


def _record(
    linked: GitHubIntegration,
    delivery: Delivery,
    *,
    change: str = "",
    added: Iterable[str] = (),
) -> None:
    tracked = f"tracked: {names}" if (names := ", ".join(added)) else ""
    changes = "; ".join(filter(None, [change, tracked]))
    record_change(actor=_name_actor(delivery), subject=linked, change=changes)


def _name_actor(delivery: Delivery) -> str:
    return f"webhook delivery {delivery.guid}"
