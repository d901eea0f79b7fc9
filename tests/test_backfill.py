"""`manage.py backfill` fetches whole repositories, many pull requests with each request."""

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import getitem
from typing import Any

import httpx2
import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone
from redis import Redis
from rq import Queue

from metrics_sync import store
from metrics_sync.exceptions import NameReusedError
from metrics_sync.github import GraphQL
from metrics_sync.heal.backfilling import Backfill
from metrics_sync.jobs import fetch_pr_complete_data
from metrics_sync.management.commands.backfill import Command
from metrics_sync.models import FetchRun, IntegrationCredential, PullRequest, TrackedRepository
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    make_recording,
    make_sample,
)
from metrics_sync.work.queueing import BULK
from tests.factories import PullRequestFactory, TeamFactory, TrackedRepositoryFactory
from tests.plans import avoid_whole_tables, count_rows_read
from tests.test_flow import read_rows, read_truth
from tests.test_tokens import HOUR, count_renewals, install

REPOSITORY = "acme/anvil"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
#: GitHub's messages about pull requests that it cannot return.
NOTHING = {"data": {"repository": {"nameWithOwner": REPOSITORY, "p0": None}}}

#: Changes the JSON of an answer that came over HTTP.
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def repository(sandbox: SandboxServer, redis: Redis, db: None) -> TrackedRepository:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    return TrackedRepositoryFactory(full_name=REPOSITORY, **token)


@pytest.fixture
def change_answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Change all further answers of GraphQL before the client reads them."""
    real = GraphQL._post

    def use(change: Change) -> None:
        async def post(self: GraphQL, **options: Any) -> httpx2.Response:
            answer: httpx2.Response = await real(self, **options)
            body = answer.json()
            change(body)
            return httpx2.Response(200, json=body, request=answer.request)

        monkeypatch.setattr(GraphQL, "_post", post)

    return use


def fill(sandbox: SandboxServer, *numbers: int, **sizes: int) -> None:
    for number in numbers:
        sandbox.world.add(make_recording(REPOSITORY, number, **sizes))


def rename_file(sandbox: SandboxServer, number: int) -> None:
    """Rename a file of a pull request: its earlier name is only in REST's list."""
    with sandbox.world.editing(REPOSITORY, number) as recording:
        recording.files[0] |= {"status": "renamed", "previous_filename": "old.py"}


def list_rest(sandbox: SandboxServer) -> list[str]:
    return [request.path for request in sandbox.requests if request.path != "/graphql"]


def backfill(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the command and return what it printed."""
    call_command("backfill", REPOSITORY, "--since", "2026-01-01", "--json", *arguments)
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def run(repository: TrackedRepository) -> Backfill:
    backfill = Backfill(repository)
    list(backfill.find_missing(since=LONG_AGO))
    list(backfill.fetch())
    return backfill


def list_queries(sandbox: SandboxServer) -> list[int]:
    return [request.status for request in sandbox.requests if request.path == "/graphql"]


def list_statuses() -> list[str]:
    return sorted(PullRequest.objects.values_list("sync_status", flat=True))


def test_every_merge_is_complete_and_true(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The history of a repository is fetched at a fraction of REST's cost."""
    fill(sandbox, *range(1, 31))
    sandbox.world.add(make_recording(REPOSITORY, 31, merged=False))

    printed = backfill(capsys)

    rows = PullRequest.objects.order_by("github_pr_number")
    assert (printed["found"], printed["fetched"], printed["queued"]) == (30, 30, 0)
    assert [row.github_pr_number for row in rows] == list(range(1, 31))
    for row in rows:
        assert read_rows(row) == read_truth(
            sandbox.world.recording(REPOSITORY, row.github_pr_number)
        )
        assert (row.sync_status, row.review_rounds) == ("complete", 1)
    assert list_queries(sandbox) == [200] * len(sandbox.requests) == [200] * 3


def test_dry_run_says_the_cost_and_writes_nothing(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator decides by these numbers, so they must be those that GitHub charges."""
    fill(sandbox, *range(1, 31))
    rename_file(sandbox, 30)

    said = backfill(capsys, "--dry-run")
    count_then = PullRequest.objects.count()
    requests_then = list_rest(sandbox)
    done = backfill(capsys)

    assert (said["would_fetch"], said["points_used"], count_then) == (30, 6, 0)
    assert (said["tried"], said["tried_whole"], said["estimated_requests"]) == (25, 24, 1)
    assert done["points_used"] == 1 + said["estimated_points"]
    assert len(list_rest(sandbox)) - len(requests_then) == 1


def test_dry_run_promises_nothing_that_fails(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Listing alone does not show whether the queries that follow will work."""
    fill(sandbox, 1, 2)
    sandbox.world.graphql_lacks = {"Commit.checkSuites"}

    said = backfill(capsys, "--dry-run")

    assert (said["tried_whole"], said["estimated_requests"]) == (0, 2)
    assert "check_runs" in said["notes"][0]


def test_what_is_complete_is_not_fetched_again(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command continues where it was stopped; listing costs a hundredth of a point for each
    pull request.
    """
    fill(sandbox, *range(1, 31))
    backfill(capsys)
    fill(sandbox, 31)

    printed = backfill(capsys)

    assert (printed["complete"], printed["fetched"], printed["points_used"]) == (30, 1, 2)
    assert FetchRun.objects.count() == 31


def test_only_what_merged_since_then_is_fetched(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pull request that was opened or changed since then need not have merged since then."""
    fill(sandbox, 1, 2, 3)
    times = {
        1: {"created_at": "2020-01-01T00:00:00Z", "merged_at": "2026-03-02T00:00:00Z"},
        2: {"merged_at": "2025-12-31T23:59:59Z", "updated_at": "2026-03-09T00:00:00Z"},
        3: {"merged_at": "2025-12-31T23:59:59Z", "updated_at": "2025-12-31T23:59:59Z"},
    }
    for number, changes in times.items():
        with sandbox.world.editing(REPOSITORY, number) as recording:
            recording.pull |= changes

    printed = backfill(capsys)

    assert printed["found"] == 1
    assert PullRequest.objects.get().github_pr_number == 1


def test_longer_lists_are_paged_through(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """For large pull requests, REST would take one request for each hundred items of every list."""
    fill(sandbox, 1, commits=220, files=350, issue_comments=101, review_comments=60, reviews=130)
    fill(sandbox, 2)

    printed = backfill(capsys)

    # The list, the two, and the pages: five further ones at most, all lists together.
    assert (printed["fetched"], list_queries(sandbox), list_rest(sandbox)) == (2, [200] * 7, [])
    for row in PullRequest.objects.all():
        assert read_rows(row) == read_truth(
            sandbox.world.recording(REPOSITORY, row.github_pr_number)
        )


def test_page_that_does_not_come_leaves_its_list_to_rest(
    sandbox: SandboxServer, repository: TrackedRepository, change_answers: Callable[[Change], None]
) -> None:
    """The pages before it need not be fetched again."""
    fill(sandbox, 1, files=120, commits=101)

    def cut(body: dict[str, Any]) -> None:
        for part in body["data"]["repository"].values():
            if isinstance(part, dict) and "files" in part and "title" not in part:
                part["files"] |= {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": "x"}}

    change_answers(cut)

    assert run(repository).tally.fetched == 1
    assert [path.endswith("/pulls/1/files") for path in list_rest(sandbox)] == [True, True]


def test_list_that_only_rest_has_is_fetched_at_once(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job would also fetch the pull request itself."""
    fill(sandbox, 1, 2)
    rename_file(sandbox, 1)

    printed = backfill(capsys)

    [run] = FetchRun.objects.filter(pull_request__github_pr_number=1)
    assert (printed["fetched"], printed["queued"], run.requests_made) == (2, 0, 1)
    assert list_rest(sandbox) == [f"/repos/{REPOSITORY}/pulls/1/files"]


@pytest.mark.parametrize(
    ("stale", "queued"),
    [pytest.param(0, 0, id="as GraphQL counts"), pytest.param(1, 1, id="one less")],
)
def test_reviews_of_rest_are_proven_by_the_total_of_graphql(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    capsys: pytest.CaptureFixture[str],
    stale: int,
    queued: int,
) -> None:
    """REST has no counter of reviews, and the timeline that names them is not fetched here."""
    fill(sandbox, 1)
    with sandbox.world.editing(REPOSITORY, 1) as recording:
        several = {"login": "copilot-reviewer[bot]", "type": "Bot"}
        recording.reviews[0]["user"] = {**recording.reviews[0]["user"], **several}
    if stale:
        sandbox.faults.add(Fault(FaultKind.STALE, path="/reviews", items=stale, times=1))

    printed = backfill(capsys)

    entry = PullRequest.objects.get().receipt["reviews"]
    result = "GitHub states 2 and lists 1" if stale else "verified"
    assert list_rest(sandbox) == [f"/repos/{REPOSITORY}/pulls/1/reviews"]
    assert (printed["fetched"], printed["queued"]) == (1 - queued, queued)
    assert (result in entry["result"], entry.get("witness")) == (True, None if stale else "total")


def test_list_that_nobody_gives_is_left_to_the_queue(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    redis: Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The fetched lists stay, and REST is asked only for the missing ones."""
    fill(sandbox, 1, 2)
    rename_file(sandbox, 1)
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/files", status=500, times=2))

    printed = backfill(capsys)
    row = PullRequest.objects.get(github_pr_number=1)
    [job] = Queue(BULK, connection=redis).jobs
    result = fetch_pr_complete_data(row.pk)

    row.refresh_from_db()
    assert (printed["fetched"], printed["queued"], job.args) == (1, 1, (row.pk,))
    # The pull request and its files.
    assert (row.sync_status, result["requests_made"]) == ("complete", 2)
    assert read_rows(row) == read_truth(sandbox.world.recording(REPOSITORY, 1))


@pytest.mark.parametrize("without_totals", [True, False])
def test_silently_empty_lists_are_asked_for_again(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    capsys: pytest.CaptureFixture[str],
    without_totals: bool,
) -> None:
    """GitHub answers heavy queries with empty lists, and a smaller query may succeed."""
    fill(sandbox, *range(1, 8))
    heavy = Fault(FaultKind.EMPTY_LISTS, path="/graphql", times=2, without_totals=without_totals)
    sandbox.faults.add(heavy)

    printed = backfill(capsys)

    assert (heavy.inflicted, printed["fetched"], printed["queued"]) == (2, 7, 0)
    for row in PullRequest.objects.all():
        assert read_rows(row) == read_truth(
            sandbox.world.recording(REPOSITORY, row.github_pr_number)
        )


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": FaultKind.EMPTY_LISTS}, id="empty lists"),
        pytest.param({"kind": FaultKind.EMPTY_LISTS, "without_totals": True}, id="and totals"),
        pytest.param({"kind": FaultKind.EMPTY_LISTS, "items": 1}, id="short lists"),
        pytest.param({"kind": FaultKind.STATUS, "status": 502}, id="too heavy"),
        pytest.param({"kind": FaultKind.WRONG_TYPE, "body": NOTHING}, id="nothing in it"),
    ],
)
def test_what_graphql_never_brings_is_left_to_the_queue_whole(
    sandbox: SandboxServer, repository: TrackedRepository, redis: Redis, fault: dict[str, Any]
) -> None:
    """Counts decide, not the absence of errors; a doubtful list is not stored."""
    fill(sandbox, 1, 2)
    backfill = Backfill(repository)
    assert list(backfill.find_missing(since=LONG_AGO)) == [2]
    sandbox.faults.add(Fault(path="/graphql", **fault))

    assert list(backfill.fetch()) == [2]

    assert (backfill.tally.queued, list_statuses()) == (2, ["queued", "queued"])
    assert FetchRun.objects.count() == 0
    assert Queue(BULK, connection=redis).count == 2


@pytest.mark.parametrize(
    ("minutes_silent", "status", "busy"),
    [
        pytest.param(1, "running", 1, id="at work"),
        pytest.param(11, "complete", 0, id="killed"),
    ],
)
def test_row_that_a_job_is_at_work_on_is_left_alone(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    capsys: pytest.CaptureFixture[str],
    minutes_silent: int,
    status: str,
    busy: int,
) -> None:
    """Backfill and job never both write; a row of a killed job is fetched at once."""
    fill(sandbox, 1)
    pull = sandbox.world.recording(REPOSITORY, 1).pull
    row = PullRequestFactory(
        team=repository.team, github_repo=REPOSITORY, github_pr_id=pull["id"], github_pr_number=1
    )
    began_at = timezone.now() - timedelta(minutes=minutes_silent)
    PullRequest.objects.update(state="merged", sync_status="running", fetch_started_at=began_at)

    printed = backfill(capsys)

    row.refresh_from_db()
    assert (row.sync_status, printed["busy"]) == (status, busy)


def test_row_that_a_job_completed_meanwhile_keeps_what_it_has(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer to an earlier request may be older than what the job stored."""
    fill(sandbox, *range(1, 27))
    backfill = Backfill(repository)
    list(backfill.find_missing(since=LONG_AGO))
    steps = backfill.fetch()
    next(steps)
    *_, last = backfill.missing
    assert last.item
    store.save_missed_merges(repository.team, [last.item])
    row = PullRequest.objects.get(github_pr_id=last.github_pr_id)
    fetch_pr_complete_data(row.pk)

    assert list(steps) == [1]

    assert (backfill.tally.fetched, backfill.tally.complete) == (25, 1)
    assert row.fetch_runs.count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="asks PostgreSQL what it read")
def test_statistics_know_a_team_soon_after_its_first_pull_requests_came(
    sandbox: SandboxServer, repository: TrackedRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each delivery would read all rows of the team, until autovacuum comes."""
    monkeypatch.setattr("metrics_sync.heal.backfilling.FIRST_LOOK", 25)
    PullRequestFactory.create_batch(200, team=TeamFactory())
    store.refresh_statistics()
    avoid_whole_tables()
    fill(sandbox, *range(1, 51))

    missing = run(repository).missing

    before = count_rows_read()
    for wanted in missing:
        assert wanted.item
        store.save_pull_request(repository.team, wanted.item, repository=repository)
    assert (count_rows_read() - before) / len(missing) < 3


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is not asked")
@pytest.mark.django_db
def test_refused_look_at_the_statistics_is_said_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They only make queries faster; a backfill must not end for them."""

    def refuse(*_: Any) -> None:
        raise OperationalError("canceling statement due to statement timeout")

    with connection.execute_wrapper(refuse):
        store.refresh_statistics()

    assert "statement timeout" in caplog.text


def test_list_that_rest_has_proven_stays_proven(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """GraphQL never brings these files; asking REST again for them would bring nothing new."""
    fill(sandbox, 1)
    rename_file(sandbox, 1)
    pull = sandbox.world.recording(REPOSITORY, 1).pull
    row = PullRequestFactory(
        team=repository.team, github_repo=REPOSITORY, github_pr_id=pull["id"], github_pr_number=1
    )
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/issues/1/comments", status=500))
    fetch_pr_complete_data(row.pk)
    sandbox.faults.clear()
    asked_before = list_rest(sandbox)

    printed = backfill(capsys)

    row.refresh_from_db()
    assert (printed["fetched"], printed["queued"], row.sync_status) == (1, 0, "complete")
    assert [row.receipt["files"][key] for key in ("stored", "result")] == [5, "verified"]
    assert list_rest(sandbox) == asked_before


def test_timeline_that_is_short_is_all_that_is_left_to_rest(
    sandbox: SandboxServer, repository: TrackedRepository, change_answers: Callable[[Change], None]
) -> None:
    """GitHub counts events that it does not show, whatever the size of the query."""
    fill(sandbox, 1, 2)

    def shorten(body: dict[str, Any]) -> None:
        for name, pull in body["data"]["repository"].items():
            if name in {"p0", "p1"} and pull["number"] == 2:
                pull["timeline"]["totalCount"] += 1

    change_answers(shorten)

    assert run(repository).tally.fetched == 2
    assert list_rest(sandbox) == [f"/repos/{REPOSITORY}/issues/2/timeline"]


def test_requests_of_runs_are_those_of_rest(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """One query brings 25 pull requests, and must not be counted for each of them."""
    fill(sandbox, 1, 2)

    backfill(capsys)

    assert list(FetchRun.objects.values_list("requests_made", flat=True)) == [0, 0]


def test_renamed_repository_is_followed(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """GraphQL answers under the old name without saying so."""
    fill(sandbox, 1)
    sandbox.world.rename_repository(REPOSITORY, "acme/hammer")

    printed = backfill(capsys)

    repository.refresh_from_db()
    assert (printed["fetched"], repository.full_name) == (1, "acme/hammer")
    assert PullRequest.objects.get().github_repo == "acme/hammer"


def test_merges_of_a_repository_that_took_the_name_are_not_taken(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """GraphQL's id shows which repository has the name now."""
    fill(sandbox, 1)
    sandbox.world.rename_repository(REPOSITORY, "acme/anvil-old")
    sandbox.world.add_repository(REPOSITORY, repository_id=99)
    sandbox.world.add(make_recording(REPOSITORY, 2, repository_id=99))

    with pytest.raises(NameReusedError):
        list(Backfill(repository).find_missing(since=LONG_AGO))

    repository.refresh_from_db()
    assert (PullRequest.objects.count(), repository.doubted_at is not None) == (0, True)


def test_used_up_points_are_waited_for_and_the_reserve_is_kept(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """GitHub bans tokens that go on sending queries; and REST's requests are another budget."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=15, window_seconds=2))
    fill(sandbox, *range(1, 76))

    printed = backfill(capsys)

    repository.integration.credential.refresh_from_db()
    # 12 of 15 points are enough for the list and two queries of 5.
    assert (printed["fetched"], printed["points_used"]) == (75, 16)
    assert set(list_queries(sandbox)) == {200}
    assert len(list_queries(sandbox)) == 4
    assert repository.integration.credential.rate_limit is None


def test_secondary_limit_makes_everybody_wait(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """The limit applies to the token, for REST and GraphQL; the next query is not sent either."""
    fill(sandbox, *range(1, 27))
    backfill = Backfill(repository, wait=Command()._wait)
    list(backfill.find_missing(since=LONG_AGO))
    sandbox.faults.add(Fault(FaultKind.SECONDARY_LIMIT, path="/graphql", retry_after=1, times=1))

    assert list(backfill.fetch()) == [25, 1]

    repository.integration.credential.refresh_from_db()
    assert list_queries(sandbox) == [200, 403, 200, 200]
    assert repository.integration.credential.is_careful


def test_wait_that_github_told_others_is_heeded(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """A worker may reach a limit of the same token while the backfill runs."""
    fill(sandbox, 1)
    waits: list[datetime] = []
    backfill = Backfill(repository, wait=waits.append)
    list(backfill.find_missing(since=LONG_AGO))
    until = timezone.now() + timedelta(minutes=1)
    IntegrationCredential.objects.update(wait_until=until)

    assert list(backfill.fetch()) == [1]
    assert waits == [until]


def test_what_has_come_is_stored_before_a_wait(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """If the command was killed during the wait, the data would have to be fetched again."""
    fill(sandbox, *range(1, 77))
    stored = []

    def wait(until: datetime) -> None:
        stored.append(FetchRun.objects.count())
        IntegrationCredential.objects.update(wait_until=None)

    backfill = Backfill(repository, wait=wait)
    list(backfill.find_missing(since=LONG_AGO))
    steps = backfill.fetch()
    next(steps)
    until = timezone.now() + timedelta(minutes=58)
    IntegrationCredential.objects.update(wait_until=until)

    assert list(steps) == [25, 25, 1]
    assert stored == [75]


def test_refused_token_is_noted_and_ends_the_command(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused token needs to be reported only once."""
    sandbox.world.revoke_token(DEFAULT_TOKEN)

    with pytest.raises(CommandError, match="does not accept the token"):
        backfill(capsys)

    repository.integration.credential.refresh_from_db()
    assert repository.integration.credential.revoked_at is not None
    with pytest.raises(CommandError, match="store a new one"):
        backfill(capsys)
    assert list_queries(sandbox) == [401]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["acme/nothing", "--since", "30d"], "No team tracks", id="not tracked"),
        pytest.param([REPOSITORY, "--since", "30d"], "Not Found", id="not at GitHub"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    repository: TrackedRepository, arguments: list[str], message: str
) -> None:
    """A traceback does not help an operator."""
    with pytest.raises(CommandError, match=message):
        call_command("backfill", *arguments)


def test_wrong_name_is_wrong_usage(repository: TrackedRepository) -> None:
    """No request is sent."""
    with pytest.raises(CommandError) as raised:
        call_command("backfill", "anvil", "--since", "30d")

    assert raised.value.returncode == 2


def test_redis_down_leaves_rows_that_reconcile_finds(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    redis_down: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The data are stored, and scripts see the failure by the exit code."""
    fill(sandbox, 1, 2)
    rename_file(sandbox, 1)
    rename_file(sandbox, 2)
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/files", status=500))

    with pytest.raises(SystemExit, match="1"):
        backfill(capsys)

    printed = json.loads(capsys.readouterr().out)
    assert (printed["left"], len(printed["errors"])) == (2, 1)
    assert "Redis does not answer" in printed["errors"][0]
    assert list_statuses() == ["pending", "pending"]


def test_what_cannot_be_stored_stands_on_the_row_and_stops_nothing(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bad row must not stop every backfill."""
    fill(sandbox, 1, 2)
    with sandbox.world.editing(REPOSITORY, 2) as recording:
        recording.issue_comments[0]["id"] = 2**63

    printed = backfill(capsys)

    run = FetchRun.objects.get(pull_request__github_pr_number=2)
    assert (printed["fetched"], printed["queued"]) == (1, 1)
    assert (run.status, run.receipt["reviews"]["result"]) == ("partial", "verified")
    assert run.errors[0].startswith("issue_comments: the database refuses it: ")


def test_people_read_what_was_done(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output for people differs from the JSON for programs."""
    fill(sandbox, 1, 2)

    call_command("backfill", REPOSITORY, "--since", "2026-01-01")

    printed = capsys.readouterr().out
    assert "2 pull requests of acme/anvil merged since 2026-01-01 00:00 UTC; 0 were" in printed
    assert "Fetched 2, queued 0 for REST" in printed
    assert "Used 2 points; 4998 of 5000 are left" in printed


HEAD = ["nodes", 0, "commit"]


@pytest.mark.parametrize(
    ("section", "path", "asked"),
    [
        pytest.param("check_runs", [*HEAD, "checkSuites"], "check-runs", id="check suites"),
        pytest.param("commit_statuses", [*HEAD, "status"], "status", id="statuses"),
        pytest.param("commits", [*HEAD, "author"], "commits", id="git author"),
        pytest.param("commits", [*HEAD, "committer"], "commits", id="git committer"),
        pytest.param("reviews", ["nodes", 1, "author"], "reviews", id="reviewer"),
        pytest.param("timeline", ["nodes", 0], "timeline", id="event"),
        pytest.param("files", [], "files", id="list"),
    ],
)
def test_refused_field_costs_its_own_list_only(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    change_answers: Callable[[Change], None],
    section: str,
    path: list[str | int],
    asked: str,
) -> None:
    """A null with an error does not mean an empty list, and says nothing about other lists."""
    fill(sandbox, 1, statuses=2)
    with sandbox.world.editing(REPOSITORY, 1) as recording:
        recording.timeline = make_sample("a draft that became ready, with legacy statuses").timeline

    def forbid(body: dict[str, Any]) -> None:
        if "p0" in body["data"]["repository"]:
            full = ["repository", "p0", section, *path]
            *parents, last = full
            reduce(getitem, parents, body["data"])[last] = None
            body["errors"] = [{"type": "FORBIDDEN", "message": "not accessible", "path": full}]

    change_answers(forbid)

    assert run(repository).tally.fetched == 1
    assert [path.rpartition("/")[2] for path in list_rest(sandbox)] == [asked]
    row = PullRequest.objects.get()
    assert read_rows(row) == read_truth(sandbox.world.recording(REPOSITORY, 1))
    assert {entry["result"] for entry in row.receipt.values()} == {"verified"}


def test_pull_request_that_is_refused_is_left_to_rest(
    sandbox: SandboxServer, repository: TrackedRepository, change_answers: Callable[[Change], None]
) -> None:
    """The other pull requests of the query are stored."""
    fill(sandbox, 1, 2)

    def forbid(body: dict[str, Any]) -> None:
        if pull := body["data"]["repository"].get("p0"):
            pull["author"] = None
            path = ["repository", "p0", "author", "login"]
            body["errors"] = [{"type": "FORBIDDEN", "message": "not accessible", "path": path}]

    change_answers(forbid)
    tally = run(repository).tally

    assert (tally.fetched, tally.queued) == (1, 1)


@pytest.mark.parametrize(
    ("lacks", "asked"),
    [
        pytest.param({"StatusContext.createdAt"}, ["status"] * 2, id="field"),
        pytest.param({"Commit.checkSuites"}, ["check-runs"] * 2, id="list"),
        pytest.param(
            {"CheckRun.completedAt", "ReviewDismissedEvent.review"},
            ["check-runs", "timeline"] * 2,
            id="fields of two lists",
        ),
    ],
)
def test_what_a_server_lacks_is_asked_of_rest_and_said_once(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    capsys: pytest.CaptureFixture[str],
    lacks: set[str],
    asked: list[str],
) -> None:
    """Enterprise servers are a year behind, and one unknown field fails a whole query."""
    fill(sandbox, *range(1, 27), statuses=1)
    sandbox.world.graphql_lacks = lacks

    printed = backfill(capsys)

    assert printed["fetched"] == 26
    assert len(printed["notes"]) == len(set(asked))
    # The list, the query that is refused, and one for each batch.
    assert list_queries(sandbox) == [200] * 4
    assert sorted(path.rpartition("/")[2] for path in list_rest(sandbox)) == sorted(asked * 13)


def test_server_that_lacks_what_all_needs_is_asked_by_rest(
    sandbox: SandboxServer, repository: TrackedRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    """Repositories on such a server have a history to fetch, too."""
    fill(sandbox, 1, 2)
    sandbox.world.graphql_lacks = {"PullRequest.fullDatabaseId"}

    printed = backfill(capsys)

    assert (printed["found"], printed["queued"], printed["errors"]) == (2, 2, [])
    assert len(printed["notes"]) == 2


SHAPES = [[], "text", {"totalCount": "many", "nodes": [7]}]


@pytest.mark.parametrize("shape", SHAPES, ids=map(str, range(len(SHAPES))))
@pytest.mark.parametrize(
    "path",
    [
        *("data", "data.rateLimit", "data.rateLimit.cost", "data.repository", "errors"),
        *("data.repository.nameWithOwner", "data.repository.p0", "data.repository.p0.commits"),
        *("data.repository.p0.check_runs.nodes", "data.repository.p0.reviews.nodes.0"),
        *("data.repository.p0.author", "data.repository.pullRequests.pageInfo"),
        "data.repository.pullRequests.nodes.0",
    ],
)
def test_answer_of_another_shape_is_a_passing_fault(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    change_answers: Callable[[Change], None],
    path: str,
    shape: Any,
) -> None:
    """A proxy or a fault may answer anything; such pull requests are fetched with REST."""
    fill(sandbox, 1)

    def damage(body: dict[str, Any]) -> None:
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        with suppress(KeyError):
            reduce(getitem, parents, body)[last] = shape

    change_answers(damage)
    run(repository)

    assert PullRequest.objects.get().sync_status in {"complete", "queued"}


def test_batch_that_keeps_coming_back_cut_costs_no_more_than_twice(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """Five times the points would be wasted, and REST has all the data."""
    fill(sandbox, *range(1, 26))
    backfill = Backfill(repository)
    list(backfill.find_missing(since=LONG_AGO))
    sandbox.faults.add(Fault(FaultKind.EMPTY_LISTS, path="/graphql"))

    list(backfill.fetch())

    assert (backfill.tally.queued, backfill.points.used) == (25, 1 + 2 * 5)


def test_app_that_is_not_told_is_left_to_rest(
    sandbox: SandboxServer, repository: TrackedRepository, change_answers: Callable[[Change], None]
) -> None:
    """In REST a check run always belongs to an app."""
    fill(sandbox, 1)

    def hide(body: dict[str, Any]) -> None:
        if pull := body["data"]["repository"].get("p0"):
            for suite in pull["check_runs"]["nodes"][0]["commit"]["checkSuites"]["nodes"]:
                suite["app"] = None

    change_answers(hide)

    assert run(repository).tally.fetched == 1
    assert len(list_rest(sandbox)) == 1


@pytest.mark.parametrize(
    ("path", "sizes"),
    [
        pytest.param(["repository", "p6"], [7, 1], id="pull request"),
        pytest.param(["repository", "p6", "files"], [7, 1], id="list"),
        pytest.param(None, [7, 5, 2], id="it does not say which"),
    ],
)
def test_part_that_was_too_heavy_is_asked_for_again(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    change_answers: Callable[[Change], None],
    path: list[str] | None,
    sizes: list[int],
) -> None:
    """A smaller query may succeed, at a fraction of REST's requests."""
    fill(sandbox, *range(1, 8))
    asked = []

    def give_up(body: dict[str, Any]) -> None:
        pulls = body["data"]["repository"]
        if "p0" in pulls:
            asked.append(len(pulls) - 1)
        if "p6" in pulls:
            *names, last = path or ["repository", "p6"]
            reduce(getitem, names, body["data"])[last] = None
            body["errors"] = [{"type": "RESOURCE_LIMITS_EXCEEDED", "message": "no", "path": path}]

    change_answers(give_up)

    assert run(repository).tally.fetched == 7
    assert asked == sizes


@pytest.mark.parametrize("nodes", [pytest.param([None], id="null"), pytest.param([], id="short")])
def test_list_with_gaps_is_not_believed_but_read_from_rest(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    change_answers: Callable[[Change], None],
    nodes: list[None],
) -> None:
    """Without a check, the missing items would never be fetched."""
    fill(sandbox, 1, 2)

    def cut(body: dict[str, Any]) -> None:
        if page := body["data"]["repository"].get("pullRequests"):
            page["nodes"], page["pageInfo"]["hasNextPage"] = nodes, not nodes

    change_answers(cut)
    backfill = run(repository)

    assert (backfill.tally.fetched, len(backfill.notes)) == (2, 1)


def test_list_that_ends_before_its_total_is_said(
    sandbox: SandboxServer,
    repository: TrackedRepository,
    change_answers: Callable[[Change], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The listed pull requests are fetched, and the operator learns that there are more."""
    fill(sandbox, 1, 2, 3)

    def cut(body: dict[str, Any]) -> None:
        if page := body["data"]["repository"].get("pullRequests"):
            page["nodes"].pop()

    change_answers(cut)

    with pytest.raises(SystemExit, match="1"):
        backfill(capsys)

    printed = json.loads(capsys.readouterr().out)
    assert (printed["fetched"], printed["errors"]) == (
        2,
        ["GitHub lists 2 of 3 merges; run this again"],
    )


def test_list_that_is_too_heavy_is_asked_for_in_smaller_pages(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """One heavy page of a hundred must not stop every backfill."""
    fill(sandbox, *range(1, 31))
    heavy = Fault(FaultKind.STATUS, path="/graphql", status=502, times=4)
    sandbox.faults.add(heavy)

    found = list(Backfill(repository).find_missing(since=LONG_AGO))

    # Pages of 100 and 50 failed, each asked for twice; one of 25 came, and then one of 100.
    assert (heavy.inflicted, found) == (4, [25, 30])


def test_number_of_another_pull_request_is_not_taken(
    sandbox: SandboxServer, repository: TrackedRepository
) -> None:
    """A new repository of the same name uses numbers again; the row records REST's answer."""
    fill(sandbox, 1)
    row = PullRequestFactory(
        team=repository.team, github_repo=REPOSITORY, github_pr_id=4242, github_pr_number=1
    )
    PullRequest.objects.update(state="merged", sync_status="pending")
    row.refresh_from_db()
    backfill = Backfill(repository)
    backfill.take([row])

    list(backfill.fetch())

    row.refresh_from_db()
    assert (backfill.tally.queued, row.sync_status, row.commits.count()) == (1, "queued", 0)


def test_secondary_limit_of_a_smaller_query_is_waited_for(
    sandbox: SandboxServer, repository: TrackedRepository, change_answers: Callable[[Change], None]
) -> None:
    """The whole batch is asked for again, because REST would use the same token."""
    fill(sandbox, *range(1, 8))
    backfill = Backfill(repository, wait=Command()._wait)
    list(backfill.find_missing(since=LONG_AGO))
    sandbox.faults.add(Fault(FaultKind.EMPTY_LISTS, path="/graphql", times=1))
    limit = Fault(FaultKind.SECONDARY_LIMIT, path="/graphql", retry_after=1, times=1)
    change_answers(lambda _: limit.inflicted or sandbox.faults.add(limit))

    assert list(backfill.fetch()) == [7]

    repository.integration.credential.refresh_from_db()
    assert list_queries(sandbox) == [200, 200, 403, 200]
    assert (backfill.tally.fetched, repository.integration.credential.is_careful) == (7, True)


def track_of_app(app: SandboxServer, **values: Any) -> TrackedRepository:
    credential = install(app, **values)
    fill(app, 1, 2)
    return TrackedRepositoryFactory(
        full_name=REPOSITORY,
        team=credential.team,
        integration__team=credential.team,
        integration__credential=credential,
    )


def test_refused_token_of_an_app_is_renewed(app: SandboxServer, redis: Redis, db: None) -> None:
    """Otherwise one backfill would stop the fetches of all merges."""
    repository = track_of_app(app, access_token="ghs_gone", expires_at=timezone.now() + HOUR)

    assert run(repository).tally.fetched == 2
    assert IntegrationCredential.objects.get().revoked_at is None
    assert count_renewals(app) == 1


def test_token_of_an_app_that_ends_during_a_wait_is_renewed(
    app: SandboxServer, redis: Redis, db: None
) -> None:
    """Such a token is valid for an hour, and a wait may last as long."""

    def wait(until: datetime) -> None:
        ended = timezone.now() - timedelta(minutes=1)
        IntegrationCredential.objects.update(wait_until=None, expires_at=ended)
        for value in [value for value in app.world.tokens if value.startswith("ghs_")]:
            app.world.revoke_token(value)

    backfill = Backfill(track_of_app(app), wait=wait)
    list(backfill.find_missing(since=LONG_AGO))
    IntegrationCredential.objects.update(wait_until=timezone.now() + timedelta(minutes=58))

    assert list(backfill.fetch()) == [2]
    assert IntegrationCredential.objects.get().revoked_at is None
