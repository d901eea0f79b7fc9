"""The Procfile's processes heal faults by themselves: no test here runs a command of the service.

Each test starts `web`, `merges`, `worker` and `clock` as the Procfile says, causes a fault, and
reads the status of the rows at the end.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import timezone

from metrics_sync.models import GitHubIntegration, IntegrationCredential, PRComment, PullRequest
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
from tests.chat import open_chat
from tests.conftest import wait_until
from tests.factories import TrackedRepositoryFactory
from tests.procfile import Procfile
from tests.test_backfill import REPOSITORY as APP_REPOSITORY
from tests.test_backfill import track_of_app
from tests.test_flow import read_rows, read_truth

REPOSITORY = "acme/anvil"
PROCESSES = ("web", "merges", "worker", "clock")
#: The clock's five minutes become five seconds, and its hour one minute.
SPEEDUP = "60"


@pytest.fixture
def hook(transactional_db: None, sandbox: SandboxServer) -> GitHubIntegration:
    token = {"integration__credential__access_token": DEFAULT_TOKEN}
    github_repo_id = sandbox.world.add_repository(REPOSITORY).id
    repository = TrackedRepositoryFactory(
        full_name=REPOSITORY, github_repo_id=github_repo_id, **token
    )
    integration: GitHubIntegration = repository.integration
    return integration


@pytest.fixture
def service(
    environment: dict[str, str], sandbox: SandboxServer, hook: GitHubIntegration, tmp_path: Path
) -> Iterator[Procfile]:
    """The service with an empty database, a Redis of its own, and a clock that runs faster."""
    environment |= {"GITHUB_API_URL": sandbox.url, "CLOCK_SPEEDUP": SPEEDUP}
    with Procfile(environment, tmp_path) as service:
        yield service


def merge(
    sandbox: SandboxServer, number: int, *, repository: str = REPOSITORY, **sizes: int
) -> Recording:
    """Merge a pull request at the pretend GitHub, now."""
    recording = make_recording(repository, number, seed=number, **sizes)
    now = f"{timezone.now():%Y-%m-%dT%H:%M:%SZ}"
    recording.pull |= {"merged_at": now, "closed_at": now, "updated_at": now}
    return sandbox.world.add(recording)


def tell(service: Procfile, hook: GitHubIntegration, recording: Recording) -> int:
    """Post the merge's webhook as GitHub does; returns the status of the answer."""
    payload = build_pull_request_event(recording, "closed")
    secret = hook.webhook_secret
    path = hook.get_webhook_path()
    return service.post(path, event="pull_request", payload=payload, secret=secret).status


def read_statuses() -> dict[int | None, str]:
    return dict(PullRequest.objects.values_list("github_pr_number", "sync_status"))


def expect_complete(recordings: list[Recording]) -> None:
    """Wait until every row is complete, and compare its data with GitHub's."""
    numbers = [recording.number for recording in recordings]
    try:
        wait_until(lambda: read_statuses() == dict.fromkeys(numbers, "complete"))
    except AssertionError as error:
        left = PullRequest.objects.exclude(sync_status="complete").values_list(
            "github_pr_number", "sync_status", "sync_error", "retry_at", "sync_job_id"
        )
        raise AssertionError(f"{error}: {list(left)}") from error
    for recording in recordings:
        row = PullRequest.objects.get(github_pr_number=recording.number)
        assert read_rows(row) == read_truth(recording)


@pytest.mark.long(seconds=20)
def test_merges_while_redis_is_down_are_fetched_once_it_is_back(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """The clock, not a webhook, queues these merges, and each must get a job that runs."""
    service.start(*PROCESSES)
    service.stop_redis()
    recordings = [merge(sandbox, number) for number in (1, 2, 3)]

    statuses = {tell(service, hook, recording) for recording in recordings}
    while_down = set(read_statuses().values())
    service.start_redis()

    expect_complete(recordings)
    assert (statuses, while_down) == ({202}, {"pending"})


@pytest.mark.long(seconds=15)
def test_complete_pull_request_is_looked_at_again_and_is_complete_again(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """Comments of the day after the merge belong to it."""
    service.start(*PROCESSES)
    early = merge(sandbox, 1, issue_comments=2)
    tell(service, hook, early)
    expect_complete([early])

    late = merge(sandbox, 1, issue_comments=5)
    PullRequest.objects.update(refetch_at=timezone.now())  # a day has passed

    wait_until(lambda: PullRequest.objects.get().comments.filter(comment_type="issue").count() == 5)
    expect_complete([late])


@pytest.mark.long(seconds=15)
def test_merge_whose_webhook_was_lost_is_discovered(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """GitHub never repeats a lost delivery by itself."""
    recording = merge(sandbox, 1)

    service.start(*PROCESSES)

    expect_complete([recording])


@pytest.mark.long(seconds=80)
def test_merges_during_an_outage_of_github_are_complete_soon_after_it(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """One row has no data then, another all but its files; both are completed by themselves."""
    service.start(*PROCESSES)
    nothing, partial = merge(sandbox, 1), merge(sandbox, 2)
    sandbox.faults.add(Fault(FaultKind.STATUS, path=r"/pulls/1(/|$)", status=503))
    sandbox.faults.add(Fault(FaultKind.STATUS, path=r"/pulls/2/files", status=502))
    for recording in (nothing, partial):
        tell(service, hook, recording)
    wait_until(lambda: read_statuses() == {1: "queued", 2: "partial"})

    sandbox.faults.clear()

    expect_complete([nothing, partial])


@pytest.mark.long(seconds=80)
def test_merges_whose_worker_is_killed_are_complete_within_minutes(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """A killed worker leaves a row whose status is `running`, and a job that nobody runs."""
    service.start(*PROCESSES)
    recording = merge(sandbox, 1)
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/files", seconds=20, times=1))
    tell(service, hook, recording)
    wait_until(lambda: sandbox.faults.counts.get("slow") == 1)

    for name in ("merges", "worker"):
        service.kill(name)

    assert read_statuses() == {1: "running"}
    expect_complete([recording])


@pytest.mark.long(seconds=15)
def test_merge_is_complete_while_another_team_has_many_that_fail(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """A hundred and fifty failing merges must not hold all workers until the last has failed."""
    others = TrackedRepositoryFactory(
        full_name="vault/busy",
        github_repo_id=sandbox.world.add_repository("vault/busy").id,
        integration__credential__access_token=DEFAULT_TOKEN,
    ).integration
    sandbox.faults.add(Fault(FaultKind.SLOW, path="/repos/vault/busy/", seconds=5))
    sandbox.faults.add(Fault(FaultKind.STATUS, path="/repos/vault/busy/", status=502))
    service.start("web", "merges", "worker")
    for number in range(1, 16):
        tell(service, others, merge(sandbox, number, repository="vault/busy"))

    tell(service, hook, merge(sandbox, 77))

    rows = PullRequest.objects.filter(sync_status="complete", team=hook.team)
    wait_until(rows.exists)
    waiting = PullRequest.objects.filter(sync_status="pending", team=others.team)
    assert waiting.count() >= 5


@pytest.mark.long(seconds=15)
def test_pull_requests_of_an_app_are_fetched_again_in_bulk(
    app: SandboxServer, environment: dict[str, str], app_keys: tuple[str, str], tmp_path: Path
) -> None:
    """Once an App's token has changed, REST would cost as much as a first fetch for each row."""
    track_of_app(app)
    early = [merge(app, number, repository=APP_REPOSITORY) for number in (1, 2)]
    for recording in early:
        recording.pull["merged_at"] = recording.pull["created_at"]
    environment |= {"GITHUB_API_URL": app.url, "CLOCK_SPEEDUP": SPEEDUP}
    environment |= {"GITHUB_APP_ID": "29310", "GITHUB_APP_PRIVATE_KEY": app_keys[0]}
    with Procfile(environment, tmp_path) as service:
        service.start(*PROCESSES)
        expect_complete(early)
        before = len(app.requests)

        late = [
            merge(app, number, repository=APP_REPOSITORY, issue_comments=5) for number in (1, 2)
        ]
        PullRequest.objects.update(refetch_at=timezone.now())  # a day has passed

        wait_until(lambda: PRComment.objects.filter(comment_type="issue").count() == 10)
        expect_complete(late)
    paths = [request.path for request in app.requests[before:]]
    assert "/graphql" in paths
    assert f"/repos/{APP_REPOSITORY}/pulls/1" not in paths


@pytest.mark.long(seconds=60)
def test_merges_are_complete_long_before_the_reset_of_a_limit_that_is_too_small(
    service: Procfile, sandbox: SandboxServer, hook: GitHubIntegration
) -> None:
    """There are requests for eleven of a hundred; the others would wait for most of an hour."""
    sandbox.world.add_token(Token(DEFAULT_TOKEN, limit_per_window=100))
    service.start(*PROCESSES)

    recordings = [merge(sandbox, number) for number in range(1, 101)]
    for recording in recordings[::10]:
        recording.files[0] |= {"status": "renamed", "previous_filename": "old.py"}
    for recording in recordings:
        tell(service, hook, recording)

    expect_complete(recordings)
    assert {request.status for request in sandbox.requests} == {200}
    assert IntegrationCredential.objects.get().rate_limit_resets_at > timezone.now()


@pytest.mark.long(seconds=70)
def test_refused_token_is_reported_once_and_its_end_once(
    environment: dict[str, str], sandbox: SandboxServer, hook: GitHubIntegration, tmp_path: Path
) -> None:
    """Without a report, an expired token is noticed only by the merges that are missing."""
    sandbox.world.add_repository("acme/other")
    token = {"integration__credential__access_token": "refused"}
    other = TrackedRepositoryFactory(full_name="acme/other", **token)
    credential = other.integration.credential
    environment |= {"GITHUB_API_URL": sandbox.url, "CLOCK_SPEEDUP": SPEEDUP}

    with open_chat(200) as (url, texts):
        environment["NOTIFY_WEBHOOK_URL"] = url
        with Procfile(environment, tmp_path) as service:
            service.start(*PROCESSES)
            wait_until(lambda: count_lines(texts, "WRONG", credential) > 0)
            wait_for_rounds(service, 2)
            credential.store_token(DEFAULT_TOKEN)
            wait_until(lambda: count_lines(texts, "WELL AGAIN", credential) > 0)
            wait_for_rounds(service, 2)

    assert count_lines(texts, "WRONG", credential) == 1
    assert count_lines(texts, "WELL AGAIN", credential) == 1


def count_lines(texts: list[str], beginning: str, credential: IntegrationCredential) -> int:
    """Count the lines of all reports that begin with this text and are about a credential."""
    lines = [line for text in texts for line in text.splitlines() if line.startswith(beginning)]
    return sum(str(credential) in line for line in lines)


def wait_for_rounds(service: Procfile, count: int) -> None:
    """Wait until the clock has run doctor `count` more times."""
    before = service.read_log().count("Reported ")
    wait_until(lambda: service.read_log().count("Reported ") >= before + count)
