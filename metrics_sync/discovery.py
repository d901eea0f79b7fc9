"""Finds merges at GitHub whose deliveries never came."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.exceptions import MetricsSyncError
from metrics_sync.github import GitHub, fetch_merges
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.snapshot import PullRequestItem

#: How far back the first look at a repository goes.
FIRST_LOOK = timedelta(days=30)
#: How far each look goes back behind the end of the last one.
OVERLAP = timedelta(hours=1)


def discover(
    repositories: Iterable[TrackedRepository], *, since: datetime | None, dry_run: bool
) -> Iterator[tuple[TrackedRepository, int, str]]:
    """Look for missed merges, yielding each repository, how many were found, and an error or "".

    Each repository is read newest change first, back to `since`, else to where the last look
    began less an hour, else 30 days. Found merges become `pending` rows (none with `dry_run`);
    the bookmark moves only when a look reached its end. Safe to repeat.
    """
    for repository in repositories:
        began_at = timezone.now()
        bookmark = repository.discovered_until
        start = since or (bookmark - OVERLAP if bookmark else began_at - FIRST_LOOK)
        try:
            items = Access.of(repository).ask(partial(_list_merges, repository, start))
        except MetricsSyncError as error:
            yield repository, 0, str(error)
            continue
        if dry_run:
            yield repository, len(items) - _count_known(repository, items), ""
            continue
        found = store.save_missed_merges(repository.team, items)
        if bookmark is None or start <= bookmark:
            repository.discovered_until = began_at
            repository.save(update_fields=["discovered_until"])
        yield repository, found, ""


async def _list_merges(
    repository: TrackedRepository, start: datetime, github: GitHub
) -> list[PullRequestItem]:
    pages = fetch_merges(github, repository.full_name, since=start)
    return [item async for page in pages for item in page]


def _count_known(repository: TrackedRepository, items: Iterable[PullRequestItem]) -> int:
    ids = [item.github_pr_id for item in items]
    rows = PullRequest.objects.merged().filter(team=repository.team)
    return rows.in_repositories([repository.full_name]).filter(github_pr_id__in=ids).count()
