"""What reconcile finds, queues, and leaves alone."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from redis import Redis
from rq import Queue

from metrics_sync.heal import reconcile
from metrics_sync.heal.finding import LARGE, Reason, Scope, find_dropped
from metrics_sync.heal.reconcile import Report, choose, requeue_due, requeue_nameless
from metrics_sync.models import PRCheckRun, PullRequest, TrackedRepository
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    make_recording,
)
from metrics_sync.snapshot import RateLimit
from metrics_sync.work import queueing
from metrics_sync.work.queueing import BULK, MERGES, enqueue_fetch
from metrics_sync.work.rounds import hold_round
from tests.factories import MERGED_AT, PullRequestFactory, TrackedRepositoryFactory

REPOSITORY = "acme/anvil"


@pytest.fixture
def repository(db: None) -> TrackedRepository:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


def add(repository: TrackedRepository, **values: Any) -> PullRequest:
    """Make a merged row; `minutes_ago` says since when it waits.

    The values are written past `save()`, which turns every new merge into a pending one.
    """
    moment = timezone.now() - timedelta(minutes=values.pop("minutes_ago", 11))
    values = {"queued_at": moment, "fetch_started_at": moment, **values}
    row = PullRequestFactory(merged=True, team=repository.team, github_repo=repository.full_name)
    PullRequest.objects.filter(pk=row.pk).update(**values)
    return PullRequest.objects.get(pk=row.pk)


def find(**scope: Any) -> list[tuple[PullRequest, str]]:
    return [(finding.pull_request, finding.reason) for finding in find_dropped(Scope(**scope))]


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param({"sync_status": "failed"}, "failed", id="failed"),
        pytest.param({"sync_status": "partial"}, "partial", id="partial"),
        pytest.param({"sync_status": "pending"}, "missing", id="redis was down"),
        pytest.param({"sync_status": "idle"}, "missing", id="written past the signal"),
        pytest.param({"sync_status": "untracked"}, "missing", id="tracked since"),
        pytest.param(
            {"sync_status": "complete", "github_pr_number": None}, "missing", id="no number"
        ),
        pytest.param({"sync_status": "queued"}, "stuck", id="its job is gone"),
        pytest.param({"sync_status": "running"}, "stuck", id="its worker is gone"),
        pytest.param({"sync_status": "running", "fetch_started_at": None}, "stuck", id="no times"),
        pytest.param(
            {"sync_status": "complete", "refetch_at": MERGED_AT}, "outdated", id="look is due"
        ),
    ],
)
def test_every_incomplete_row_is_found(
    repository: TrackedRepository, values: dict[str, Any], reason: str
) -> None:
    """Each state must have a way out."""
    row = add(repository, **values)

    assert find() == [(row, reason)]


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"sync_status": "complete"}, id="complete"),
        pytest.param(
            {"sync_status": "complete", "refetch_at": timezone.now() + timedelta(hours=1)},
            id="look is not due",
        ),
        pytest.param({"sync_status": "queued", "minutes_ago": 1}, id="queued just now"),
        pytest.param({"sync_status": "running", "minutes_ago": 1}, id="running just now"),
        pytest.param({"sync_status": "idle", "state": "open"}, id="not merged"),
    ],
)
def test_rows_in_order_are_left_alone(
    repository: TrackedRepository, values: dict[str, Any]
) -> None:
    """Every needless fetch costs nine requests."""
    add(repository, **values)

    assert find() == []


@pytest.mark.usefixtures("redis")
def test_queued_row_whose_job_waits_in_redis_is_not_stuck(repository: TrackedRepository) -> None:
    """Jobs wait behind a backfill, or until a rate limit resets."""
    row = add(repository)
    enqueue_fetch(row, queue_name=MERGES)
    PullRequest.objects.update(queued_at=timezone.now() - timedelta(minutes=59))

    assert find() == []


@pytest.mark.usefixtures("redis")
def test_scope_narrows_the_search(repository: TrackedRepository) -> None:
    """Operators repair one team or repository at a time."""
    row = add(repository)
    other = add(TrackedRepositoryFactory(), merged_at=MERGED_AT - timedelta(days=9))

    assert find(team=other.team.slug) == [(other, "missing")]
    assert find(repositories=[REPOSITORY.upper()]) == [(row, "missing")]
    assert find(since=MERGED_AT) == [(row, "missing")]
    assert find(only=[Reason.FAILED]) == []


@pytest.mark.usefixtures("redis")
def test_clock_leaves_recent_failures(repository: TrackedRepository) -> None:
    """A row that cannot be repaired must not be fetched every minute for ever."""
    row = add(repository, sync_status="failed", retry_at=timezone.now() + timedelta(minutes=1))

    assert find(due_at=timezone.now()) == []
    assert find() == [(row, "failed")]


@pytest.mark.usefixtures("redis")
def test_running_checks_are_found_before_their_refetch(repository: TrackedRepository) -> None:
    """An operator need not wait for the scheduled refetch."""
    row = add(repository, sync_status="complete", refetch_at=timezone.now() + timedelta(hours=1))
    checks = [
        PRCheckRun(team=row.team, pull_request=row, github_check_run_id=number, status=status)
        for number, status in enumerate(["queued", "in_progress", "completed"])
    ]
    PRCheckRun.objects.bulk_create(checks)

    assert find() == [(row, "incomplete-checks")]
    assert requeue_due()["requeued"] == 0


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(("minutes", "count"), [(4, 0), (5.5, 1)])
def test_running_checks_of_a_moment_ago_are_left_alone(
    repository: TrackedRepository, minutes: float, count: int
) -> None:
    """Otherwise each reconcile would fetch them again."""
    row = add(repository, sync_status="complete")
    PullRequest.objects.update(fetch_started_at=timezone.now() - timedelta(minutes=minutes))
    ids = {"team": row.team, "pull_request": row, "github_check_run_id": 1}
    PRCheckRun.objects.create(status="in_progress", **ids)

    assert len(find()) == count


@pytest.mark.usefixtures("redis")
def test_rows_that_cannot_be_fetched_are_counted_and_not_queued(
    repository: TrackedRepository,
) -> None:
    """The rows of revoked credentials are reported, not queued."""
    add(repository, sync_status="failed")
    repository.integration.credential.mark_revoked()
    add(TrackedRepositoryFactory(is_active=False), sync_status="failed")
    scarce = TrackedRepositoryFactory()
    add(scarce, sync_status="failed")
    resets_at = timezone.now() + timedelta(hours=1)
    scarce.integration.credential.note_rate_limit(RateLimit(5000, 900, resets_at))
    report = Report()

    chosen = choose(find_dropped(Scope()), report)

    assert chosen == []
    assert report.skipped == {
        "credential revoked": 1,
        "rate limit kept for merges": 1,
        "repository not tracked": 1,
    }


def test_clock_queues_on_the_bulk_queue(repository: TrackedRepository, redis: Redis) -> None:
    """New merges must not wait behind old repairs."""
    row = add(repository)

    result = requeue_due()

    row.refresh_from_db()
    assert (result["requeued"], row.sync_status) == (1, "queued")
    assert Queue(BULK, connection=redis).job_ids == [row.sync_job_id]


def test_clock_reads_only_the_rows_that_it_can_queue(
    repository: TrackedRepository, redis: Redis
) -> None:
    """A hundred thousand rows of a dead token were once loaded in every round."""
    refused, paused, untracked = TrackedRepositoryFactory.create_batch(3)
    refused.integration.credential.mark_revoked()
    an_hour = timezone.now() + timedelta(hours=1)
    paused.integration.credential.note_pause(until=an_hour, is_secondary=False)
    TrackedRepository.objects.filter(pk=untracked.pk).update(is_active=False)
    rows = [add(each, sync_status="failed") for each in (repository, refused, paused, untracked)]

    with CaptureQueriesContext(connection) as queries:
        result = requeue_due()

    statuses = [PullRequest.objects.get(pk=row.pk).sync_status for row in rows]
    assert statuses == ["queued", "failed", "failed", "failed"]
    assert (result["requeued"], result["skipped"]) == (1, {})
    loaded = " ".join(query["sql"] for query in queries if "SELECT" in query["sql"])
    assert not any(f'"metrics_sync_pullrequest"."{name}"' in loaded for name in LARGE)


def test_statements_of_a_round_grow_by_one_for_each_row(
    repository: TrackedRepository, redis: Redis
) -> None:
    """Each row needs its claim; tracking and tokens are read once for all rows."""
    counts = []
    for number in (1, 11):
        for _ in range(number):
            add(repository, sync_status="failed")
        with CaptureQueriesContext(connection) as queries:
            assert requeue_due()["requeued"] == number
        counts.append(len(queries))

    assert counts[1] - counts[0] == 10


def test_round_ends_when_the_bulk_queue_is_full_and_the_next_goes_on(
    repository: TrackedRepository, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that people ask for, and the clock's own jobs, must not wait behind more rows."""
    monkeypatch.setattr(queueing, "WAITING_FOR_EACH_WORKER", 2)
    for status in ("failed", "failed", "partial"):
        add(repository, sync_status=status)

    first = requeue_due()["requeued"]
    second = requeue_due()["requeued"]
    redis.delete(Queue(BULK, connection=redis).key)

    assert (first, second, requeue_due()["requeued"]) == (2, 0, 1)


@pytest.mark.usefixtures("redis")
def test_round_ends_when_its_time_is_over_and_the_next_goes_on(
    repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody sees the end of a round that takes hours."""
    add(repository, sync_status="failed")
    with monkeypatch.context() as patch:
        patch.setattr(reconcile, "ROUND_LASTS", timedelta(seconds=-1))
        first = requeue_due()["requeued"]

    assert (first, requeue_due()["requeued"]) == (0, 1)


@pytest.mark.usefixtures("redis")
def test_round_that_lost_its_hold_leaves_the_rest_to_another(
    repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round was slow, and another one has begun."""
    add(repository, sync_status="failed")
    monkeypatch.setattr(reconcile, "hold_round", lambda *_, **__: nullcontext(lambda: False))

    assert requeue_due()["requeued"] == 0


def test_teams_take_turns(
    repository: TrackedRepository, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The few rows of one team must not wait for the thousands of another."""
    monkeypatch.setattr(queueing, "WAITING_FOR_EACH_WORKER", 3)
    for day in range(1, 5):
        add(repository, sync_status="failed", merged_at=MERGED_AT + timedelta(days=day))
    other = add(TrackedRepositoryFactory(), sync_status="failed")

    requeue_due()

    other.refresh_from_db()
    assert other.sync_status == "queued"


def test_two_rounds_never_run_at_once(repository: TrackedRepository, redis: Redis) -> None:
    """Two clocks may be running."""
    add(repository, sync_status="failed")

    with hold_round("requeue_due", lasts=timedelta(minutes=1)):
        beside = requeue_due()["requeued"]

    assert (beside, requeue_due()["requeued"]) == (0, 1)


@pytest.mark.usefixtures("redis")
def test_second_reconcile_queues_nothing_twice(repository: TrackedRepository) -> None:
    """Operators may run reconcile at any time."""
    add(repository)

    assert [requeue_due()["requeued"] for _ in range(2)] == [1, 0]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the command, and read the one JSON object that it printed on stdout."""
    call_command("reconcile", *arguments, "--json")
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


@pytest.mark.usefixtures("redis")
def test_dry_run_says_what_it_would_do_and_does_nothing(
    repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Operators look before they spend a token's budget."""
    row = add(repository)

    report = run(capsys, "--dry-run")

    row.refresh_from_db()
    assert (report["requeued"], row.sync_status) == (0, "pending")
    assert (report["would_requeue"], report["estimated_requests"]) == (1, 9)


@pytest.mark.usefixtures("redis")
def test_limit_takes_the_newest_merges(
    repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """People look at the newest merges first."""
    old, new = (add(repository, merged_at=MERGED_AT + timedelta(days=day)) for day in (0, 1))

    report = run(capsys, "--limit", "1")

    statuses = [PullRequest.objects.get(pk=row.pk).sync_status for row in (old, new)]
    assert statuses == ["pending", "queued"]
    assert report["skipped"] == {"over the limit": 1}


@pytest.mark.usefixtures("redis")
def test_inline_fetches_here_and_gives_old_rows_their_number(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows from before numbers were stored cannot be fetched without them."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    row = add(repository, github_pr_id=recording.pull["id"], github_pr_number=None)

    report = run(capsys, "--inline")

    row.refresh_from_db()
    assert (row.github_pr_number, row.sync_status) == (7, "complete")
    assert (report["requeued"], report["errors"]) == (1, [])


@pytest.mark.usefixtures("redis")
def test_errors_of_an_inline_fetch_are_reported_and_exit_1(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts check the exit status."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    add(repository, github_pr_id=recording.pull["id"], github_pr_number=7)
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/reviews", status=502))

    with pytest.raises(SystemExit, match="1"):
        call_command("reconcile", "--inline", "--json")

    assert "acme/anvil#7: reviews" in json.loads(capsys.readouterr().out)["errors"][0]


@pytest.mark.usefixtures("redis_down")
def test_redis_down_is_one_line_and_exit_1(repository: TrackedRepository) -> None:
    """The message says what to do."""
    add(repository, sync_status="queued", sync_job_id="its-job")

    with pytest.raises(CommandError, match="Redis does not answer"):
        call_command("reconcile")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--since", "yesterday"], "write 30d", id="since"),
        pytest.param(["--only", "lost"], "choose from failed", id="only"),
        pytest.param(["--limit", "0"], "1 or more", id="limit"),
        pytest.param(["--team", "nobody"], "no team 'nobody'", id="team"),
    ],
)
def test_wrong_usage_says_what_is_right(db: None, arguments: list[str], message: str) -> None:
    """A mistyped option must not repair other rows."""
    with pytest.raises(CommandError, match=message):
        call_command("reconcile", *arguments)


@pytest.mark.usefixtures("redis")
def test_table_shows_each_reason(
    repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """People read the table, programs the JSON."""
    add(repository, sync_status="failed")

    call_command("reconcile", "--dry-run")

    printed = capsys.readouterr().out
    assert all(reason in printed for reason in Reason)
    assert "Would queue 1, about 9 requests" in printed


def test_clock_lists_no_repository_on_the_queue_of_merges(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Finding a number may take hundreds of requests, and merges would wait."""
    row = add(repository, sync_status="pending", github_pr_number=None)

    result = requeue_due()

    assert (result["requeued"], find()) == (0, [(row, "missing")])
    assert sandbox.requests == []


def test_row_has_one_reason(repository: TrackedRepository) -> None:
    """A failed row without a number would be queued, and counted, twice."""
    row = add(repository, sync_status="failed", github_pr_number=None)

    assert find() == [(row, "failed")]


def test_row_that_github_does_not_list_is_looked_for_again_in_a_day(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """Each search lists the whole repository, and the clock runs every minute."""
    sandbox.world.add(make_recording(REPOSITORY, 7))
    add(repository, sync_status="pending", github_pr_number=None)

    first, second = requeue_nameless(), requeue_nameless()

    row = PullRequest.objects.get()
    assert ("lists no pull request" in first["errors"][0], second["errors"]) == (True, [])
    assert (row.sync_status, "lists no pull request" in row.sync_error) == ("failed", True)


def test_number_is_found_for_the_row_that_has_the_id(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis
) -> None:
    """Another row may hold the same number from a deleted repository."""
    recording = sandbox.world.add(make_recording(REPOSITORY, 7))
    values = {"github_pr_id": recording.pull["id"], "github_pr_number": None}
    row = add(repository, sync_status="failed", **values)
    older = add(repository, sync_status="complete", github_pr_number=7)

    requeue_nameless()

    row.refresh_from_db()
    older.refresh_from_db()
    assert (row.github_pr_number, older.github_pr_number) == (7, None)
    assert row.sync_status == "queued"


def test_inline_fetch_stops_where_the_reserve_begins(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A complete row must not become partial because the budget is short."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=50))
    rows = [add_due(sandbox, repository, number) for number in range(1, 6)]

    printed = run(capsys, "--inline")

    statuses = [PullRequest.objects.get(pk=row.pk).sync_status for row in rows]
    assert set(statuses) == {"complete"}
    assert printed["skipped"] == {"rate limit kept for merges": 1}
    assert {request.status for request in sandbox.requests} == {200}


def add_due(sandbox: SandboxServer, repository: TrackedRepository, number: int) -> PullRequest:
    """Make a complete row whose refetch is due."""
    recording = sandbox.world.add(make_recording(REPOSITORY, number))
    values = {"github_pr_id": recording.pull["id"], "github_pr_number": number}
    return add(repository, sync_status="complete", refetch_at=timezone.now(), **values)


@pytest.mark.usefixtures("redis")
def test_discovered_merges_are_fetched_at_once_in_bulk(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """One query fetches all of them; single jobs would need nine requests each."""
    for number in range(1, 11):
        sandbox.world.add(make_recording(REPOSITORY, number))

    printed = run(capsys, "--discover", "--since", "2026-01-01")

    assert (printed["discovered"], printed["fetched"], printed["requeued"]) == (10, 10, 0)
    assert printed["found"]["missing"] == 0
    assert PullRequest.objects.filter(sync_status="complete").count() == 10
    assert [request.path for request in sandbox.requests].count("/graphql") == 1


@pytest.mark.parametrize(
    ("limit", "points", "said"),
    [
        pytest.param([], 6, "Would fetch the 30 discovered, about 6 points", id="in bulk"),
        pytest.param(["--limit", "5"], 0, "Would queue 0", id="one by one"),
    ],
)
def test_dry_run_says_what_discovery_would_take_of_the_points(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    redis: Redis,
    capsys: pytest.CaptureFixture[str],
    limit: list[str],
    points: int,
    said: str,
) -> None:
    """GraphQL's points are a budget of their own, and may be short."""
    for number in range(1, 31):
        sandbox.world.add(make_recording(REPOSITORY, number))
    arguments = ["--discover", "--since", "2026-01-01", "--dry-run", *limit]

    printed = run(capsys, *arguments)
    call_command("reconcile", *arguments)

    assert (printed["discovered"], printed["estimated_points"]) == (30, points)
    assert said in capsys.readouterr().out


@pytest.mark.usefixtures("redis")
def test_people_read_how_many_of_the_discovered_were_fetched(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """“Queued 0” alone would read as if nothing had been done."""
    sandbox.world.add(make_recording(REPOSITORY, 1))

    call_command("reconcile", "--discover", "--since", "2026-01-01")

    assert "Discovered 1 that no webhook reported; fetched 1." in capsys.readouterr().out


def test_discovered_merges_are_queued_where_bulk_does_not_work(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    redis: Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Old Enterprise servers have another schema."""
    sandbox.world.add(make_recording(REPOSITORY, 1))
    unknown = {
        "errors": [{"message": "Field 'fullDatabaseId' doesn't exist on type 'PullRequest'"}]
    }
    sandbox.faults.add(Fault(FaultKind.WRONG_TYPE, path="/graphql", body=unknown))

    printed = run(capsys, "--discover", "--since", "2026-01-01")

    assert (printed["discovered"], printed["requeued"], printed["errors"]) == (1, 1, [])
    assert Queue(BULK, connection=redis).count == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="asks PostgreSQL for its plan")
@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.django_db
def test_scan_reads_no_rows_but_those_it_finds(redis: Redis, reason: Reason) -> None:
    """Otherwise the clock would read a million rows each minute to find none."""
    PullRequestFactory.create_batch(100, merged=True)
    PullRequest.objects.update(sync_status="complete")
    with CaptureQueriesContext(connection) as queries:
        find_dropped(Scope(only=[reason]))
    scan = next(query["sql"] for query in queries if "sync_status" in query["sql"])

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        # Of a small table the planner would rather read the whole.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {scan}")
        [[[explained]]] = cursor.fetchall()

    assert sum(count_rows_read(explained["Plan"])) == 0


def count_rows_read(node: dict[str, Any]) -> Iterator[int]:
    """Yield how many rows each part of a plan read, those that did not fit included."""
    yield node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    for child in node.get("Plans", ()):
        yield from count_rows_read(child)
