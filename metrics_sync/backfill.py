"""Fetches merged pull requests in bulk, and leaves to the queue what that cannot bring."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

from django.conf import settings
from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.exceptions import (
    GitHubError,
    QueueUnavailableError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.github import (
    FETCHED,
    GitHub,
    GraphQL,
    Points,
    estimate_points,
    fetch_snapshots,
    list_merged,
)
from metrics_sync.jobs import save_fetched
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.pull_request import STUCK_AFTER, SyncStatus
from metrics_sync.queueing import BULK, enqueue_fetch
from metrics_sync.snapshot import PullRequestItem, Snapshot

Answer = TypeVar("Answer")
Results = dict[int, Snapshot | GitHubError]


@dataclass(slots=True)
class Tally:
    """What became of the pull requests that were found."""

    found: int = 0
    #: Nothing had to be done about them.
    complete: int = 0
    #: Complete now.
    fetched: int = 0
    #: Queued for REST, some with most of their lists fetched already.
    queued: int = 0
    #: A job has them.
    busy: int = 0
    #: Not complete and not queued; reconcile finds them.
    left: int = 0
    errors: list[str] = field(default_factory=list)


class Backfill:
    """The merged pull requests of one repository since a moment, the latest changes first.

    Safe to repeat, to run twice at once, and to kill at any time: a pull request is stored whole
    or not at all, and one that is complete is not fetched again. `wait` is called with the time
    until which GitHub wants us to wait; without it RateLimitedError is raised.
    """

    def __init__(
        self,
        repository: TrackedRepository,
        *,
        since: datetime,
        wait: Callable[[datetime], None] | None = None,
    ) -> None:
        self.repository, self.since = repository, since
        self.points = Points(reserve=settings.RATE_LIMIT_RESERVE)
        self.tally = Tally()
        self.missing: list[PullRequestItem] = []
        self._access = Access.of(repository, is_bulk=True)
        self._wait = wait

    @property
    def estimated_points(self) -> int:
        """What it costs to fetch what is missing."""
        return estimate_points(len(self.missing))

    def look(self) -> Iterator[int]:
        """List what was merged and find what is missing, yielding how many were found so far.

        Only reads, but for a new name of the repository. Raises GitHubError.
        """
        cursor = None
        while True:
            page = self._ask(
                partial(
                    list_merged,
                    full_name=self.repository.full_name,
                    since=self.since,
                    cursor=cursor,
                )
            )
            if page.full_name.lower() != self.repository.full_name.lower():
                self.repository.rename(page.full_name)
            self._sort_out(page.items)
            yield self.tally.found
            cursor = page.cursor
            if cursor is None:
                return

    def _sort_out(self, items: Sequence[PullRequestItem]) -> None:
        rows = PullRequest.objects.filter(
            team=self.repository.team, github_pr_id__in=[item.github_pr_id for item in items]
        )
        complete = rows.filter(sync_status=SyncStatus.COMPLETE)
        known = set(complete.values_list("github_pr_id", flat=True))
        missing = [item for item in items if item.github_pr_id not in known]
        self.missing += missing
        self.tally.found += len(items)
        self.tally.complete += len(items) - len(missing)

    def fetch(self) -> Iterator[int]:
        """Fetch and store what is missing, yielding after each query how many are done with.

        The next query is under way while what the last one brought is stored. Raises GitHubError.
        """
        batches = [self.missing[n : n + FETCHED] for n in range(0, len(self.missing), FETCHED)]
        for batch, results in self._fetch_ahead(batches):
            self._store(batch, results)
            yield len(batch)

    def _fetch_ahead(
        self, batches: Iterable[list[PullRequestItem]]
    ) -> Iterator[tuple[list[PullRequestItem], Results]]:
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[tuple[list[PullRequestItem], Future[Results]]] = deque()
            for batch in batches:
                ahead.append((batch, pool.submit(self._fetch_batch, batch)))
                if len(ahead) > 1:
                    yield self._await(pool, *ahead.popleft())
            while ahead:
                yield self._await(pool, *ahead.popleft())

    def _await(
        self, pool: ThreadPoolExecutor, batch: list[PullRequestItem], future: Future[Results]
    ) -> tuple[list[PullRequestItem], Results]:
        while True:
            try:
                return batch, future.result()
            except GitHubError as error:
                self._bear(error)
            future = pool.submit(self._fetch_batch, batch)

    def _fetch_batch(self, batch: list[PullRequestItem]) -> Results:
        numbers = [item.github_pr_number for item in batch]
        return self._converse(
            partial(fetch_snapshots, full_name=self.repository.full_name, numbers=numbers)
        )

    def _ask(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        while True:
            try:
                return self._converse(question)
            except GitHubError as error:
                self._bear(error)

    def _converse(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        """Have a conversation with GitHub; without the database, as a thread has it, too."""
        self._access.check_token()
        return asyncio.run(_converse(self._access, self.points, question))

    def _bear(self, error: GitHubError) -> None:
        """Wait until GitHub may be asked again, or raise; other workers get to know the reason.

        Not of points that are used up: what they ask REST for is counted apart.
        """
        if isinstance(error, SecondaryLimitError) or not isinstance(error, RateLimitedError):
            self._access.note([error])
        if self._wait is None or not isinstance(error, RateLimitedError):
            raise error
        self._wait(error.until)

    def _store(self, batch: Sequence[PullRequestItem], results: Results) -> None:
        found = [results[item.github_pr_number] for item in batch]
        items = [
            result.pull_request if isinstance(result, Snapshot) else item
            for item, result in zip(batch, found, strict=True)
        ]
        store.save_missed_merges(self.repository.team, items)
        rows = self._load_rows(items)
        for item, result in zip(items, found, strict=True):
            self._settle(rows[item.github_pr_id], result)

    def _load_rows(self, items: Sequence[PullRequestItem]) -> dict[int, PullRequest]:
        rows = PullRequest.objects.filter(
            team=self.repository.team, github_pr_id__in=[item.github_pr_id for item in items]
        )
        rows = rows.in_repositories([self.repository.full_name]).select_related("team", "author")
        return {row.github_pr_id: row for row in rows}

    def _settle(self, row: PullRequest, result: Snapshot | GitHubError) -> None:
        tally = self.tally
        if row.sync_status == SyncStatus.COMPLETE:
            tally.complete += 1
        elif _is_at_work(row):
            tally.busy += 1
        elif not isinstance(result, Snapshot):
            self._enqueue(row)
        elif not save_fetched(row, result):
            tally.busy += 1
        elif row.sync_status == SyncStatus.COMPLETE:
            tally.fetched += 1
        else:
            self._enqueue(row)

    def _enqueue(self, row: PullRequest) -> None:
        """Have REST fetch what is missing; with Redis down the row waits for reconcile."""
        try:
            if enqueue_fetch(row, queue_name=BULK):
                self.tally.queued += 1
            else:
                self.tally.busy += 1
        except QueueUnavailableError as error:
            self.tally.left += 1
            if self.tally.left == 1:
                self.tally.errors.append(str(error))


async def _converse(
    access: Access, points: Points, question: Callable[[GraphQL], Awaitable[Answer]]
) -> Answer:
    github = GitHub(api_url=access.api_url, token=access.token)
    async with github:
        return await question(GraphQL(github, access.api_url, points))


def _is_at_work(row: PullRequest) -> bool:
    """Whether a job is on it, and has given a sign of life."""
    if row.sync_status != SyncStatus.RUNNING:
        return False
    mine = PullRequest.objects.filter(pk=row.pk)
    return not mine.silent_since(timezone.now() - STUCK_AFTER).exists()
