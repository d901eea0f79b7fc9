"""What `manage.py doctor` reports about a healthy installation and about broken ones."""

import json
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from metrics_sync.github import HookItem
from metrics_sync.ingest import REPOSITORY_EVENTS as EVENTS
from metrics_sync.models import (
    GitHubIntegration,
    IntegrationCredential,
    PullRequest,
    WebhookDelivery,
)
from metrics_sync.models.states import SyncStatus
from metrics_sync.operate.doctor import CHECKS, Finding, examine
from metrics_sync.operate.doctor.arriving import judge_hooks
from metrics_sync.operate.doctor.database import judge_clock
from metrics_sync.operate.doctor.identities import check_identities
from metrics_sync.operate.doctor.processes import (
    judge_concurrency,
    judge_queue,
    judge_round,
    judge_silent_ends,
    judge_waiting,
)
from metrics_sync.sandbox import (
    DEFAULT_TOKEN,
    Fault,
    FaultKind,
    SandboxServer,
    Token,
    make_recording,
)
from metrics_sync.work.counts import SilentEnds
from metrics_sync.work.inspecting import QueueState, count_clocks, inspect_queue
from metrics_sync.work.queueing import MERGES
from metrics_sync.work.rounds import Round, read_rounds
from tests.conftest import MANAGE, PATIENCE_SECONDS, Workers, wait_until
from tests.factories import (
    MERGED_AT,
    PullRequestFactory,
    TrackedRepositoryFactory,
    WebhookDeliveryFactory,
    move_to_github,
)
from tests.processes import run_manage, run_program

REPOSITORY = "acme/anvil"
WELL = {"SECRET_KEY": "s" * 49 + "Ab", "DEBUG": "1"}


class Doctor:
    """Runs the command as an operator does, in a process of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def look(self) -> "Diagnosis":
        done = run_manage(
            "doctor", "--json", environment=self.environment, timeout=PATIENCE_SECONDS
        )
        return Diagnosis(done.returncode, json.loads(done.stdout))


class Diagnosis:
    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        self.status, self.is_ok = status, answer["ok"]
        self.wrong = {f["text"]: f["advice"] for f in answer["findings"] if not f["ok"]}
        self.well = [f["text"] for f in answer["findings"] if f["ok"]]
        self.groups = [f["group"] for f in answer["findings"]]


@pytest.fixture
def integration(transactional_db: None, sandbox: SandboxServer) -> GitHubIntegration:
    """A connected repository whose webhook works."""
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    made: GitHubIntegration = TrackedRepositoryFactory(full_name=REPOSITORY, **token).integration
    sandbox.world.add(make_recording(REPOSITORY, 7))
    url = f"https://sync.example{made.get_webhook_path()}"
    sandbox.world.add_hook(url, secret=made.webhook_secret, full_name=REPOSITORY)
    WebhookDeliveryFactory(endpoint=str(made.uuid), integration=made, status="processed")
    return made


@pytest.fixture
def doctor(integration: GitHubIntegration, workers: Workers) -> Doctor:
    return Doctor({**workers.environment, **WELL})


@pytest.fixture
def processes(workers: Workers) -> Iterator[None]:
    """A worker and the clock."""
    workers.start()
    clock = psutil.Popen([*MANAGE, "rqcron", "metrics_sync.cron"], env=workers.environment)
    try:
        wait_until(lambda: inspect_queue(MERGES).has_scheduler)
        wait_until(lambda: count_clocks() == 1)
        wait_until(lambda: len(read_rounds()) == 2)
        yield
    finally:
        clock.terminate()
        clock.wait(PATIENCE_SECONDS)


@pytest.mark.long(seconds=5)
@pytest.mark.django_db(transaction=True)
def test_healthy_installation_is_well(doctor: Doctor, processes: None) -> None:
    """Operators do not read a report that always finds something."""
    diagnosis = doctor.look()

    assert diagnosis.wrong == {}
    assert (diagnosis.status, diagnosis.is_ok) == (0, True)
    assert list(dict.fromkeys(diagnosis.groups)) == [*CHECKS, "clock"]
    assert f"{REPOSITORY}: the webhook is active" in diagnosis.well
    assert "no row waits for a worker" in diagnosis.well
    assert "jobs of the last 24 hours that ended without reporting an error: 0" in diagnosis.well
    assert any("accepted, 49" in text for text in diagnosis.well)


@pytest.mark.django_db(transaction=True)
def test_redis_that_is_down_does_not_hide_the_rest(doctor: Doctor) -> None:
    """The operator wants to know all other problems at once."""
    doctor.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"

    diagnosis = doctor.look()

    assert diagnosis.status == 1
    assert "Start Redis, or correct REDIS_URL." in diagnosis.wrong.values()
    assert "all applied" in diagnosis.well
    assert any("accepted" in text for text in diagnosis.well)


@pytest.mark.django_db(transaction=True)
def test_database_that_is_down_does_not_hide_the_rest(doctor: Doctor) -> None:
    """Operators run doctor when the web server answers 503."""
    doctor.environment["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/nothing"

    diagnosis = doctor.look()

    assert diagnosis.status == 1
    assert "Start the database, or correct DATABASE_URL." in diagnosis.wrong.values()
    assert "answers" in diagnosis.well


@pytest.mark.long(seconds=4)
@pytest.mark.django_db(transaction=True)
def test_processes_that_do_not_run_are_named(doctor: Doctor) -> None:
    """Without workers and clock nothing is fetched, and no page shows an error."""
    wrong = doctor.look().wrong

    assert wrong["workers on pr-data: 0"] == "Start `worker` of the Procfile."
    assert wrong["no clock runs"] == "Start `clock` of the Procfile, once."
    assert "requeue_due: no round was completed yet" in wrong
    assert len([text for text in wrong if text.startswith("no worker brings back jobs")]) == 2


@pytest.mark.django_db(transaction=True)
def test_token_that_github_refuses_is_named(
    doctor: Doctor, integration: GitHubIntegration, sandbox: SandboxServer
) -> None:
    """Nobody remembers the date on which a token expires."""
    sandbox.world.revoke_token(DEFAULT_TOKEN)

    wrong = doctor.look().wrong

    [text] = [text for text in wrong if "does not accept the token" in text]
    assert wrong[text] == "Store a new token with `manage.py connect`."
    assert str(integration.credential) in text


@pytest.mark.django_db(transaction=True)
def test_secret_of_another_key_is_named(doctor: Doctor) -> None:
    """This happens when a backup is restored without its keys."""
    key = "TOKEN_ENCRYPTION_KEYS"
    doctor.environment[key] = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA="

    wrong = doctor.look().wrong

    assert any("cannot be decrypted" in text and key in wrong[text] for text in wrong)


@pytest.mark.long(seconds=6)
@pytest.mark.django_db(transaction=True)
def test_migrations_that_were_not_run_are_named(doctor: Doctor) -> None:
    """With new code and old tables every fetch fails."""
    call_command("migrate", "metrics_sync", "0001", verbosity=0)
    try:
        wrong = doctor.look().wrong
    finally:
        call_command("migrate", verbosity=0)

    [text] = [text for text in wrong if text.startswith("not applied: metrics_sync 0002")]
    assert wrong[text] == "Run `manage.py migrate`."


def examine_here() -> dict[str, str]:
    """Return the problems, each with its advice."""
    return {finding.text: finding.advice for finding in examine() if not finding.is_ok}


@pytest.mark.django_db(transaction=True)
def test_missing_permission_is_named(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """The operator can grant the permission, and nothing else shows that it is missing."""
    fault = Fault(FaultKind.PERMISSION, path="/check-runs", permissions="checks=read")
    sandbox.faults.add(fault)

    [text] = [text for text in examine_here() if "the token needs: checks=read" in text]

    assert text.startswith(f"{REPOSITORY}: check runs are not read")


@pytest.mark.django_db(transaction=True)
def test_check_runs_that_no_fine_grained_token_reads_are_no_fault_of_the_operator(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """GitHub offers no such permission, so doctor would ask for it for ever."""
    sandbox.world.add_token(Token("github_pat_mine"))
    integration.credential.store_token("github_pat_mine")
    sandbox.faults.add(Fault(FaultKind.PERMISSION, path="/check-runs", permissions="checks=read"))

    found = [finding for finding in examine() if finding.group == "tokens"]

    assert any("no fine-grained token" in finding.text for finding in found)
    assert all(finding.is_ok for finding in found)


@pytest.mark.django_db(transaction=True)
def test_repository_that_the_token_cannot_see_is_named(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """A fine-grained token covers only the selected repositories."""
    sandbox.world.add_repository("acme/hammer", private=True)
    TrackedRepositoryFactory(
        full_name="acme/hammer", integration=integration, team=integration.team
    )
    sandbox.world.add_token(Token("narrow", repositories=frozenset({REPOSITORY})))
    integration.credential.store_token("narrow")

    found = examine()

    assert any(f.text.startswith("acme/hammer: not there") and f.advice for f in found)
    assert any(f.text.endswith("can read 1 of 2 repositories") for f in found)


@pytest.mark.django_db(transaction=True)
def test_token_with_too_much_power_is_named(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """Reading needs no permission to delete."""
    sandbox.world.add_token(Token("ghp_admin", scopes="read:org, repo, delete_repo"))
    integration.credential.store_token("ghp_admin")

    [text] = [text for text in examine_here() if "more than it needs" in text]
    assert text.endswith(": delete_repo, repo")


@pytest.mark.django_db(transaction=True)
def test_permission_to_redeliver_is_not_too_much(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """Our own page on permissions advises it."""
    sandbox.world.add_token(Token("ghp_hooks", scopes="public_repo, admin:repo_hook"))
    integration.credential.store_token("ghp_hooks")

    assert not any("more than it needs" in text for text in examine_here())


@pytest.mark.django_db(transaction=True)
def test_shared_webhook_is_a_webhook(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """Some installations have one webhook for all teams."""
    sandbox.world.hooks.clear()
    WebhookDelivery.objects.all().delete()
    url = "https://sync.example/webhooks/github/"
    hook = sandbox.world.add_hook(url, secret="x", full_name=REPOSITORY)

    found = [finding.text for finding in examine()]
    hook.url = "https://organisation.example/"
    WebhookDeliveryFactory(github_repo=REPOSITORY)
    later = [finding.text for finding in examine()]

    assert f"{REPOSITORY}: the webhook is active" in found
    assert f"{REPOSITORY}: deliveries come from another webhook" in later
    assert f"{integration}: the last delivery came 0 s ago" in later


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"kind": "app", "installation_id": 5, "account_id": 1}, "Correct GITHUB_APP_ID"),
        ({"kind": "app", "revoked_at": MERGED_AT}, "Install the App again"),
    ],
    ids=["app of no id", "app removed"],
)
def test_advice_fits_the_app(
    integration: GitHubIntegration, redis: Redis, changes: dict[str, Any], advice: str
) -> None:
    """A new token would not help a GitHub App."""
    IntegrationCredential.objects.update(**changes)

    assert any(said.startswith(advice) for said in examine_here().values())


@pytest.mark.django_db(transaction=True)
def test_address_that_no_token_is_sent_to_is_named(
    integration: GitHubIntegration, redis: Redis
) -> None:
    """It does not matter whether this machine reaches the address."""
    move_to_github(integration, "https://127.0.0.1/api/v3")

    assert any(said.startswith("`connect` again, with") for said in examine_here().values())


@pytest.mark.django_db(transaction=True)
def test_server_without_rate_limits_is_well(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """An Enterprise Server may have no rate limits, and answers 404."""
    sandbox.world.add_token(Token("unlimited", limit_per_window=None))
    integration.credential.store_token("unlimited")

    found = examine()

    assert any(f.text.endswith("accepted, no rate limit") for f in found)
    assert [f for f in found if f.group == "tokens" and not f.is_ok] == []


@pytest.mark.django_db(transaction=True)
def test_github_that_is_silent_is_given_up(
    integration: GitHubIntegration,
    redis: Redis,
    sandbox: SandboxServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An operator who runs doctor is in a hurry."""
    monkeypatch.setattr("metrics_sync.github.examine.PATIENCE_SECONDS", 0.5)
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/hooks", seconds=5))

    assert any("no answer within 0.5 s" in text for text in examine_here())


@pytest.mark.django_db(transaction=True)
def test_nothing_is_asked_without_a_budget(
    integration: GitHubIntegration, redis: Redis, sandbox: SandboxServer
) -> None:
    """GitHub bans tokens that go on sending requests."""
    until = timezone.now() + timedelta(hours=1)
    integration.credential.note_pause(until=until, is_secondary=False)

    wrong = examine_here()

    assert any("rate limit is used up until" in text for text in wrong)
    assert sandbox.requests == []


@pytest.mark.django_db(transaction=True)
def test_rows_and_deliveries_that_went_wrong_are_counted(
    integration: GitHubIntegration, redis: Redis
) -> None:
    """A worker may have been killed, and a payload unreadable."""
    PullRequestFactory(merged=True)
    PullRequest.objects.update(sync_status=SyncStatus.RUNNING, fetch_started_at=MERGED_AT)
    WebhookDeliveryFactory(status=WebhookDelivery.Status.FAILED)

    wrong = examine_here()

    assert "running without a sign of life for 4 minutes: 1" in wrong
    assert "deliveries of the last 24 hours that could not be read: 1" in wrong


@pytest.mark.django_db(transaction=True)
def test_rows_that_wait_for_hours_are_named(integration: GitHubIntegration, redis: Redis) -> None:
    """Each of them is a merge whose data are missing."""
    now = timezone.now()
    pending, queued = (
        PullRequest.objects.filter(pk=row.pk)
        for row in PullRequestFactory.create_batch(2, merged=True)
    )
    pending.update(sync_status=SyncStatus.PENDING, merged_at=now)
    queued.update(sync_status=SyncStatus.QUEUED, queued_at=now)
    assert not any("more than 2 hours" in text for text in examine_here())

    pending.update(merged_at=now - timedelta(hours=3))
    queued.update(queued_at=now - timedelta(hours=3))

    assert "pending or queued for more than 2 hours: 2" in examine_here()


@pytest.mark.django_db(transaction=True)
def test_many_failed_rows_are_reported(redis: Redis) -> None:
    """A few failures are an outage; many mean a token without a permission."""
    PullRequestFactory.create_batch(50, merged=True)
    PullRequest.objects.update(sync_status=SyncStatus.PARTIAL)
    assert not any("failed or partial" in text for text in examine_here())

    PullRequestFactory(merged=True)
    PullRequest.objects.update(sync_status=SyncStatus.PARTIAL)

    assert "failed or partial: 51; the rows say why" in examine_here()


@pytest.mark.django_db(transaction=True)
def test_weak_setting_is_reported(settings: Settings, redis: Redis) -> None:
    """`check` only warns, and nobody reads what a process prints at its start."""
    settings.SILENCED_SYSTEM_CHECKS = []
    settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET = "short"

    assert any(text.startswith("GITHUB_WEBHOOK_SECRET has fewer") for text in examine_here())


@pytest.mark.django_db(transaction=True)
def test_silenced_warning_is_not_reported(settings: Settings, redis: Redis) -> None:
    """The operator has seen the warning and has a reason."""
    settings.METRICS_SYNC_GITHUB_WEBHOOK_SECRET = "short"
    settings.SILENCED_SYSTEM_CHECKS = ["metrics_sync.W003"]

    assert not any(text.startswith("GITHUB_WEBHOOK_SECRET has") for text in examine_here())


@pytest.mark.django_db(transaction=True)
def test_wrong_setting_is_reported(settings: Settings, redis: Redis) -> None:
    """Operators who run doctor may not have run `check`."""
    settings.METRICS_SYNC_GITHUB_API_URL = "api.github.com"

    assert any(text.startswith("GITHUB_API_URL is 'api.github.com'") for text in examine_here())


def test_fault_of_a_check_is_a_finding_too() -> None:
    """A check that fails must be reported, and must not stop the others."""

    def fail() -> list[Finding]:
        raise ValueError("unexpected\nand more")

    [finding] = examine({"rows": fail})

    assert (finding.text, finding.is_ok) == ("ValueError: unexpected", False)


def test_check_that_hangs_is_given_up() -> None:
    """A database that accepts connections and never answers must not stop doctor."""
    never = threading.Event()

    def hang() -> list[Finding]:
        never.wait()
        return []

    def answer() -> list[Finding]:
        return [Finding("redis", "answers")]

    findings = examine({"database": hang, "redis": answer}, patience_seconds=0.2)
    never.set()

    assert [(f.group, f.text, f.is_ok) for f in findings] == [
        ("database", "no answer within 0.2 s", False),
        ("redis", "answers", True),
    ]


HANG = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
import django
django.setup()
from django.core.management import call_command
from metrics_sync.operate.doctor import examine
from metrics_sync.management.commands import doctor

def hang():
    with ThreadPoolExecutor() as pool:
        return list(pool.map(time.sleep, [300]))

doctor.examine = partial(examine, {"tokens": hang}, patience_seconds=0.2)
call_command("doctor", "--json")
"""


def test_command_ends_although_a_check_hangs(tmp_path: Path) -> None:
    """At exit Python waits for the threads of pools, such as those that resolve names."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "project.settings", **WELL}

    program = tmp_path / "hang.py"
    program.write_text(HANG)

    done = run_program(program, [], environment=environment, timeout=PATIENCE_SECONDS)

    assert done.returncode == 1, done.stderr
    assert "no answer within 0.2 s" in done.stdout


@pytest.mark.parametrize(("seconds", "is_ok"), [(0, True), (-30, True), (31, False), (-31, False)])
def test_clock_may_be_half_a_minute_off(*, seconds: int, is_ok: bool) -> None:
    """A clock that is ahead waits too long, and one that is behind asks too early."""
    moment = MERGED_AT + timedelta(seconds=seconds)

    assert judge_clock("GitHub", moment, now=MERGED_AT).is_ok is is_ok


@pytest.mark.parametrize(
    ("minutes", "is_ok"),
    [
        pytest.param(3, True, id="lately"),
        pytest.param(20, False, id="long ago"),
        pytest.param(None, False, id="never"),
    ],
)
def test_rounds_of_the_clock_come_to_their_end(minutes: int | None, is_ok: bool) -> None:
    """Once the clock ran, and the jobs that it queued ended before they began."""
    ended_at = None if minutes is None else MERGED_AT - timedelta(minutes=minutes)
    last = ended_at and Round(ended_at, {"requeued": 7})

    finding = judge_round("requeue_due", last, now=MERGED_AT)

    assert finding.is_ok is is_ok
    assert last is None or "7 requeued" in finding.text


@pytest.mark.parametrize(("count", "is_ok"), [(0, True), (2, True), (50, False)])
def test_jobs_that_end_silently_are_reported_with_the_reason(count: int, is_ok: bool) -> None:
    """The reason was in no log."""
    ends = (
        SilentEnds(count, "TypeError: trace()", MERGED_AT - timedelta(minutes=4)) if count else None
    )

    finding = judge_silent_ends(ends or SilentEnds(), now=MERGED_AT)

    assert finding.is_ok is is_ok
    assert ("4 min ago: TypeError: trace()" in finding.text) is bool(count)


@pytest.mark.parametrize(("minutes", "is_ok"), [(None, True), (9, True), (11, False)])
def test_row_that_waits_without_a_set_time_is_reported(minutes: int | None, is_ok: bool) -> None:
    """Its job is missing, or no worker takes it."""
    oldest = None if minutes is None else MERGED_AT - timedelta(minutes=minutes)

    assert judge_waiting(oldest, now=MERGED_AT).is_ok is is_ok


@pytest.mark.parametrize(
    ("minutes", "most", "is_ok"),
    [
        pytest.param(6, timedelta(minutes=5), False, id="merges waited too long"),
        pytest.param(4, timedelta(minutes=5), True, id="merges waited a little"),
        pytest.param(600, None, True, id="bulk work may wait"),
    ],
)
def test_only_merges_may_not_wait(*, minutes: int, most: timedelta | None, is_ok: bool) -> None:
    """A backfill may take long."""
    oldest_at: datetime = MERGED_AT - timedelta(minutes=minutes)
    state = QueueState("q", 3, oldest_at, workers=1, has_scheduler=True)

    assert judge_queue(state, now=MERGED_AT, most=most).is_ok is is_ok


def make_hook(**options: Any) -> HookItem:
    url = "https://sync.example/webhooks/github/7/"
    well = {"is_active": True, "events": EVENTS, "last_status": 202}
    return HookItem(**{"hook_id": 7, "url": url, **well, **options})


@pytest.mark.parametrize(
    ("hooks", "has_deliveries", "text"),
    [
        pytest.param(None, False, "", id="may not be read"),
        pytest.param([], True, "", id="of the organisation"),
        pytest.param([], False, "no webhook that leads here", id="missing"),
        pytest.param([make_hook()], True, "", id="well"),
        pytest.param([make_hook(events={"*"}, last_status=None)], False, "", id="all events"),
        pytest.param([make_hook(is_active=False)], True, "switched off", id="inactive"),
        pytest.param(
            [make_hook(events=EVENTS - {"pull_request"})],
            True,
            "lacks events: pull_request",
            id="event missing",
        ),
        pytest.param([make_hook(last_status=401)], True, "answered 401", id="refused"),
        pytest.param(
            [make_hook(last_status=0, last_message="failed to connect to host")],
            True,
            "answered not at all (failed to connect to host)",
            id="unreachable",
        ),
        pytest.param(
            [make_hook(url="https://old.example/webhooks/github/7/")],
            True,
            "leads to https://old.example, and BASE_URL is https://sync.example",
            id="moved",
        ),
        pytest.param(
            [make_hook(url="https://sync.example/webhooks/github/", is_active=False)],
            True,
            "switched off",
            id="shared and inactive",
        ),
    ],
)
def test_webhook_is_judged_by_what_github_has(
    hooks: list[HookItem] | None, settings: Settings, *, has_deliveries: bool, text: str
) -> None:
    """With a wrong webhook, every merge is late by up to an hour."""
    settings.METRICS_SYNC_BASE_URL = "https://sync.example"

    findings = judge_hooks(REPOSITORY, hooks, has_deliveries=has_deliveries)

    assert all(finding.is_ok == (text == "") for finding in findings)
    assert any(text in finding.text for finding in findings)


def test_address_of_a_webhook_is_not_compared_without_a_base_url(settings: Settings) -> None:
    """Only the operator knows under which names the service is reached."""
    settings.METRICS_SYNC_BASE_URL = ""

    [finding] = judge_hooks(REPOSITORY, [make_hook()], has_deliveries=True)

    assert finding.is_ok


def test_text_of_a_finding_is_shown_as_it_is(
    capsys: pytest.CaptureFixture[str], settings: Settings, redis: Redis, transactional_db: None
) -> None:
    """Square brackets of an error are no markup."""
    settings.METRICS_SYNC_GITHUB_API_URL = "[/]api"

    with pytest.raises(SystemExit) as exit_:
        call_command("doctor")

    assert exit_.value.code == 1
    assert "GITHUB_API_URL is '[/]api'" in capsys.readouterr().out


@pytest.mark.django_db
def test_repository_that_is_doubted_for_long_is_named() -> None:
    """It stays as it is until GitHub answers, so an operator must see the reason."""
    since = timezone.now() - timedelta(hours=2)
    TrackedRepositoryFactory(full_name="acme/anvil", doubted_at=since)
    TrackedRepositoryFactory(full_name="acme/hammer", doubted_at=timezone.now())

    [finding] = check_identities()

    assert ("acme/anvil" in finding.text, finding.is_ok) == (True, False)


@pytest.mark.parametrize(
    ("workers", "is_ok"),
    [pytest.param(10, True, id="as many as may be"), pytest.param(11, False, id="one more")],
)
def test_workers_together_ask_no_more_at_once_than_github_takes(workers: int, is_ok: bool) -> None:
    """GitHub counts the concurrent requests of a user or an installation over all processes."""
    finding = judge_concurrency(workers)

    assert finding.is_ok == is_ok
    assert f"{workers} workers" in finding.text
