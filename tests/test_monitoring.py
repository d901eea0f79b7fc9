"""The metrics at /metrics, parsed as Prometheus parses them."""

import json
import math
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries, Settings
from redis import Redis
from rq import Queue

from metrics_sync.heal.discovery import discover_lost
from metrics_sync.heal.reconcile import requeue_due
from metrics_sync.models import GitHubIntegration, PullRequest
from metrics_sync.models.states import SyncStatus
from metrics_sync.observe import counting
from metrics_sync.operate import monitoring
from metrics_sync.operate.disconnecting import disconnect_repository
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    SandboxServer,
    build_pull_request_event,
    deliver,
    make_recording,
)
from metrics_sync.work import counts
from metrics_sync.work.counts import (
    note_silent_end,
    read_counts,
    save_counts,
    save_counts_of_answers,
)
from metrics_sync.work.queueing import BULK, enqueue_fetch
from metrics_sync.work.rounds import note_round
from tests.conftest import PATIENCE_SECONDS, Workers
from tests.factories import (
    MERGED_AT,
    IntegrationCredentialFactory,
    PullRequestFactory,
    TrackedRepositoryFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db
DOCS: Path = django_settings.BASE_DIR / "docs" / "monitoring"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def make_merged(status: SyncStatus, *, count: int = 1) -> None:
    """Make rows of merged pull requests, past `save`, which makes each merge pending."""
    rows = PullRequestFactory.create_batch(count, merged=True)
    PullRequest.objects.filter(pk__in=[row.pk for row in rows]).update(sync_status=status)


class Scrape:
    """The metrics of one moment, as Prometheus reads them."""

    def __init__(self, text: str = "") -> None:
        families = list(text_string_to_metric_families(text or monitoring.render().decode()))
        self.names = {sample.name for family in families for sample in family.samples}
        self.families = {family.name for family in families}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float:
        return self._samples[f"metrics_sync_{name}", frozenset(labels.items())]


def test_backlog_is_counted_by_status(redis: Redis) -> None:
    """The alerts of operators use this number."""
    make_merged(SyncStatus.FAILED, count=2)
    make_merged(SyncStatus.COMPLETE)

    with time_machine.travel(MERGED_AT + timedelta(hours=1), tick=False):
        scrape = Scrape()

    assert scrape.get("unfinished_pull_requests", status="failed") == 2
    assert scrape.get("unfinished_pull_requests", status="pending") == 0
    assert scrape.get("oldest_unfinished_seconds", status="failed") == 3600
    assert scrape.get("recent_pull_requests", status="complete") == 1


def test_counting_a_backlog_ends_somewhere(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape of a million failed rows must not take longer than one of a few."""
    monkeypatch.setattr(monitoring, "MOST_COUNTED", 2)
    make_merged(SyncStatus.FAILED, count=3)

    assert Scrape().get("unfinished_pull_requests", status="failed") == 2


def test_number_of_queries_does_not_grow_with_the_rows(
    redis: Redis, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    """A scrape comes every 15 seconds."""
    PullRequestFactory.create_batch(5, merged=True)
    TrackedRepositoryFactory.create_batch(5)

    with django_assert_num_queries(2 * len(monitoring.UNFINISHED) + 4):
        monitoring.render()


def test_budget_of_a_token_is_whole_again_after_its_reset(redis: Redis) -> None:
    """The number from before the reset would raise a false alert."""
    budget = {"rate_limit": 5000, "rate_limit_remaining": 3, "rate_limit_resets_at": MERGED_AT}
    credential = IntegrationCredentialFactory(team__slug="platform", **budget)
    TrackedRepositoryFactory(integration__credential=credential, integration__team=credential.team)
    labels = {"credential": str(credential.pk), "team": "platform"}

    with time_machine.travel(MERGED_AT - timedelta(minutes=1), tick=False):
        assert Scrape().get("rate_limit_remaining", **labels) == 3
    with time_machine.travel(MERGED_AT + timedelta(minutes=1), tick=False):
        assert Scrape().get("rate_limit_remaining", **labels) == 5000


def test_token_of_a_disconnected_repository_wakes_nobody(redis: Redis) -> None:
    """The operator deleted the token on purpose."""
    repository = TrackedRepositoryFactory(team__slug="platform")
    disconnect_repository(repository, actor="olga")

    assert b"credential_revoked{" not in monitoring.render()


def test_queues_say_how_long_work_waits(redis: Redis) -> None:
    """A long queue that moves is fine; an old job is not."""
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    with time_machine.travel(MERGED_AT, tick=False):
        row = PullRequestFactory(merged=True, team=repository.team)
        row.refresh_from_db()
        assert enqueue_fetch(row, queue_name=BULK)

    with time_machine.travel(MERGED_AT + timedelta(minutes=2), tick=False):
        scrape = Scrape()

    assert scrape.get("queue_depth", queue="pr-data-bulk") == 1
    assert scrape.get("queue_oldest_seconds", queue="pr-data-bulk") == 120
    assert scrape.get("queue_depth", queue="pr-data") == 0
    assert (scrape.get("workers", queue="pr-data"), scrape.get("clocks")) == (0, 0)


def test_counts_of_all_processes_are_added(redis: Redis) -> None:
    """Each process counts only its own events."""
    for amount in (1, 2):
        counting.count("merges", amount, source="webhook")
        save_counts()

    assert Scrape().get("merges_total", source="webhook") == 3


def test_answers_of_one_second_are_saved_together(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save after each check run would cost a twentieth of its processor time."""
    monkeypatch.setattr(counts, "SAVE_SECONDS", PATIENCE_SECONDS)
    for _ in range(3):
        counting.count("merges", source="webhook")
        save_counts_of_answers()

    saved = read_counts()

    assert saved == {("merges", (("source", "webhook"),)): 1}
    assert Scrape().get("merges_total", source="webhook") == 3


def test_histogram_is_one_that_prometheus_can_use(redis: Redis) -> None:
    """Prometheus computes quantiles from cumulative buckets."""
    for seconds in (0.5, 45, 50, 10**6):
        counting.observe("seconds_to_complete", seconds, queue="pr-data")
    save_counts()

    scrape = Scrape()
    bounds = ("1", "30", "60", "+Inf")
    name = "seconds_to_complete_bucket"
    assert [scrape.get(name, queue="pr-data", le=bound) for bound in bounds] == [1, 1, 3, 4]
    assert scrape.get("seconds_to_complete_count", queue="pr-data") == 4
    assert scrape.get("seconds_to_complete_sum", queue="pr-data") == 1000095.5


def test_silent_redis_is_not_asked_again_at_once(
    redis_down: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each answer of the web server would occupy a thread for seconds."""
    counting.count("merges", source="webhook")
    save_counts()
    asked: list[str] = []
    monkeypatch.setattr(counts, "get_queue", asked.append)

    save_counts()

    assert asked == []
    assert counting.take() == {("merges", (("source", "webhook"),)): 1}


def test_redis_down_leaves_the_metrics_of_the_database(redis_down: None) -> None:
    """An alert on the backlog must work while Redis is down."""
    scrape = Scrape()

    assert (scrape.get("up", part="redis"), scrape.get("up", part="database")) == (0, 1)
    assert scrape.get("unfinished_pull_requests", status="pending") == 0


@pytest.mark.parametrize(
    ("configured", "sent", "status"),
    [
        pytest.param("secret", "Bearer secret", 200, id="the token"),
        pytest.param("secret", "Bearer other", 401, id="another token"),
        pytest.param("secret", "", 401, id="no token"),
        pytest.param("", "Bearer ", 401, id="none configured"),
    ],
)
def test_metrics_need_the_token(
    client: Client, settings: Settings, redis: Redis, configured: str, sent: str, status: int
) -> None:
    """They name teams, and say when GitHub refuses their tokens."""
    settings.METRICS_SYNC_METRICS_TOKEN = configured

    assert client.get("/metrics", headers={"Authorization": sent}).status_code == status


@pytest.mark.parametrize(("is_superuser", "status"), [(True, 200), (False, 401)])
def test_metrics_are_for_superusers_too(
    client: Client, redis: Redis, *, is_superuser: bool, status: int
) -> None:
    """The metrics are of all teams, and staff see only their own."""
    user: User = UserFactory(is_superuser=is_superuser)
    client.force_login(user)

    assert client.get("/metrics").status_code == status


@pytest.mark.long(seconds=4)
@pytest.mark.django_db(transaction=True)
def test_merge_is_counted_through_all_processes(
    client: Client, workers: Workers, sandbox: SandboxServer, live_server: Any, settings: Settings
) -> None:
    """Web server, forked worker and scrape are different processes."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    hook: GitHubIntegration = TrackedRepositoryFactory(full_name="acme/anvil", **token).integration
    recording = make_recording("acme/anvil", 7)
    recording.pull["merged_at"] = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
    sandbox.world.add(recording)
    payload = build_pull_request_event(recording, "closed")
    url = live_server.url + hook.get_webhook_path()
    deliver(url, event="pull_request", payload=payload, secret="another")
    deliver(url, event="pull_request", payload=payload, secret=hook.webhook_secret)
    workers.drain()
    settings.METRICS_SYNC_METRICS_TOKEN = "secret"

    answer = client.get("/metrics", headers={"Authorization": "Bearer secret"})

    scrape = Scrape(answer.content.decode())
    assert scrape.get("merges_total", source="webhook") == 1
    assert scrape.get("webhook_answers_total", endpoint="integration", status="202") == 1
    assert scrape.get("webhook_answers_total", endpoint="integration", status="401") == 1
    assert scrape.get("seconds_to_complete_count", queue="pr-data") == 1
    commits = "repository/pulls/*/commits"
    assert scrape.get("github_requests_total", endpoint=commits, outcome="200") == 1


def test_silent_ends_and_rows_that_wait_without_a_time_are_counted(redis: Redis) -> None:
    """Once every fetch ended before it began, and no alert fired."""
    repository = TrackedRepositoryFactory(full_name="acme/anvil")
    rows = PullRequestFactory.create_batch(2, merged=True, team=repository.team)
    waits, parked = (PullRequest.objects.get(pk=row.pk) for row in rows)
    with time_machine.travel(MERGED_AT, tick=False):
        assert enqueue_fetch(parked, queue_name=BULK)
        queue = Queue(BULK, connection=redis)
        queue.scheduled_job_registry.schedule(
            queue.fetch_job(parked.sync_job_id), MERGED_AT + timedelta(hours=1)
        )
    with time_machine.travel(MERGED_AT + timedelta(minutes=1), tick=False):
        assert enqueue_fetch(waits, queue_name=BULK)
        note_silent_end(queue.fetch_job(waits.sync_job_id), "TypeError: trace()")

    with time_machine.travel(MERGED_AT + timedelta(minutes=21), tick=False):
        scrape = Scrape()

    assert scrape.get("silent_ends") == 1
    assert scrape.get("oldest_waiting_seconds") == 1200


def test_rounds_of_the_clock_are_shown(redis: Redis) -> None:
    """A clock whose jobs never ended once looked healthy."""
    assert Scrape().get("round_age_seconds", round="requeue_due") == math.inf
    with time_machine.travel(MERGED_AT, tick=False):
        requeue_due()
        discover_lost()

    with time_machine.travel(MERGED_AT + timedelta(minutes=5), tick=False):
        scrape = Scrape()

    assert scrape.get("round_age_seconds", round="requeue_due") == 300
    assert scrape.get("round_found", round="requeue_due", what="requeued") == 0
    assert scrape.get("round_found", round="discover_lost", what="discovered") == 0


def test_lists_that_disagree_for_good_are_counted(redis: Redis) -> None:
    """These rows are complete, but differ from GitHub's counters."""
    PullRequestFactory(merged=True, disagreeing=["commits"])
    PullRequestFactory(merged=True)

    assert Scrape().get("disagreeing_pull_requests") == 1


@pytest.mark.usefixtures("redis_down")
def test_silent_redis_hides_nothing_of_the_database() -> None:
    """Only the metrics that need Redis are left out, and the database counts as up."""
    scrape = Scrape()

    assert (scrape.get("up", part="database"), scrape.get("up", part="redis")) == (1, 0)
    assert "metrics_sync_oldest_waiting_seconds" not in scrape.names


@pytest.mark.parametrize("arguments", [("check", "alerts.yaml"), ("test", "alerts.test.yaml")])
def test_alerts_fire_when_they_should(arguments: tuple[str, str]) -> None:
    """Nobody notices a mistyped alert before the night in which it is needed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Prometheus is not installed")

    done = subprocess.run(
        [promtool, arguments[0], "rules", DOCS / arguments[1]],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def list_metrics(text: str) -> set[str]:
    return set(re.findall(r"\bmetrics_sync_\w+", text))


@pytest.mark.parametrize("name", ["alerts.yaml", "dashboard.json"])
def test_examples_name_metrics_that_exist(name: str, redis: Redis) -> None:
    """An alert on a metric that is not there never fires."""
    for counted, (_, labels) in monitoring.COUNTERS.items():
        counting.count(counted, **dict.fromkeys(labels, "x"))
    for observed in monitoring.HISTOGRAMS:
        counting.observe(observed, 1, queue="x")
    save_counts()
    note_round("requeue_due", requeued=1)
    now = timezone.now()
    budget = {"rate_limit": 1, "rate_limit_remaining": 1, "rate_limit_resets_at": now}
    credential = IntegrationCredentialFactory(**budget)
    TrackedRepositoryFactory(integration__credential=credential)

    named = list_metrics((DOCS / name).read_text())

    assert named
    assert named <= Scrape().names


def test_dashboard_is_one_that_grafana_can_read() -> None:
    """Panels without a position are drawn over each other."""
    dashboard = json.loads((DOCS / "dashboard.json").read_text())

    places = [tuple(panel["gridPos"][key] for key in "xywh") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places) >= 6
    assert all(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


@pytest.mark.parametrize(
    ("name", "labels"),
    [("merges", {}), ("seconds_to_complete", {"queue": "pr-data", "le": "1"})],
    ids=["label missing", "sum missing"],
)
def test_odd_counter_does_not_hide_the_others(
    redis: Redis, name: str, labels: dict[str, str]
) -> None:
    """An older version may have left it in Redis."""
    counting.count(name, **labels)
    counting.count("reconcile_findings", reason="stuck")
    save_counts()

    assert Scrape().get("reconcile_findings_total", reason="stuck") == 1
