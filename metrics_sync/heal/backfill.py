"""Fetches merged pull requests in bulk, and leaves to the queue what that cannot bring."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

from django.utils import timezone

from metrics_sync import store
from metrics_sync.access import Access
from metrics_sync.conf import app_settings
from metrics_sync.exceptions import (
    AppUnavailableError,
    BudgetSpentError,
    CredentialRejectedError,
    GitHubError,
    GoneError,
    NameReusedError,
    QueueUnavailableError,
    RateLimitedError,
    SecondaryLimitError,
)
from metrics_sync.github import (
    FETCHED,
    WHOLE,
    GitHub,
    GraphQL,
    Lacks,
    Points,
    estimate_points,
    fetch_merges,
    fetch_missing,
    fetch_snapshots,
    list_merged,
)
from metrics_sync.jobs import save_fetched
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.pull_request import STUCK_AFTER, SyncStatus
from metrics_sync.snapshot import Json, PullRequestItem, Snapshot
from metrics_sync.work.queueing import BULK, enqueue_fetch

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Results = dict[int, Snapshot | GitHubError]

#: What REST would not answer otherwise than GraphQL does.
FINAL = (AppUnavailableError, CredentialRejectedError, NameReusedError, RateLimitedError)

#: About how many requests REST takes for a pull request of which nothing has come.
REQUESTS_FOR_ONE = 9


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


class Trial(NamedTuple):
    """What one real query brought: of how many, how many whole, and the requests left to REST."""

    asked: int = 0
    whole: int = 0
    requests: int = 0

    def estimate_requests(self, count: int) -> int:
        return round(count * self.requests / self.asked) if self.asked else 0


class Backfill:
    """Merged pull requests of one repository: first `find_missing` or `take`, then `fetch`.

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
        self.points = Points(reserve=app_settings.RATE_LIMIT_RESERVE)
        self.tally = Tally()
        self.missing: list[Wanted] = []
        #: What the operator is told once: what was asked of REST in place of GraphQL, and why.
        self.notes: list[str] = []
        self._lacks: Lacks = {}
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

    def find_missing(self, *, since: datetime) -> Iterator[int]:
        """List what merged since then and find what is missing, yielding how many were found.

        The latest changes come first, from REST where GraphQL fails. Only reads, but for a new
        name of the repository. A list that ends before its total is among the errors. Raises
        GitHubError, and NameReusedError when the name is another repository's now.
        """
        try:
            yield from self._list_by_graphql(since)
        except FINAL:
            raise
        except GitHubError as error:
            self._note(f"GraphQL does not list the merges, so REST does ({error})")
            self.missing, self.tally = [], Tally()
            items = self._ask_rest(partial(_list_merges, self.repository.full_name, since))
            self._check_own(item.base_repo_id for item in items)
            self._add_missing(items)
            yield self.tally.found

    def _list_by_graphql(self, since: datetime) -> Iterator[int]:
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
            self._check_own([page.github_repo_id])
            self._follow(page.full_name)
            self._add_missing(page.items)
            # Merges that came meanwhile are on pages that were read.
            listed, total = listed + page.length, total or page.total
            yield self.tally.found
            cursor = page.cursor
            if cursor is None:
                break
        if page.is_end and listed < total:
            self.tally.errors.append(f"GitHub lists {listed} of {total} merges; run this again")

    def _check_own(self, github_repo_ids: Iterable[int | None]) -> None:
        """Raise NameReusedError when GitHub's answer is of another repository by this name."""
        if not store.is_own(self.repository, github_repo_ids):
            reason = f"{self.repository} is another repository now"
            store.doubt(self.repository, reason=reason, actor="the backfill")
            raise NameReusedError(f"{reason}; GitHub is asked for ours")

    def _follow(self, full_name: str) -> None:
        """Follow the repository to its new name; GraphQL answers under the old one, too."""
        if full_name != self.repository.full_name:
            self.repository.rename(full_name)
        if not self.repository.is_active:
            raise GoneError(f"it is {full_name} now, which its team tracks as well")

    def _add_missing(self, items: Sequence[PullRequestItem]) -> None:
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

    def try_out(self) -> Trial:
        """Send one real query, for the first of what is missing, and store nothing of it.

        Raises GitHubError.
        """
        numbers = [wanted.number for wanted in self.missing[:FETCHED]]
        if not numbers:
            return Trial()
        results = self._ask(
            partial(_fetch_or_leave, full_name=self.repository.full_name, numbers=numbers)
        )
        self._note_lacks()
        lists_left = [
            len(result.errors) if isinstance(result, Snapshot) else REQUESTS_FOR_ONE
            for result in results.values()
        ]
        return Trial(len(numbers), lists_left.count(0), sum(lists_left))

    def fetch(self) -> Iterator[int]:
        """Fetch and store what is missing, yielding after each query how many are done with.

        The next query is under way while what the last one brought is stored. Raises GitHubError.
        """
        batches = [self.missing[n : n + FETCHED] for n in range(0, len(self.missing), FETCHED)]
        for batch, results in self._fetch_ahead(batches):
            self._note_lacks()
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
                self._wait_or_raise(error)
            future = self._submit(pool, batch)

    def _submit(self, pool: ThreadPoolExecutor, batch: list[Wanted]) -> Future[Results]:
        self._wait_if_paused()
        return pool.submit(self._fetch_batch, batch)

    def _fetch_batch(self, batch: list[Wanted]) -> Results:
        numbers = [wanted.number for wanted in batch]
        return self._run_conversation(
            partial(_fetch_or_leave, full_name=self.repository.full_name, numbers=numbers)
        )

    def _ask(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        while True:
            self._wait_if_paused()
            try:
                return self._run_conversation(question)
            except GitHubError as error:
                self._wait_or_raise(error)

    def _find_wait(self) -> datetime | None:
        """Return until when GitHub wants others who ask with the same token to wait, if it does."""
        credential = self.repository.integration.credential
        credential.refresh_from_db(fields=["revoked_at", "wait_until"])
        until = credential.wait_until
        return until if until is not None and until > timezone.now() else None

    def _wait_if_paused(self) -> None:
        """Heed what GitHub told others who ask with the same token, and have one that lasts."""
        if until := self._find_wait():
            text = f"waits until {until:%Y-%m-%d %H:%M} UTC"
            self._wait_or_raise(BudgetSpentError(text, until=until))
        # After the wait: a token of an App may have ended by then.
        self._access = Access.of(self.repository, is_bulk=True)
        self._access.check_token()

    def _run_conversation(self, question: Callable[[GraphQL], Awaitable[Answer]]) -> Answer:
        """Have a conversation with GitHub; without the database, as a thread has it, too."""
        return asyncio.run(_run_conversation(self._access, self.points, self._lacks, question))

    def _wait_or_raise(self, error: GitHubError) -> None:
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

    def _ask_rest(self, question: Callable[[GitHub], Awaitable[Answer]]) -> Answer:
        while True:
            self._wait_if_paused()
            try:
                return self._access.ask(question)
            except RateLimitedError as error:
                if self._wait is None:
                    raise
                self._wait(error.until)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            logger.warning("%s: %s", self.repository, sentence)

    def _note_lacks(self) -> None:
        for name, said in self._lacks.items():
            what = "pull requests" if name == WHOLE else f"the list {name}"
            self._note(f"this server's GraphQL cannot be asked for {what}, so REST is ({said})")

    def _store(self, batch: Sequence[Wanted], results: Results) -> None:
        self._may_renew = True
        listed = [wanted.item for wanted in batch if wanted.item]
        store.save_missed_merges(self.repository.team, listed, repository=self.repository)
        rows = self._load_rows(batch)
        taken = {
            wanted.number: row
            for wanted in batch
            if (row := rows.get(wanted.github_pr_id)) and self._may_take(row)
        }
        requests_made = self._complete(taken, results)
        for number, row in taken.items():
            self._save_result(row, results[number], requests_made.get(number, 0))

    def _load_rows(self, batch: Sequence[Wanted]) -> dict[int, PullRequest]:
        rows = PullRequest.objects.filter(
            team=self.repository.team, github_pr_id__in=[wanted.github_pr_id for wanted in batch]
        )
        rows = rows.of_repository(self.repository, self.repository.full_name)
        rows = rows.select_related("team", "author")
        return {row.github_pr_id: row for row in rows}

    def _may_take(self, row: PullRequest) -> bool:
        """Whether the row is neither complete by now nor with a job; counts it, if not."""
        if row.sync_status == SyncStatus.COMPLETE:
            self.tally.complete += 1
        elif _is_at_work(row):
            self.tally.busy += 1
        else:
            return True
        return False

    def _complete(self, rows: Mapping[int, PullRequest], results: Results) -> dict[int, int]:
        """Have REST add the lists that are missing, and return the requests of each number.

        What REST may not be asked now, or does not give, stays missing.
        """
        wanting = {
            number: (snapshot, row.receipt)
            for number, row in rows.items()
            if isinstance(snapshot := results[number], Snapshot)
            and snapshot.errors
            and _is_usable(row, snapshot)
        }
        if not wanting:
            return {}
        try:
            completed = self._access.ask(partial(_fetch_missing, wanting=wanting))
        except GitHubError as error:
            logger.info("REST does not complete pull requests of %s: %s", self.repository, error)
            return {}
        for number, (snapshot, _) in completed.items():
            results[number] = snapshot
            self._access.note(snapshot.errors.values())
        return {number: requests_made for number, (_, requests_made) in completed.items()}

    def _save_result(
        self, row: PullRequest, result: Snapshot | GitHubError, requests_made: int
    ) -> None:
        tally = self.tally
        if not isinstance(result, Snapshot) or not _is_usable(row, result):
            self._enqueue(row)
            return
        if result.moved_to:
            self._follow(result.moved_to)
        if not save_fetched(row, result, requests_made=requests_made):
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


async def _run_conversation(
    access: Access, points: Points, lacks: Lacks, question: Callable[[GraphQL], Awaitable[Answer]]
) -> Answer:
    github = GitHub(api_url=access.api_url, token=access.token)
    async with github:
        return await question(GraphQL(github, access.api_url, points, lacks=lacks))


async def _fetch_or_leave(graphql: GraphQL, *, full_name: str, numbers: Sequence[int]) -> Results:
    """Fetch pull requests, or leave all of them to REST for a reason that no waiting mends."""
    try:
        return await fetch_snapshots(graphql, full_name, numbers)
    except FINAL:
        raise
    except GitHubError as error:
        return dict.fromkeys(numbers, error)


async def _fetch_missing(
    github: GitHub, *, wanting: Mapping[int, tuple[Snapshot, Json]]
) -> dict[int, tuple[Snapshot, int]]:
    """Fetch what is missing of pull requests, with the number of requests that each took.

    One after the other, so that these can be told apart; a rate limit ends it.
    """
    completed = {}
    for number, (snapshot, receipt) in wanting.items():
        before = github.requests_made
        result = await fetch_missing(github, snapshot, receipt=receipt, now=timezone.now())
        completed[number] = result, github.requests_made - before
        if any(isinstance(error, RateLimitedError) for error in result.errors.values()):
            break
    return completed


async def _list_merges(full_name: str, since: datetime, github: GitHub) -> list[PullRequestItem]:
    pages = fetch_merges(github, full_name, since=since)
    items = [item async for page in pages for item in page]
    return [item for item in items if item.merged_at and item.merged_at >= since]


def _is_usable(row: PullRequest, snapshot: Snapshot) -> bool:
    """Whether the answer is of that pull request, and no older than what the row holds.

    GitHub gives numbers again, and a replica may be behind what a webhook has reported. A fetch by
    REST says which it is.
    """
    found, known_at = snapshot.pull_request, row.pr_updated_at
    came_at = found.pr_updated_at
    is_older = known_at is not None and came_at is not None and came_at < known_at
    return found.github_pr_id == row.github_pr_id and not is_older


def _is_at_work(row: PullRequest) -> bool:
    """Whether a job is on it, and has given a sign of life."""
    if row.sync_status != SyncStatus.RUNNING:
        return False
    mine = PullRequest.objects.filter(pk=row.pk)
    return not mine.silent_since(timezone.now() - STUCK_AFTER).exists()
