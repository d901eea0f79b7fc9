"""Fetches merged pull requests in bulk, and queues those that bulk cannot bring."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import islice
from typing import NamedTuple

from django.utils import timezone

from metrics_sync import store
from metrics_sync.exceptions import (
    AppUnavailableError,
    CredentialRejectedError,
    GitHubError,
    GoneError,
    NameReusedError,
    QueueUnavailableError,
    RateLimitedError,
)
from metrics_sync.github import (
    FETCHED,
    WHOLE,
    Budget,
    GitHub,
    GraphQL,
    estimate_points,
    fetch_merges,
    fetch_missing,
    fetch_snapshots,
    list_merged,
)
from metrics_sync.heal.conversation import Conversation
from metrics_sync.heal.wanted import Wanted, WantedList
from metrics_sync.jobs.saving_together import Fetched, save_fetched_together
from metrics_sync.models import PullRequest, TrackedRepository
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.snapshot import PullRequestItem, Receipt, Snapshot
from metrics_sync.work.queueing import BULK, enqueue_fetch

logger = logging.getLogger(__name__)

Results = dict[int, Snapshot | GitHubError]

#: Errors that REST would answer with, too.
FINAL = (AppUnavailableError, CredentialRejectedError, NameReusedError, RateLimitedError)

#: How many queries are under way while the results of another are stored. GitHub allows 60 s of its
#: processors a minute for queries; it takes up to ten for one.
#: https://docs.github.com/en/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
QUERIES_AHEAD = 2

#: After how many pull requests the database's statistics are refreshed first; then after twice as
#: many each time.
FIRST_LOOK = 500

#: About how many requests REST needs for a whole pull request.
REQUESTS_FOR_ONE = 9


@dataclass(slots=True)
class Tally:
    """How many pull requests were found, and what was done about them."""

    found: int = 0
    #: Complete already.
    complete: int = 0
    #: Fetched, and complete.
    fetched: int = 0
    #: Queued for REST, some with most of their lists fetched already.
    queued: int = 0
    #: Left to a job that has claimed them.
    busy: int = 0
    #: Not complete and not queued, as Redis is down; reconcile finds them.
    left: int = 0
    errors: list[str] = field(default_factory=list)


class Trial(NamedTuple):
    """The result of one real query: how many were asked for, how many came whole, and how many
    requests REST would need for the rest.
    """

    asked: int = 0
    whole: int = 0
    requests: int = 0

    def estimate_requests(self, count: int) -> int:
        return round(count * self.requests / self.asked) if self.asked else 0


class Backfill:
    """Merged pull requests of one repository: first `find_missing` or `take`, then `fetch`.

    Safe to repeat, to run twice at once, and to kill at any time: a pull request is stored whole
    or not at all, and one that is complete is not fetched again. `wait` is called with the time
    until which GitHub must not be asked; without it RateLimitedError is raised. With `is_bulk`
    the reserve of REST's requests is left to merges.
    """

    def __init__(
        self,
        repository: TrackedRepository,
        *,
        wait: Callable[[datetime], None] | None = None,
        is_bulk: bool = True,
    ) -> None:
        self.repository = repository
        self.tally = Tally()
        self.missing = WantedList()
        #: What REST was asked in place of GraphQL, and why; each is reported once.
        self.notes: list[str] = []
        self._conversation = Conversation(repository, wait=wait, is_bulk=is_bulk)

    @property
    def points(self) -> Budget:
        """The points that GraphQL's queries took."""
        return self._conversation.points

    @property
    def estimated_points(self) -> int:
        """How many points it takes to fetch what is missing."""
        return estimate_points(len(self.missing))

    def take(self, rows: Iterable[PullRequest]) -> None:
        """Add rows to what is missing; those without a number are left out."""
        self.missing.extend(
            Wanted(row.github_pr_id, row.github_pr_number) for row in rows if row.github_pr_number
        )
        self.tally.found = len(self.missing)

    def find_missing(self, *, since: datetime) -> Iterator[int]:
        """List the merges since then and find what is missing, yielding how many were found.

        The latest changes come first, from REST where GraphQL fails. Writes nothing but a new name
        of the repository. A list that ends before its total is among the errors. Raises
        GitHubError, and NameReusedError when another repository has the name now.
        """
        try:
            yield from self._list_by_graphql(since)
        except FINAL:
            raise
        except GitHubError as error:
            self._note(f"GraphQL does not list the merges, so REST is asked ({error})")
            self.missing, self.tally = WantedList(), Tally()
            question = partial(_list_merges, self.repository.full_name, since)
            items = self._conversation.ask_rest(question)
            self._check_own(item.base_repo_id for item in items)
            self._add_missing(items)
            yield self.tally.found

    def _list_by_graphql(self, since: datetime) -> Iterator[int]:
        cursor, listed, total = None, 0, 0
        while True:
            name = self.repository.full_name
            page = self._conversation.ask(
                partial(list_merged, full_name=name, since=since, cursor=cursor)
            )
            self._check_own([page.github_repo_id])
            self._follow(page.full_name)
            self._add_missing(page.items)
            # The first total: pull requests that merge meanwhile go to pages that were read.
            listed, total = listed + page.length, total or page.total
            yield self.tally.found
            cursor = page.cursor
            if cursor is None:
                break
        if page.is_end and listed < total:
            self.tally.errors.append(f"GitHub lists {listed} of {total} merges; run this again")

    def _check_own(self, github_repo_ids: Iterable[int | None]) -> None:
        """Raise NameReusedError when GitHub's answer is about another repository of this name."""
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
        self.missing.extend(missing)
        self.tally.found += len(items)
        self.tally.complete += len(items) - len(missing)

    def try_out(self) -> Trial:
        """Send one real query, for the first of what is missing, and store nothing of it.

        Raises GitHubError.
        """
        batch = next(self.missing.batched(FETCHED), None)
        if batch is None:
            return Trial()
        results = self._conversation.ask(self._build_question(batch))
        self._note_lacks()
        lists_left = [
            len(result.errors) if isinstance(result, Snapshot) else REQUESTS_FOR_ONE
            for result in results.values()
        ]
        return Trial(len(batch), lists_left.count(0), sum(lists_left))

    def fetch(self) -> Iterator[int]:
        """Fetch and store what is missing, yielding after each query how many are done with.

        While the results of a query are stored, the next ones are under way: GitHub takes seconds
        for each. Raises GitHubError.
        """
        done, next_look = 0, FIRST_LOOK
        upcoming = self.missing.batched(FETCHED)
        begun = deque[tuple[list[Wanted], Future[Results] | None]]()
        begun.extend((batch, None) for batch in islice(upcoming, 1))
        with ThreadPoolExecutor(QUERIES_AHEAD) as pool:
            while begun:
                batch, answer = begun.popleft()
                results = self._conversation.finish(answer, self._build_question(batch))
                for following in islice(upcoming, QUERIES_AHEAD - len(begun)):
                    question = self._build_question(following)
                    begun.append((following, self._conversation.begin(pool, question)))
                self._note_lacks()
                self._store(batch, results)
                done += len(batch)
                if done >= next_look:
                    store.refresh_statistics()
                    next_look *= 2
                yield len(batch)

    def _build_question(self, batch: Sequence[Wanted]) -> Callable[[GraphQL], Awaitable[Results]]:
        numbers = [wanted.number for wanted in batch]
        return partial(_fetch_or_leave, full_name=self.repository.full_name, numbers=numbers)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            logger.warning("%s: %s", self.repository, sentence)

    def _note_lacks(self) -> None:
        for name, reason in self._conversation.lacks.items():
            what = "pull requests" if name == WHOLE else f"the list {name}"
            self._note(f"this server's GraphQL does not know {what}, so REST is asked ({reason})")

    def _store(self, batch: Sequence[Wanted], results: Results) -> None:
        listed = [wanted.item for wanted in batch if wanted.item]
        store.save_missed_merges(self.repository.team, listed, repository=self.repository)
        rows = self._load_rows(batch)
        taken = {
            wanted.number: row
            for wanted in batch
            if (row := rows.get(wanted.github_pr_id)) and self._is_free(row)
        }
        requests_made = self._complete(taken, results)
        fetched = list[Fetched]()
        for number, row in taken.items():
            result = results[number]
            if isinstance(result, Snapshot) and _is_usable(row, result):
                fetched.append(Fetched(row, result, requests_made.get(number, 0)))
            else:
                self._leave_unfetched(row, result)
        if fetched:
            self._save(fetched)

    def _load_rows(self, batch: Sequence[Wanted]) -> dict[int, PullRequest]:
        rows = PullRequest.objects.filter(
            team=self.repository.team, github_pr_id__in=[wanted.github_pr_id for wanted in batch]
        )
        rows = rows.of_repository(self.repository, self.repository.full_name)
        rows = rows.select_related("team", "author")
        return {row.github_pr_id: row for row in rows}

    def _is_free(self, row: PullRequest) -> bool:
        """Whether the row is neither complete by now nor running; counts it if it is."""
        if row.sync_status == SyncStatus.COMPLETE:
            self.tally.complete += 1
        elif _is_at_work(row):
            self.tally.busy += 1
        else:
            return True
        return False

    def _complete(self, rows: Mapping[int, PullRequest], results: Results) -> dict[int, int]:
        """Have REST add the lists that are missing, and return how many requests each number took.

        A list stays missing if REST does not give it, or may not be asked now; the reason is then
        the rate limit.
        """
        wanting = {
            number: (snapshot, Receipt.from_json(row.receipt))
            for number, row in rows.items()
            if isinstance(snapshot := results[number], Snapshot)
            and snapshot.errors
            and _is_usable(row, snapshot)
        }
        if not wanting:
            return {}
        try:
            completed = self._conversation.access.ask(partial(_fetch_missing, wanting=wanting))
        except RateLimitedError as error:
            completed = {n: (_leave(snapshot, error), 0) for n, (snapshot, _) in wanting.items()}
        except GitHubError as error:
            logger.info("REST does not complete pull requests of %s: %s", self.repository, error)
            return {}
        else:
            snapshots = [snapshot for snapshot, _ in completed.values()]
            # One limit is the error of several lists, and counts once.
            self._conversation.access.note(e for one in snapshots for e in one.errors.values())
        results.update({number: snapshot for number, (snapshot, _) in completed.items()})
        return {number: requests_made for number, (_, requests_made) in completed.items()}

    def _save(self, fetched: Sequence[Fetched]) -> None:
        for name in {one.snapshot.moved_to for one in fetched} - {""}:
            self._follow(name)
        for (row, *_), is_saved in zip(fetched, save_fetched_together(fetched), strict=True):
            if not is_saved:
                self.tally.busy += 1
            elif row.sync_status == SyncStatus.COMPLETE:
                self.tally.fetched += 1
            else:
                self._leave_incomplete(row)

    def _leave_unfetched(self, row: PullRequest, result: Snapshot | GitHubError) -> None:
        """Leave a row to REST of which bulk brought nothing, or of something else."""
        self._enqueue(row)

    def _leave_incomplete(self, row: PullRequest) -> None:
        """Leave a row to REST that lacks lists."""
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


async def _fetch_or_leave(graphql: GraphQL, *, full_name: str, numbers: Sequence[int]) -> Results:
    """Fetch pull requests, or leave all of them to REST if waiting does not help."""
    try:
        return await fetch_snapshots(graphql, full_name, numbers)
    except FINAL:
        raise
    except GitHubError as error:
        return dict.fromkeys(numbers, error)


async def _fetch_missing(
    github: GitHub, *, wanting: Mapping[int, tuple[Snapshot, Receipt]]
) -> dict[int, tuple[Snapshot, int]]:
    """Fetch what is missing of pull requests, with the number of requests that each took.

    One pull request after the other, so that requests can be counted; after a rate limit none is
    asked for.
    """
    completed, limit = dict[int, tuple[Snapshot, int]](), list[RateLimitedError]()
    for number, (snapshot, receipt) in wanting.items():
        if limit:
            completed[number] = _leave(snapshot, limit[0]), 0
            continue
        before = github.requests_made
        result = await fetch_missing(github, snapshot, receipt=receipt, now=timezone.now())
        completed[number] = result, github.requests_made - before
        limit += [e for e in result.errors.values() if isinstance(e, RateLimitedError)]
    return completed


def _leave(snapshot: Snapshot, error: RateLimitedError) -> Snapshot:
    """Say of the lists that only REST has that they wait for its rate limit."""
    missing = {s: replace(snapshot.sections[s], error=error) for s in snapshot.errors}
    return replace(snapshot, sections={**snapshot.sections, **missing})


async def _list_merges(full_name: str, since: datetime, github: GitHub) -> list[PullRequestItem]:
    pages = fetch_merges(github, full_name, since=since)
    items = [item async for page in pages for item in page]
    return [item for item in items if item.merged_at and item.merged_at >= since]


def _is_usable(row: PullRequest, snapshot: Snapshot) -> bool:
    """Whether the answer is of that pull request, and no older than what the row has.

    GitHub gives numbers again, and a replica may be behind what a webhook has reported. A fetch by
    REST says which it is.
    """
    found, known_at = snapshot.pull_request, row.pr_updated_at
    came_at = found.pr_updated_at
    is_older = known_at is not None and came_at is not None and came_at < known_at
    is_older |= row.merged_at is not None and found.merged_at is None
    return found.github_pr_id == row.github_pr_id and not is_older


def _is_at_work(row: PullRequest) -> bool:
    """Whether a job is running that has given a sign of life lately."""
    if row.sync_status != SyncStatus.RUNNING:
        return False
    mine = PullRequest.objects.filter(pk=row.pk)
    return not mine.silent_since(timezone.now() - STUCK_AFTER).exists()
