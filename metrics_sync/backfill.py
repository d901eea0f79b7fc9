"""Fetches merged pull requests in bulk, and leaves to the queue what that cannot bring."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

from django.conf import settings
from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.exceptions import (
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    GoneError,
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


class Wanted(NamedTuple):
    """A pull request to fetch; `item` is what GitHub's list had of it, if it comes from there."""

    github_pr_id: int
    number: int
    item: PullRequestItem | None = None


class Backfill:
    """Merged pull requests of one repository: first `look` or `take`, then `fetch`.

    Safe to repeat, to run twice at once, and to kill at any time: a pull request is stored whole
    or not at all, and one that is complete is not fetched again. `wait` is called with the time
    until which GitHub wants us to wait; without it RateLimitedError is raised.
    """

    def __init__(
        self,
        repository: TrackedRepository,
        *,
        wait: Callable[[datetime], None] | None = None,
    ) -> None:
        self.repository = repository
        self.points = Points(reserve=settings.RATE_LIMIT_RESERVE)
        self.tally = Tally()
        self.missing: list[Wanted] = []
        self._access = Access.of(repository, is_bulk=True)
        self._wait = wait
        #: A refused token of an App is renewed once, until something came with the new one.
        self._may_renew = True

    @property
    def estimated_points(self) -> int:
        """What it costs to fetch what is missing."""
        return estimate_points(len(self.missing))

    def take(self, rows: Iterable[PullRequest]) -> None:
        """Want these rows; those whose number is not known are left out."""
        self.missing += [
            Wanted(row.github_pr_id, row.github_pr_number) for row in rows if row.github_pr_number
        ]
        self.tally.found = len(self.missing)

    def look(self, *, since: datetime) -> Iterator[int]:
        """List what merged since then and find what is missing, yielding how many were found.

        The latest changes come first. Only reads, but for a new name of the repository. A list
        that ends before its total is among the errors. Raises GitHubError.
        """
        cursor, listed, total = None, 0, 0
        while True:
            page = self._ask(
                partial(
                    list_merged,
                    full_name=self.repository.full_name,
                    since=since,
                    cursor=cursor,
                )
            )
            self._follow(page.full_name)
            self._sort_out(page.items)
            # Merges that came meanwhile are on pages that were read.
            listed, total = listed + page.length, total or page.total
            yield self.tally.found
            cursor = page.cursor
            if cursor is None:
                break
        if page.is_end and listed < total:
            self.tally.errors.append(f"GitHub lists {listed} of {total} merges; run this again")

    def _follow(self, full_name: str) -> None:
        """Follow the repository to its new name; GraphQL answers under the old one, too."""
        if full_name != self.repository.full_name:
            self.repository.rename(full_name)
        if not self.repository.is_active:
            raise GoneError(f"it is {full_name} now, which its team tracks as well")

    def _sort_out(self, items: Sequence[PullRequestItem]) -> None:
        rows = PullRequest.objects.filter(
            team=self.repository.team, github_pr_id__in=[item.github_pr_id for item in items]
        )
        complete = rows.filter(sync_status=SyncStatus.COMPLETE)
        known = set(complete.values_list("github_pr_id", flat=True))
        missing = [
            Wanted(item.github_pr_id, item.github_pr_number, item)
            for item in items
            if item.github_pr_id not in known
        ]
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
        self, batches: Iterable[list[Wanted]]
    ) -> Iterator[tuple[list[Wanted], Results]]:
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[tuple[list[Wanted], Future[Results]]] = deque()
            for batch in batches:
                if ahead and self._find_wait():
                    # What has come must not be lost, or grow old, over a wait of an hour.
                    yield self._await(pool, *ahead.popleft())
                ahead.append((batch, self._submit(pool, batch)))
                if len(ahead) > 1:
                    yield self._await(pool, *ahead.popleft())
            while ahead:
                yield self._await(pool, *ahead.popleft())

    def _await(
        self, pool: ThreadPoolExecutor, batch: list[Wanted], future: Future[Results]
    ) -> tuple[list[Wanted], Results]:
        while True:
            try:
                return batch, future.result()
            except GitHubError as error:
                self._bear(error)
            future = self._submit(pool, batch)

    def _submit(self, pool: ThreadPoolExecutor, batch: list[Wanted]) -> Future[Results]:
        self._heed()
        return pool.submit(self._fetch_batch, batch)

    def _fetch_batch(self, batch: list[Wanted]) -> Results:
        numbers = [wanted.number for wanted in batch]
        return self._converse(
            partial(fetch_snapshots, full_name=self.repository.full_name, numbers=numbers)
        )

    def _ask(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        while True:
            self._heed()
            try:
                return self._converse(question)
            except GitHubError as error:
                self._bear(error)

    def _find_wait(self) -> datetime | None:
        """Return until when GitHub wants others who ask with the same token to wait, if it does."""
        credential = self.repository.integration.credential
        credential.refresh_from_db(fields=["revoked_at", "wait_until"])
        until = credential.wait_until
        return until if until is not None and until > timezone.now() else None

    def _heed(self) -> None:
        """Heed what GitHub told others who ask with the same token, and have one that lasts."""
        if until := self._find_wait():
            self._bear(BudgetSpentError(f"waits until {until:%Y-%m-%d %H:%M} UTC", until=until))
        # After the wait: a token of an App may have ended by then.
        self._access = Access.of(self.repository, is_bulk=True)
        self._access.check_token()

    def _converse(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        """Have a conversation with GitHub; without the database, as a thread has it, too."""
        return asyncio.run(_converse(self._access, self.points, question))

    def _bear(self, error: GitHubError) -> None:
        """Wait until GitHub may be asked again, or raise; other workers get to know the reason.

        Not of points that are used up: what they ask REST for is counted apart.
        """
        if isinstance(error, CredentialRejectedError) and self._may_renew:
            self._may_renew = False
            if self._access.renew():
                return
        if isinstance(error, SecondaryLimitError) or not isinstance(error, RateLimitedError):
            self._access.note([error])
        if self._wait is None or not isinstance(error, RateLimitedError):
            raise error
        self._wait(error.until)

    def _store(self, batch: Sequence[Wanted], results: Results) -> None:
        self._may_renew = True
        listed = [wanted.item for wanted in batch if wanted.item]
        store.save_missed_merges(self.repository.team, listed)
        rows = self._load_rows(batch)
        for wanted in batch:
            if row := rows.get(wanted.github_pr_id):
                self._settle(row, results[wanted.number])

    def _load_rows(self, batch: Sequence[Wanted]) -> dict[int, PullRequest]:
        rows = PullRequest.objects.filter(
            team=self.repository.team, github_pr_id__in=[wanted.github_pr_id for wanted in batch]
        )
        rows = rows.in_repositories([self.repository.full_name]).select_related("team", "author")
        return {row.github_pr_id: row for row in rows}

    def _settle(self, row: PullRequest, result: Snapshot | GitHubError) -> None:
        tally = self.tally
        if row.sync_status == SyncStatus.COMPLETE:
            tally.complete += 1
        elif _is_at_work(row):
            tally.busy += 1
        elif not isinstance(result, Snapshot) or not _is_of(row, result):
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


def _is_of(row: PullRequest, snapshot: Snapshot) -> bool:
    """Whether it is that pull request; REST says so of a number that was given again."""
    return snapshot.pull_request.github_pr_id == row.github_pr_id


def _is_at_work(row: PullRequest) -> bool:
    """Whether a job is on it, and has given a sign of life."""
    if row.sync_status != SyncStatus.RUNNING:
        return False
    mine = PullRequest.objects.filter(pk=row.pk)
    return not mine.silent_since(timezone.now() - STUCK_AFTER).exists()
