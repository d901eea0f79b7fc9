"""A night in a quarter of an hour: everything breaks, and nobody is awake.

`make night` runs it, on PostgreSQL (`DATABASE_URL`). The processes of the Procfile run with two
clocks whose intervals are a thirtieth. The rest is real time: retries, pauses and limits wait as
long as they always do.
"""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections
from django.utils import timezone

from metrics_sync.models import FetchRun, GitHubIntegration, PullRequest
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    Recording,
    SandboxServer,
    Token,
    build_pull_request_event,
    make_recording,
)
from tests.conftest import wait_until
from tests.factories import TrackedRepositoryFactory
from tests.network import Line, Proxy
from tests.procfile import Procfile
from tests.test_chaos import LISTS, NEEDED, VOUCHED
from tests.test_flow import read_rows, read_truth

SEED = 20261126
MERGES = 500
REPOSITORIES = ("acme/anvil", "acme/hammer", "octo-labs/shop")
PROCESSES = ("web", "merges", "worker", "clock", "clock.2")
SPEEDUP = "30"
#: The merges come in over this time, and so do the accidents.
NIGHT_SECONDS = 480
#: By then, counted from the beginning, all must be complete.
MORNING_SECONDS = 1800

#: The id of a webhook that never arrives.
LOST = ""

#: What GitHub does wrong until the morning.
FAULTS: list[dict[str, Any]] = [
    *({"kind": FaultKind.STATUS, "status": code, "times": 12} for code in (500, 502, 503)),
    {"kind": FaultKind.STATUS, "status": 404, "path": NEEDED, "times": 12},
    {"kind": FaultKind.STATUS, "status": 401, "times": 3},
    {"kind": FaultKind.PERMISSION, "path": NEEDED, "times": 6},
    {"kind": FaultKind.PRIMARY_LIMIT, "retry_after": 5, "times": 3},
    {"kind": FaultKind.SECONDARY_LIMIT, "status": 403, "retry_after": 5, "times": 1},
    {"kind": FaultKind.SECONDARY_LIMIT, "status": 429, "retry_after": 5, "times": 1},
    {"kind": FaultKind.TRUNCATED, "times": 12},
    {"kind": FaultKind.GARBAGE, "times": 12},
    {"kind": FaultKind.WRONG_TYPE, "times": 12},
    {"kind": FaultKind.SLOW, "seconds": 20, "times": 6},
    {"kind": FaultKind.RESET, "times": 12},
    {"kind": FaultKind.SHORT_LIST, "path": LISTS, "times": 12},
    {"kind": FaultKind.STALE, "path": VOUCHED, "items": 1, "times": 12},
]


class Post(NamedTuple):
    """A webhook that GitHub sends, at a second of the night."""

    second: float
    recording: Recording
    guid: str


class Night:
    """What happens, and how often it did."""

    def __init__(self, service: Procfile, database: Proxy, chance: random.Random) -> None:
        self.service, self._database, self._chance = service, database, chance
        self.answers: Counter[str] = Counter()
        self._hooks = {
            row.full_name: (row.integration.get_webhook_path(), row.integration.webhook_secret)
            for hook in GitHubIntegration.objects.all()
            for row in hook.repositories.select_related("integration")
        }

    def post_all(self, posts: list[Post], began_at: float) -> None:
        """Post each webhook at its second; what is not taken is lost, as GitHub sends it once."""
        with ThreadPoolExecutor(8) as pool:
            for post in posts:
                time.sleep(max(0.0, began_at + post.second - time.monotonic()))
                pool.submit(self._post, post)

    def _post(self, post: Post) -> None:
        path, secret = self._hooks[post.recording.repo]
        payload = build_pull_request_event(post.recording, "closed")
        try:
            answer = self.service.post(
                path, event="pull_request", payload=payload, secret=secret, guid=post.guid
            )
            self.answers[str(answer.status)] += 1
        except OSError:
            self.answers["nobody answered"] += 1

    def break_things(self, began_at: float) -> None:
        """Kill a process every quarter of a minute, and have each greater accident once."""
        accidents = self._list_accidents()
        while (second := time.monotonic() - began_at) < NIGHT_SECONDS:
            if accidents and second >= accidents[0][0]:
                accidents.pop(0)[1]()
            else:
                self.service.kill(self._chance.choice(PROCESSES))
            # Between two accidents the service has time to recover from the first.
            time.sleep(15)
        self._database.set_line(Line.UP)

    def _list_accidents(self) -> list[tuple[int, Callable[[], None]]]:
        return [
            (40, self.service.stop_redis),
            (70, self.service.start_redis),
            (110, lambda: self._database.set_line(Line.CUT)),
            (170, lambda: self._database.set_line(Line.UP)),
            (230, lambda: self._database.set_line(Line.SILENT)),
            (290, lambda: self._database.set_line(Line.UP)),
            (350, self.service.flush_redis),
        ]


@pytest.fixture
def night(
    transactional_db: None, environment: dict[str, str], sandbox: SandboxServer, tmp_path: Path
) -> Iterator[Night]:
    if connection.vendor != "postgresql":
        pytest.exit("The night needs PostgreSQL: set DATABASE_URL.", returncode=2)
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=100_000))
    for full_name in REPOSITORIES:
        token = {"integration__credential__access_token": DEFAULT_TOKEN}
        github_repo_id = sandbox.world.add_repository(full_name).id
        TrackedRepositoryFactory(full_name=full_name, github_repo_id=github_repo_id, **token)
    url = urlsplit(environment["DATABASE_URL"])
    user = f"{url.username}:{url.password}" if url.password else f"{url.username}"
    with Proxy(url.hostname or "127.0.0.1", url.port or 5432) as database:
        through = url._replace(netloc=f"{user}@127.0.0.1:{database.port}").geturl()
        environment |= {"GITHUB_API_URL": sandbox.url, "CLOCK_SPEEDUP": SPEEDUP}
        environment |= {"DATABASE_URL": through}
        with Procfile(environment, tmp_path) as service:
            yield Night(service, database, random.Random(SEED))


def plan_merges(chance: random.Random) -> list[Post]:
    """Make the merges of a night: some are told twice, some never."""
    posts = []
    for number in range(1, MERGES + 1):
        sizes = {"files": chance.randint(1, 8), "issue_comments": chance.randint(0, 4)}
        recording = make_recording(chance.choice(REPOSITORIES), number, seed=number, **sizes)
        at = chance.uniform(0, NIGHT_SECONDS)
        times = chance.choices([1, 2, 0], [80, 12, 8])[0]
        posts += [
            Post(at + n * chance.uniform(0, 30), recording, f"m{number}") for n in range(times)
        ]
        if not times:
            posts.append(Post(at, recording, ""))
    return sorted(posts, key=lambda post: post.second)


def merge_on_time(sandbox: SandboxServer, posts: list[Post], began_at: float) -> None:
    """Have GitHub show each merge shortly before its webhook is sent."""
    merged = set[int]()
    for post in posts:
        time.sleep(max(0.0, began_at + post.second - 0.5 - time.monotonic()))
        if post.recording.number not in merged:
            merged.add(post.recording.number)
            now = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
            post.recording.pull |= {"merged_at": now, "closed_at": now, "updated_at": now}
            sandbox.world.add(post.recording)


def count_log(text: str) -> dict[str, int]:
    """Count from the logs of all processes who took up what had been let fall."""
    entries = [json.loads(line) for line in text.splitlines() if line.startswith('{"')]
    messages = [str(entry.get("message", "")) for entry in entries]
    counts = Counter[str]()
    for message in messages:
        if message.startswith("Queued ") and " again: " in message:
            counts[f"queued again: {message.rpartition(' again: ')[2]}"] += 1
        elif message.startswith("Discovered "):
            counts["discovered"] += int(message.split()[1])
    return dict(counts)


def test_everything_is_complete_in_the_morning(
    night: Night, sandbox: SandboxServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing lost, nothing doubled, and no command run."""
    posts = plan_merges(random.Random(SEED))
    night.service.start(*PROCESSES)
    faults = [sandbox.faults.add(Fault(**{"probability": 0.02, **fault})) for fault in FAULTS]
    began_at = time.monotonic()
    told = [post for post in posts if post.guid != LOST]
    at_work = [
        threading.Thread(target=merge_on_time, args=(sandbox, posts, began_at)),
        threading.Thread(target=night.post_all, args=(told, began_at)),
        threading.Thread(target=night.break_things, args=(began_at,)),
    ]
    for thread in at_work:
        thread.start()
    for thread in at_work:
        thread.join()
    sandbox.faults.clear()

    complete = PullRequest.objects.filter(sync_status="complete")
    try:
        wait_until(lambda: complete.count() == MERGES, patience=MORNING_SECONDS)
    finally:
        took = time.monotonic() - began_at
        _print_night(night, faults, took, capsys)
    rows = {(row.github_repo, row.github_pr_number): row for row in PullRequest.objects.all()}
    assert (PullRequest.objects.count(), len(rows)) == (MERGES, MERGES)
    for recording in sandbox.world.recordings():
        assert read_rows(rows[recording.repo, recording.number]) == read_truth(recording)
    assert not FetchRun.objects.filter(status="complete", receipt={}).exists()
    connections.close_all()


def _print_night(
    night: Night, faults: list[Fault], took: float, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses = Counter(PullRequest.objects.values_list("sync_status", flat=True))
    attempts = Counter(PullRequest.objects.values_list("fetch_runs__status", flat=True))
    of_github = Counter[str]()
    for fault in faults:
        of_github[f"{fault.kind} {fault.status or ''}".strip()] += fault.inflicted
    with capsys.disabled():
        for name, counts in {
            "rows": statuses,
            "accidents": night.service.counts,
            "GitHub": of_github,
            "webhook answers": night.answers,
            "fetch runs": attempts,
            "healed by": count_log(night.service.read_log()),
        }.items():
            print(f"{name}: {dict(counts)}")  # noqa: T201  (what the night is run for)
        print(f"in {took:.0f} s")  # noqa: T201
