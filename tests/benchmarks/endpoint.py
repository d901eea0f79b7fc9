"""The webhook endpoint at 100 merges a second, beside an address that does nothing."""

import json
import subprocess
import sys

from metrics_sync.models import PullRequest, WebhookDelivery
from tests.benchmarks.figures import Figure, find_percentile
from tests.benchmarks.stage import Stage, count_cpu_seconds

RATE = 100
ROUNDS = 5
SECONDS_A_ROUND = 4
#: The pull requests of this benchmark have the numbers from here on.
FIRST_NUMBER = 100_000


def measure(stage: Stage) -> list[Figure]:
    """Take turns of both addresses; GitHub's part is played by another process."""
    amount = RATE * SECONDS_A_ROUND
    ours, floor = [], []
    deliveries = WebhookDelivery.objects.count()
    with stage.run_web() as (web_url, web):
        hook = web_url + stage.integration.get_webhook_path()
        _post(stage, hook, first=FIRST_NUMBER - 50, amount=50, rate=RATE)
        _get(stage, f"{web_url}/healthz", amount=50)
        for turn in range(ROUNDS):
            floor += _get(stage, f"{web_url}/healthz", amount=amount)
            ours += _post(stage, hook, first=FIRST_NUMBER + turn * amount, amount=amount, rate=RATE)
        cpu_before = count_cpu_seconds(web)
        flat_out = _post(stage, hook, first=FIRST_NUMBER + 50_000, amount=1000, rate=10_000)
        cpu = count_cpu_seconds(web) - cpu_before
    sent = ROUNDS * amount + 1050
    rows = PullRequest.objects.filter(github_pr_number__gte=FIRST_NUMBER - 50)
    lost = 2 * sent - rows.count() - (WebhookDelivery.objects.count() - deliveries)
    return [
        Figure(
            "webhook endpoint at 100/s, p99", find_percentile(ours, 0.99), "ms",
            "/healthz", find_percentile(floor, 0.99), at_most=50,
        ),
        Figure(
            "webhook endpoint at 100/s, median", find_percentile(ours, 0.5), "ms",
            "/healthz", find_percentile(floor, 0.5),
        ),
        Figure(f"deliveries or rows lost of {2 * sent:,}", lost, "", at_most=0),
        Figure(
            "webhook endpoint, as many as it takes", 1000 / (max(flat_out) / 1000), "/s",
            at_least=RATE,
        ),
        Figure("CPU of a delivery, web server", cpu * 1000 / 1000, "ms"),
    ]  # fmt: skip


def _post(stage: Stage, url: str, *, first: int, amount: int, rate: int) -> list[float]:
    secret = stage.integration.webhook_secret
    return _load(stage, "--post", url, "--secret", secret, "--first", first, amount, rate)


def _get(stage: Stage, url: str, *, amount: int) -> list[float]:
    return _load(stage, "--get", url, amount, RATE)


def _load(stage: Stage, *arguments: object) -> list[float]:
    """Return the milliseconds of each request, from when it was due to its answer."""
    command = [sys.executable, "-m", "tests.benchmarks.load", *map(str, arguments)]
    done = subprocess.run(
        command, env=stage.environment, capture_output=True, check=True, timeout=120
    )
    seconds = json.loads(done.stdout)
    return [value * 1000 for value in seconds]
