"""Connects a team to repositories: checks the token at GitHub, and stores what a fetch needs."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

from django.db import transaction

from metrics_sync.access import Access
from metrics_sync.access.tokens import ask_as_app
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import GoneError, NarrowTokenError, PermissionMissingError
from metrics_sync.github import (
    NEEDED,
    OPTIONAL,
    GitHub,
    InstallationItem,
    InstallationToken,
    fetch_installation,
    fetch_installation_repositories,
    fetch_installation_token,
    fetch_repository,
    list_missing_permissions,
)
from metrics_sync.heal.releasing import release_parked
from metrics_sync.ingest import track_repositories
from metrics_sync.models import GitHubIntegration, IntegrationCredential, Team
from metrics_sync.snapshot import RepositoryItem
from metrics_sync.store import record_change, track_named

Kind = IntegrationCredential.Kind


@dataclass(frozen=True, slots=True)
class Found:
    """The repositories of one owner that a token can read, and the token itself.

    `unreadable` has a sentence for each optional kind of data that the token may not read: what is
    then missing, and GitHub's reason.
    """

    owner: str
    items: Collection[RepositoryItem]
    token: str = field(repr=False)
    api_url: str
    unreadable: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class FoundInstallation(Found):
    """The same for a GitHub App; `is_whole` if repositories that it is given later count, too."""

    installation: InstallationItem = field(kw_only=True)
    issued: InstallationToken = field(kw_only=True)
    is_whole: bool = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Connection:
    """What `connect` stored; `is_new` if it tracks a repository that was not tracked before."""

    integration: GitHubIntegration
    repositories: Collection[str]
    is_new: bool
    is_new_team: bool


def check_access(full_name: str, *, token: str, api_url: str) -> Found:
    """Ask GitHub with the token for the repository, and for one item of each kind that is fetched.

    Raises GitHubError, whose message says what is wrong; PermissionMissingError names every
    missing permission.
    """
    access = Access(api_url=api_url, token=token)
    item = access.ask(partial(fetch_repository, full_name=full_name))
    unreadable = access.ask(partial(_check_permissions, full_name=item.full_name))
    return Found(item.full_name.partition("/")[0], [item], token, api_url, unreadable)


def check_installation(name: str) -> FoundInstallation:
    """Do the same as the GitHub App: for OWNER/NAME, or for all repositories of OWNER that it has.

    Raises GitHubError, whose message says what is wrong.
    """
    installation = ask_as_app(partial(fetch_installation, name=name))
    issued = ask_as_app(
        partial(
            fetch_installation_token,
            installation_id=installation.installation_id,
            account_id=installation.account_id,
        )
    )
    access = Access(api_url=app_settings.GITHUB_API_URL, token=issued.token)
    is_whole = "/" not in name
    if is_whole:
        items = access.ask(fetch_installation_repositories)
    else:
        items = [access.ask(partial(fetch_repository, full_name=name))]
    unreadable: Collection[str] = ()
    if items:
        unreadable = access.ask(partial(_check_permissions, full_name=items[0].full_name))
    return FoundInstallation(
        installation.account,
        items,
        issued.token,
        app_settings.GITHUB_API_URL,
        unreadable,
        installation=installation,
        issued=issued,
        is_whole=is_whole,
    )


async def _check_permissions(github: GitHub, *, full_name: str) -> list[str]:
    missing = await list_missing_permissions(github, full_name)
    if needed := [name for name in NEEDED if name in missing]:
        raise PermissionMissingError(
            f"the token may not read {', '.join(needed)} ({missing[needed[0]]})"
        )
    return [f"{name}: {OPTIONAL[name]} ({reason})" for name, reason in missing.items()]


def check_others(found: Found, *, team_slug: str) -> None:
    """Refuse a token that cannot read the team's other repositories of the same owner.

    They share the token. Sends one request for each. Raises NarrowTokenError, which names the
    unreadable ones, or another GitHubError.
    """
    integration = _find_integration(found, team_slug=team_slug)
    if integration is None:
        return
    known = {item.full_name for item in found.items}
    others = integration.repositories.active().values_list("full_name", flat=True)
    names = [name for name in others if name.lower() not in {one.lower() for one in known}]
    access = Access(api_url=found.api_url, token=found.token)
    unreadable = access.ask(partial(_list_unreadable, names))
    if unreadable:
        raise NarrowTokenError(
            f"the team's other repositories of this owner share the token, and it cannot read "
            f"{', '.join(unreadable)}; grant it access, or `manage.py disconnect` them"
        )


async def _list_unreadable(names: list[str], github: GitHub) -> list[str]:
    asked = (fetch_repository(github, name) for name in names)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    unreadable = []
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, GoneError | PermissionMissingError):
            unreadable.append(name)
        elif isinstance(answer, BaseException):
            raise answer
    return unreadable


def _get_own_url(found: Found) -> str:
    return "" if found.api_url == app_settings.GITHUB_API_URL else found.api_url


def _find_integration(found: Found, *, team_slug: str) -> GitHubIntegration | None:
    """Return a team's integration for an owner, without loading its secrets."""
    rows = GitHubIntegration.objects.select_related("credential__team", "team")
    rows = rows.defer("credential__access_token", "webhook_secret").filter(team__slug=team_slug)
    return rows.filter(organization_slug__iexact=found.owner, api_url=_get_own_url(found)).first()


@transaction.atomic
def save_connection(found: Found, *, team_slug: str, team_name: str, actor: str) -> Connection:
    """Store the team, credential, integration and tracked repository, in one transaction.

    Safe to repeat: existing rows are kept, and a new token replaces the old one and releases the
    pull requests that waited for it. All repositories of one owner in a team share an integration.
    """
    team, is_new_team = _find_or_make_team(team_slug, name=team_name, actor=actor)
    integration = _save_integration(found, team=team, kind=Kind.TOKEN, actor=actor)
    integration.credential.store_token(found.token)
    transaction.on_commit(partial(release_parked, integration.credential))
    record_change(actor=actor, subject=integration.credential, change="new access token stored")
    [item] = found.items
    names, is_new = _track_named(integration, item, actor=actor)
    return Connection(integration, names, is_new, is_new_team)


@transaction.atomic
def save_installation(
    found: FoundInstallation, *, team_slug: str, team_name: str, actor: str
) -> Connection:
    """Link an installation of the GitHub App to a team; store the same as `save_connection`.

    Safe to repeat. From then on, deliveries of the App's webhook are written to this team's rows.
    If the whole account was named, repositories that the App is given later are tracked, too.
    """
    installation, issued = found.installation, found.issued
    team, is_new_team = _find_or_make_team(team_slug, name=team_name, actor=actor)
    integration = _save_integration(found, team=team, kind=Kind.APP, actor=actor)
    credential = integration.credential
    credential.link_installation(installation.installation_id, account_id=installation.account_id)
    credential.store_installation_token(issued.token, expires_at=issued.expires_at)
    transaction.on_commit(partial(release_parked, credential))
    change = f"linked to installation {installation.installation_id} on {installation.account}"
    record_change(actor=actor, subject=credential, change=change)
    if not found.is_whole:
        [item] = found.items
        names, is_new = _track_named(integration, item, actor=actor)
        return Connection(integration, names, is_new, is_new_team)
    integration.follows_installation = True
    integration.save(update_fields=["follows_installation"])
    added = track_repositories(integration, found.items)
    integration.repositories.note_shown(item.github_repo_id for item in found.items)
    change = f"follows its installation; tracked: {', '.join(added) or 'nothing new'}"
    record_change(actor=actor, subject=integration, change=change)
    names = [item.full_name for item in found.items]
    return Connection(integration, names, bool(added), is_new_team)


def _find_or_make_team(slug: str, *, name: str, actor: str) -> tuple[Team, bool]:
    team, is_new = Team.objects.get_or_create(slug=slug, defaults={"name": name})
    if is_new:
        record_change(actor=actor, subject=team, change="made")
    return team, is_new


def _save_integration(found: Found, *, team: Team, kind: Kind, actor: str) -> GitHubIntegration:
    """Return the team's integration for an owner, with a credential of that kind."""
    integration = _find_integration(found, team_slug=team.slug)
    if integration is not None and integration.credential.kind == kind:
        return integration
    api_url = _get_own_url(found)
    credential = IntegrationCredential.objects.create(team=team, kind=kind, api_url=api_url)
    if integration is None:
        integration = GitHubIntegration.objects.create(
            team=team,
            credential=credential,
            organization_slug=found.owner,
            api_url=api_url,
        )
        change = f"made for {integration.get_api_root()}"
    else:
        change = _replace_credential(integration, credential)
    record_change(actor=actor, subject=integration, change=change)
    return integration


def _replace_credential(integration: GitHubIntegration, credential: IntegrationCredential) -> str:
    """Give the integration a credential of another kind; delete the old one if it is unused."""
    former, integration.credential = integration.credential, credential
    integration.follows_installation = False
    integration.save(update_fields=["credential", "follows_installation"])
    if not former.integrations.exists():
        former.delete()
    return f"uses a {credential.get_kind_display()} in place of a {former.get_kind_display()}"


def _track_named(
    integration: GitHubIntegration, item: RepositoryItem, *, actor: str
) -> tuple[list[str], bool]:
    """Track one repository with this integration, even if another one tracked it before."""
    _, is_new = track_named(integration, item, actor=actor)
    if is_new:
        record_change(actor=actor, subject=integration, change=f"tracked: {item.full_name}")
    return [item.full_name], is_new
