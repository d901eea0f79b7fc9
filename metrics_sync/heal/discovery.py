"""Finds merges whose deliveries never came, and has GitHub send those that failed again."""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.access.tokens import ask_as_app
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import (
    CredentialRejectedError,
    GoneError,
    MetricsSyncError,
    PermissionMissingError,
)
from metrics_sync.github import (
    GitHub,
    fetch_merges,
    redeliver_failed,
    redeliver_failed_of_app,
)
from metrics_sync.heal.finding import Scope, list_repositories
from metrics_sync.models import IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.models.pull_request import PullRequestQuerySet
from metrics_sync.observe import counting
from metrics_sync.snapshot import PullRequestItem
from metrics_sync.work.rounds import hold_round, note_round

logger = logging.getLogger(__name__)

#: How far back the first search of a repository goes.
FIRST_SEARCH = timedelta(days=30)
#: How far each further search goes back behind the begin of the last one.
OVERLAP = timedelta(hours=1)
#: A repository that was searched so short a time ago is left out by the clock, which searches once
#: an hour: while no worker runs its jobs pile up, and then they all run at once.
SEARCHED_LATELY = timedelta(minutes=30)
#: When a round of the clock ends, and how long a round whose process died keeps others away: it
#: gives a sign of life after each repository.
ROUND_LASTS = timedelta(minutes=30)
ROUND_HOLD = timedelta(minutes=10)
#: How long GitHub Enterprise Server keeps deliveries. GitHub itself lists those of three days, so
#: with either one what is listed can be sent again.
#: https://docs.github.com/en/webhooks/testing-and-troubleshooting-webhooks/viewing-webhook-deliveries
DELIVERIES_KEPT = timedelta(days=7)


def discover_lost() -> dict[str, Any]:
    """Search every tracked repository for missed merges; the clock runs it once an hour.

    The repositories that were searched longest ago come first, and those of the last half hour are
    left out. A round ends after ROUND_LASTS, and the next one goes on. Two rounds never run at
    once. Safe to repeat. The merges found wait for the next `requeue_due`.
    """
    found, errors = 0, list[str]()
    with hold_round("discover_lost", lasts=ROUND_HOLD) as go_on:
        if go_on is None:
            return {"discovered": 0, "errors": []}
        ends_at = timezone.now() + ROUND_LASTS
        for repository, count, error in discover(_list_due(), since=None, dry_run=False):
            found += count
            if error:
                errors.append(f"{repository}: {error}")
                logger.warning("Cannot search %s for missed merges: %s", repository, error)
            if timezone.now() > ends_at or not go_on():
                break
    logger.info("Discovered %s merges that no webhook reported", found)
    note_round("discover_lost", discovered=found, errors=len(errors))
    return {"discovered": found, "errors": errors}


def _list_due() -> list[TrackedRepository]:
    """Return the tracked repositories in the order of their last search, the never searched first.

    Without those of the last half hour (less, where CLOCK_SPEEDUP makes the clock's hour shorter).
    """
    never = datetime.min.replace(tzinfo=UTC)
    lately = timezone.now() - SEARCHED_LATELY / app_settings.CLOCK_SPEEDUP
    last = {row: row.discovered_until or never for row in list_repositories(Scope())}
    return sorted((row for row in last if last[row] < lately), key=lambda row: last[row])


def discover(
    repositories: Iterable[TrackedRepository], *, since: datetime | None, dry_run: bool
) -> Iterator[tuple[TrackedRepository, int, str]]:
    """Search for missed merges, yielding each repository, how many were found, and an error or "".

    Each repository's list is read newest change first, back to `since`, else to an hour before the
    last search began, else 30 days. Found merges become `pending` rows (none with `dry_run`);
    the bookmark moves only when a search reached its end. Safe to repeat. A refused token is an
    error once, however many repositories need a new one.
    """
    refused: set[int] = set()
    for repository in repositories:
        began_at = timezone.now()
        bookmark = repository.discovered_until
        start = since or (bookmark - OVERLAP if bookmark else began_at - FIRST_SEARCH)
        try:
            items = Access.of(repository, is_bulk=True).ask(
                partial(_list_merges, repository, start)
            )
        except CredentialRejectedError as error:
            credential_id = repository.integration.credential_id
            yield repository, 0, "" if credential_id in refused else str(error)
            refused.add(credential_id)
            continue
        except MetricsSyncError as error:
            yield repository, 0, str(error)
            continue
        if not store.is_own(repository, (item.base_repo_id for item in items)):
            yield repository, 0, _doubt(repository, dry_run=dry_run)
        elif dry_run:
            yield repository, len(items) - _select_known(repository, items).count(), ""
        else:
            found = _save_found(repository, items, start=start, began_at=began_at)
            yield repository, found, ""


def _doubt(repository: TrackedRepository, *, dry_run: bool) -> str:
    """Have GitHub asked about a repository whose name belongs to another; return the error."""
    reason = f"{repository.full_name} is another repository now"
    if not dry_run:
        store.doubt(repository, reason=reason, actor="the search for lost merges")
    return f"{reason}; GitHub is asked for ours"


def _save_found(
    repository: TrackedRepository,
    items: list[PullRequestItem],
    *,
    start: datetime,
    began_at: datetime,
) -> int:
    """Save the merges that a search back to `start` found; return how many are new.

    Moves the bookmark to `began_at`, unless the search stopped short of the old bookmark.
    """
    bookmark = repository.discovered_until
    own = [item for item in items if item.base_repo_id == repository.github_repo_id]
    if own and own[0].base_repo:
        repository.rename(own[0].base_repo)
    found = store.save_missed_merges(repository.team, items, repository=repository)
    _note_changes(repository, items)
    # Merges from before the repository was connected were not lost.
    counting.count("merges", found, source="discovered" if bookmark else "first_search")
    if bookmark is None or start <= bookmark:
        repository.discovered_until = began_at
        repository.save(update_fields=["discovered_until"])
    return found


def recover(
    repositories: Iterable[TrackedRepository],
) -> Iterator[tuple[TrackedRepository, int, str]]:
    """Have GitHub send failed deliveries again, yielding each repository, how many, and an error
    or "".

    Goes back as far as GitHub does. The webhook of a GitHub App serves all of its repositories, so
    its deliveries are recovered once, with the first of them. Safe to repeat: a delivery that
    arrived since is not sent again. A token that may not read webhooks, or is refused, recovers
    nothing, which is no error here: `discover` finds the merges all the same, and says what is
    wrong with a token.
    """
    is_app_asked = False
    for repository in repositories:
        integration = repository.integration
        if integration.credential.kind == IntegrationCredential.Kind.APP:
            count, error = (0, "") if is_app_asked else _recover_app()
            is_app_asked = True
            yield repository, count, error
            continue
        question = partial(
            redeliver_failed,
            full_name=repository.full_name,
            endings=integration.list_webhook_endings(),
            since=timezone.now() - DELIVERIES_KEPT,
        )
        try:
            yield repository, Access.of(repository, is_bulk=True).ask(question), ""
        except (GoneError, PermissionMissingError, CredentialRejectedError):
            yield repository, 0, ""
        except MetricsSyncError as error:
            yield repository, 0, str(error)


def _recover_app() -> tuple[int, str]:
    since = timezone.now() - DELIVERIES_KEPT
    try:
        return ask_as_app(partial(redeliver_failed_of_app, since=since)), ""
    except MetricsSyncError as error:
        return 0, str(error)


async def _list_merges(
    repository: TrackedRepository, start: datetime, github: GitHub
) -> list[PullRequestItem]:
    pages = fetch_merges(github, repository.full_name, since=start)
    return [item async for page in pages for item in page]


def _note_changes(repository: TrackedRepository, items: Collection[PullRequestItem]) -> None:
    """Have rows fetched again that changed at GitHub since we read them, with no webhook."""
    known = _select_known(repository, items)
    read_at = dict(known.values_list("github_pr_id", "pr_updated_at"))
    changed = [
        item.github_pr_id
        for item in items
        if (moment := read_at.get(item.github_pr_id)) is not None
        and item.pr_updated_at is not None
        and item.pr_updated_at > moment
    ]
    known.filter(github_pr_id__in=changed).note_change()


def _select_known(
    repository: TrackedRepository, items: Iterable[PullRequestItem]
) -> PullRequestQuerySet:
    ids = [item.github_pr_id for item in items]
    return PullRequest.objects.merged().filter(repository=repository, github_pr_id__in=ids)
