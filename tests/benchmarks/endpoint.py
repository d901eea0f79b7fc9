"""The webhook endpoint, beside the smallest view that could receive its deliveries."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import psutil
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from metrics_sync.models import PullRequest, WebhookDelivery
from metrics_sync.sandbox import make_recording, sign
from tests.benchmarks.figures import Figure, find_percentile
from tests.benchmarks.load import KINDS, REPOSITORY
from tests.benchmarks.stage import Stage, count_cpu_seconds

RATE = 100
ROUNDS, ROUNDS_OF_WAITS = 3, 7
SECONDS_A_ROUND = 4
#: Deliveries of each kind in a round, sent as fast as they are answered.
BURST = 100
FLAT_OUT = 10_000
#: The pull requests of this benchmark have the numbers from here on.
FIRST_NUMBER = 100_000

FLOOR = "smallest view"

#: How many deliveries of each kind an ordinary pull request causes: its last two commits are pushed
#: later, each of three check runs is reported twice, and a comment costs what a check run does.
OF_ONE = {"opened": 1, "push": 2, "check run": 6 + 5, "review": 2, "merge": 1}


def measure(stage: Stage) -> list[Figure]:
    """Alternate between the kinds and the smallest view; another process sends the deliveries."""
    environment = {
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.floor_settings",
        "GITHUB_WEBHOOK_SECRET": stage.integration.webhook_secret,
    }
    before = WebhookDelivery.objects.count() + PullRequest.objects.count()
    with stage.run_web(**environment) as (url, web):
        load = _Load(stage, url, web)
        for kind in KINDS:
            load.post(kind, amount=20)
        load.post(FLOOR, amount=20)
        spent = _spend(load)
        rounds = _wait(load)
    lost = load.expected - (WebhookDelivery.objects.count() + PullRequest.objects.count() - before)
    least, usual = median(spent.pop(FLOOR)), {kind: median(found) for kind, found in spent.items()}
    of_one = sum(usual[kind] * count for kind, count in OF_ONE.items()) / sum(OF_ONE.values())
    return [
        *_compare_waits(rounds),
        Figure(f"deliveries or rows lost of {load.expected:,}", lost, "", at_most=0),
        *(
            Figure(f"CPU of a delivery: {kind}", milliseconds, "ms", FLOOR, least, at_most=4)
            for kind, milliseconds in usual.items()
        ),
        Figure("CPU of an ordinary PR's deliveries, mean", of_one, "ms", FLOOR, least),
        Figure("check run, times the smallest view", usual["check run"] / least, "", at_most=2),
        *_count_statements(stage),
    ]  # fmt: skip


@dataclass(slots=True)
class _Load:
    """Sends deliveries to a server, and counts the rows that they must have written."""

    stage: Stage
    url: str
    web: psutil.Process
    expected: int = 0
    #: The number of the next pull request of each kind.
    numbers: dict[str, int] = field(default_factory=dict)

    def post(self, kind: str, *, amount: int, rate: float = FLAT_OUT) -> list[float]:
        """Return the milliseconds from each request's due time to its answer."""
        first = self.numbers.get(kind, FIRST_NUMBER)
        self.numbers[kind] = first + amount
        self.expected += amount * (2 if kind == "opened" else 1)
        path = "/floor/" if kind == FLOOR else self.stage.integration.get_webhook_path()
        sent = "check run" if kind == FLOOR else kind
        command = [sys.executable, "-m", "tests.benchmarks.load", "--post", self.url + path]
        command += ["--kind", sent, "--secret", self.stage.integration.webhook_secret]
        command += ["--first", str(first), str(amount), str(rate)]
        done = subprocess.run(
            command, env=self.stage.environment, capture_output=True, check=True, timeout=120
        )
        return [seconds * 1000 for seconds in json.loads(done.stdout)]

    def spend(self, kind: str) -> float:
        """Return the milliseconds of processor time that the server uses for one delivery."""
        before = count_cpu_seconds(self.web)
        self.post(kind, amount=BURST)
        return (count_cpu_seconds(self.web) - before) * 1000 / BURST


def _spend(load: _Load) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {kind: [] for kind in (*KINDS, FLOOR)}
    for _ in range(ROUNDS):
        for kind, found in spent.items():
            found.append(load.spend(kind))
    return spent


def _wait(load: _Load) -> list[tuple[list[float], list[float]]]:
    """Return the milliseconds of each round of merges, and of the smallest view, at 100/s."""
    amount = RATE * SECONDS_A_ROUND
    load.post("opened", amount=amount * ROUNDS_OF_WAITS)
    return [
        (load.post("merge", amount=amount, rate=RATE), load.post(FLOOR, amount=amount, rate=RATE))
        for _ in range(ROUNDS_OF_WAITS)
    ]


def _compare_waits(rounds: list[tuple[list[float], list[float]]]) -> Iterator[Figure]:
    """Compare the median of the rounds: a disk that stalls once holds up only one of them."""
    for name, share, most in (("p99", 0.99, 50), ("median", 0.5, None)):
        ours = median(find_percentile(merges, share) for merges, _ in rounds)
        floor = median(find_percentile(smallest, share) for _, smallest in rounds)
        yield Figure(f"webhook endpoint at 100/s, {name}", ours, "ms", FLOOR, floor, at_most=most)


def _count_statements(stage: Stage) -> Iterator[Figure]:
    """Count the statements of each kind in this process, the transaction's ends included."""
    recording, client = make_recording(REPOSITORY, 1), Client()
    for kind, (event, build) in KINDS.items():
        body = json.dumps(build(recording, FIRST_NUMBER - 1)).encode()
        headers: dict[str, Any] = {
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": f"statements of {kind}",
            "X-Hub-Signature-256": sign(body, stage.integration.webhook_secret),
        }
        path = stage.integration.get_webhook_path()
        with CaptureQueriesContext(connection) as queries:
            answer = client.post(path, body, "application/json", headers=headers)
        if answer.status_code != 202:
            raise RuntimeError(f"The delivery of a {kind} was answered {answer.status_code}.")
        yield Figure(f"statements of a delivery: {kind}", len(queries), "", at_most=10)
