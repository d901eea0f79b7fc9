"""Asks GitHub about repositories that a hint put in doubt, with their own teams' tokens."""

import logging
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.access.tokens import ask_as_app
from metrics_sync.exceptions import CredentialRejectedError, GoneError, MetricsSyncError
from metrics_sync.github import (
    fetch_installation_by_id,
    fetch_installation_repositories,
    fetch_repository,
    fetch_repository_by_id,
)
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.snapshot import RepositoryItem

logger = logging.getLogger(__name__)

#: How many repositories one round asks about at most.
MOST_REPOSITORIES = 200
#: How long a repository waits when GitHub refuses its team's token, or does not answer.
REFUSED_PAUSE = timedelta(hours=1)
FAILED_PAUSE = timedelta(minutes=5)

ACTOR = "GitHub's answer"

#: The repositories that an installation of the App may read, by GitHub's id.
Installed = Mapping[int, RepositoryItem]


def verify_due() -> dict[str, Any]:
    """Ask GitHub about the repositories that are due; a hint queues this job, and the clock does.

    Safe to repeat, and to run twice at once. Sends one request for each repository; for those of a
    GitHub App's installation one list, as only the list says what the App may read. Pull requests
    that belong to no repository get the one of their name.
    """
    _adopt()
    asked, errors, lists = 0, [], dict[int, Installed]()
    due = TrackedRepository.objects.to_verify(timezone.now()).with_credentials()
    for repository in due[:MOST_REPOSITORIES]:
        if not repository.claim_verification():
            continue
        asked += 1
        try:
            verify(repository, lists)
        except MetricsSyncError as error:
            errors.append(f"{repository}: {error}")
            logger.warning("Cannot ask GitHub about %s: %s", repository, error)
    return {"asked": asked, "errors": errors}


def verify(repository: TrackedRepository, lists: dict[int, Installed] | None = None) -> None:
    """Ask GitHub about one repository, and write the answer.

    `lists` keeps the lists of installations between calls. Raises MetricsSyncError when there is no
    answer; GitHub is then asked again later.
    """
    try:
        item = _ask(repository, {} if lists is None else lists)
    except GoneError as error:
        store.note_gone(repository, reason=f"GitHub shows none to its token: {error}", actor=ACTOR)
    except CredentialRejectedError as error:
        if _is_removed(repository.integration.credential):
            store.note_gone(repository, reason=str(error), actor=ACTOR)
            return
        repository.postpone_verification(timezone.now() + REFUSED_PAUSE)
        raise
    except MetricsSyncError:
        repository.postpone_verification(timezone.now() + FAILED_PAUSE)
        raise
    else:
        store.confirm(repository, item, actor=ACTOR)


def _ask(repository: TrackedRepository, lists: dict[int, Installed]) -> RepositoryItem:
    access = Access.of(repository, is_bulk=False)
    github_repo_id, credential = repository.github_repo_id, repository.integration.credential
    if github_repo_id is None:
        return access.ask(partial(fetch_repository, full_name=repository.full_name))
    if credential.kind != IntegrationCredential.Kind.APP:
        return access.ask(partial(fetch_repository_by_id, github_repo_id=github_repo_id))
    if credential.pk not in lists:
        items = access.ask(fetch_installation_repositories)
        lists[credential.pk] = {item.github_repo_id: item for item in items}
    if github_repo_id not in lists[credential.pk]:
        raise GoneError("the GitHub App may not read it any more")
    return lists[credential.pk][github_repo_id]


def _is_removed(credential: IntegrationCredential) -> bool:
    """Whether the App was removed from its account; a suspended App may come back."""
    installation_id = credential.installation_id
    if credential.kind != IntegrationCredential.Kind.APP or installation_id is None:
        return False
    try:
        found = ask_as_app(partial(fetch_installation_by_id, installation_id=installation_id))
    except GoneError:
        return True
    except MetricsSyncError:
        return False
    return found.account_id != credential.account_id


def _adopt() -> None:
    """Give pull requests without a repository the tracked one of their name."""
    orphans = PullRequest.objects.filter(repository=None).order_by()
    names = orphans.values_list("team", "github_repo").distinct()
    tracked = {
        (row.team_id, row.full_name.lower()): row for row in TrackedRepository.objects.active()
    }
    for team_id, name in names:
        if repository := tracked.get((team_id, name.lower())):
            repository.adopt_pull_requests()
