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
ROUNDS = 3
SECONDS_A_ROUND = 4
#: Deliveries of each kind in a round, sent as fast as they are answered.
BURST = 100
FLAT_OUT = 10_000
#: The pull requests of this benchmark have the numbers from here on.
FIRST_NUMBER = 100_000

FLOOR = "smallest view"


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
        ours, floor = _wait(load)
    lost = load.expected - (WebhookDelivery.objects.count() + PullRequest.objects.count() - before)
    least = median(spent.pop(FLOOR))
    check_run = median(spent["check run"])
    return [
        Figure(
            "webhook endpoint at 100/s, p99", find_percentile(ours, 0.99), "ms",
            FLOOR, find_percentile(floor, 0.99), at_most=50,
        ),
        Figure(
            "webhook endpoint at 100/s, median", find_percentile(ours, 0.5), "ms",
            FLOOR, find_percentile(floor, 0.5),
        ),
        Figure(f"deliveries or rows lost of {load.expected:,}", lost, "", at_most=0),
        *(
            Figure(f"CPU of a delivery: {kind}", median(found), "ms", FLOOR, least, at_most=4)
            for kind, found in spent.items()
        ),
        Figure("check run, times the smallest view", check_run / least, "", at_most=2),
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


def _wait(load: _Load) -> tuple[list[float], list[float]]:
    """Return the milliseconds of merges and of the smallest view at the usual rate."""
    amount = RATE * SECONDS_A_ROUND
    ours, floor = list[float](), list[float]()
    load.post("opened", amount=amount * ROUNDS)
    for _ in range(ROUNDS):
        floor += load.post(FLOOR, amount=amount, rate=RATE)
        ours += load.post("merge", amount=amount, rate=RATE)
    return ours, floor


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
